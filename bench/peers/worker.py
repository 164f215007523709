"""What a service for live rooms looks like when it is written in an afternoon:
one asyncio loop, a reader for each pipe, ten frames to a batch, msgpack, publish.

    worker.py framed|raw SERVER FD...

Each descriptor is a pipe of an adapter: framed as in docs/sdk-pipe.md, or raw,
nothing but s16le samples, 16 kHz, mono, which is the least such a service can be
given to do. Both do less than the gateway's worker: there is no time line, no
silence, no retransmission, and nobody starts or watches the adapters.
"""

import asyncio
import struct
import sys
import time

import msgpack
import nats

HEADER = struct.Struct("<HBBHHIIq")
AUDIO = 9


async def framed(reader):
    """Samples of ten frames, and when the first was captured."""
    frames, first = [], 0
    while len(frames) < 10:
        _, _, kind, _, _, _, length, pts = HEADER.unpack(await reader.readexactly(HEADER.size))
        payload = await reader.readexactly(length)
        if kind == AUDIO:
            first = first if frames else pts
            frames.append(payload)
    return b"".join(frames), first


async def raw(reader):
    """The same where there is nothing but samples."""
    return await reader.readexactly(6400), time.time_ns() // 1000


async def room(bus, number, fd, batch):
    reader = asyncio.StreamReader()
    pipe = open(fd, "rb", buffering=0)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    subject, seq = f"audio.live.bench-{number}.user-0", 0
    while True:
        pcm, first = await batch(reader)
        message = {
            "v": 1, "epoch": 1, "seq": seq, "pos": seq * 3200, "time": first,
            "rate": 16000, "ch": 1, "n": 10, "user": "user-0", "pcm": pcm,
        }
        await bus.publish(subject, msgpack.packb(message))
        seq += 1


async def main(mode, server, *fds):
    bus = await nats.connect(server)
    batch = {"framed": framed, "raw": raw}[mode]
    await asyncio.gather(*(room(bus, n, int(fd), batch) for n, fd in enumerate(fds)))


asyncio.run(main(*sys.argv[1:]))
