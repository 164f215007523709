"""What a service for live rooms looks like when it is written in an afternoon:
one asyncio loop, a reader for each pipe, ten frames to a batch, msgpack, publish.

    worker.py SERVER FD...

Each descriptor is a pipe of s16le samples, 16 kHz, mono. It does less than the
gateway's worker: no frames, time line, silence, retransmission or adapters.
"""

import asyncio
import sys
import time

import msgpack
import nats

BATCH = 6400


async def room(bus, number, fd):
    reader = asyncio.StreamReader()
    pipe = open(fd, "rb", buffering=0)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    subject, seq, pos = f"audio.live.bench-{number}.user-0", 0, 0
    while True:
        pcm = await reader.readexactly(BATCH)
        batch = {
            "v": 1, "epoch": 1, "seq": seq, "pos": pos, "time": time.time_ns() // 1000,
            "rate": 16000, "ch": 1, "n": 10, "user": "user-0", "pcm": pcm,
        }
        await bus.publish(subject, msgpack.packb(batch))
        seq, pos = seq + 1, pos + BATCH // 2


async def main():
    bus = await nats.connect(sys.argv[1])
    await asyncio.gather(*(room(bus, n, int(fd)) for n, fd in enumerate(sys.argv[2:])))


asyncio.run(main())
