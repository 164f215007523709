"""What a service for live rooms looks like when it is written in Python: one
asyncio loop, a reader for each pipe, ten frames to a batch, msgpack, publish.

    worker.py job|framed|raw SERVER FD...

Each descriptor is a pipe of an adapter, framed as in docs/sdk-pipe.md, or raw.

    job     what a consumer of docs/wire.md sees of a worker: frames placed by
            their timestamps, silence and stalls told apart, a checksum, the last
            ten seconds sent again to who asks, a batch at least every 200 ms,
            the clock of each room, a heartbeat. Nobody starts or watches the
            adapters, mixes, records, plays into a room or takes rooms over
    framed  batches alone, from the same frames
    raw     batches alone, of samples without a header: the least there is to do
"""

import asyncio
import collections
import json
import struct
import sys
import time

import msgpack
import nats
from crc32c import crc32c

HEADER = struct.Struct("<HBBHHIIq")
AUDIO = 9
SLOT, BATCH = 320, 10
SPOKEN, SILENCE, STALLED = 0, 1, 5
ZEROS = bytes(2 * SLOT)
KEPT_S, QUIET_S = 10.0, 0.2


async def open_pipe(fd):
    reader = asyncio.StreamReader()
    pipe = open(fd, "rb", buffering=0)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    return reader


async def frame(reader):
    """The next frame's kind, timestamp and payload."""
    _, _, kind, _, _, _, length, pts = HEADER.unpack(await reader.readexactly(HEADER.size))
    return kind, pts, await reader.readexactly(length)


# ---- batches alone ----


async def framed(reader):
    """Samples of ten frames, and when the first was captured."""
    frames, first = [], 0
    while len(frames) < BATCH:
        kind, pts, payload = await frame(reader)
        if kind == AUDIO:
            first = first if frames else pts
            frames.append(payload)
    return b"".join(frames), first


async def raw(reader):
    """The same where there is nothing but samples."""
    return await reader.readexactly(BATCH * 2 * SLOT), time.time_ns() // 1000


async def room(bus, number, fd, batch):
    reader = await open_pipe(fd)
    subject, seq = f"audio.live.bench-{number}.user-0", 0
    while True:
        pcm, first = await batch(reader)
        message = {
            "v": 1, "epoch": 1, "seq": seq, "pos": seq * BATCH * SLOT, "time": first,
            "rate": 16000, "ch": 1, "n": BATCH, "user": "user-0", "pcm": pcm,
        }
        await bus.publish(subject, msgpack.packb(message))
        seq += 1


# ---- the whole of what a consumer sees ----


class Track:
    def __init__(self, number):
        self.room, self.user = f"bench-{number}", "user-0"
        self.subject = f"audio.live.{self.room}.{self.user}"
        self.seq = self.pos = self.slots = 0
        self.runs, self.pcm = [], []
        self.flags, self.talks = 0, False
        self.ring = collections.deque()
        self.first = self.last = None

    def slot(self, state, pcm=None):
        if self.runs and self.runs[-1][0] == state:
            self.runs[-1][1] += 1
        else:
            self.runs.append([state, 1])
        if pcm is not None:
            self.pcm.append(pcm)
            if not self.talks:
                self.flags |= 1
        self.talks = pcm is not None
        self.slots += 1

    def audio(self, pts, pcm):
        """A frame, at the place that its timestamp names."""
        if self.first is None:
            self.first, self.last = pts, time.monotonic()
        at = (pts - self.first) * 16 // 1000
        missing = (at - self.pos - self.slots * SLOT + SLOT // 2) // SLOT
        for _ in range(missing):
            self.slot(STALLED)
        if pcm == ZEROS:
            self.slot(SILENCE)
        else:
            self.slot(SPOKEN, pcm)

    def batch(self, now):
        message = {
            "v": 1, "flags": self.flags, "epoch": 1, "seq": self.seq, "pos": self.pos,
            "time": self.first + self.pos * 1000 // 16,
            "rate": 16000, "ch": 1, "n": self.slots, "user": self.user,
        }
        if len(self.runs) > 1 or self.runs[0][0] != SPOKEN:
            message["runs"] = self.runs
        if self.pcm:
            pcm = b"".join(self.pcm)
            message["crc"] = crc32c(pcm)
            message["pcm"] = pcm
        payload = msgpack.packb(message)
        self.ring.append((now, self.seq, payload))
        while self.ring[0][0] < now - KEPT_S:
            self.ring.popleft()
        self.pos += self.slots * SLOT
        self.seq += 1
        self.last, self.slots, self.flags = now, 0, 0
        self.runs, self.pcm = [], []
        return payload


async def job(bus, fds):
    tracks = {track.room: track for track in map(Track, range(len(fds)))}

    async def listen(track, fd):
        reader = await open_pipe(fd)
        while True:
            kind, pts, payload = await frame(reader)
            if kind == AUDIO:
                track.audio(pts, payload)
                if track.slots >= BATCH:
                    await bus.publish(track.subject, track.batch(time.monotonic()))

    async def send_again(message):
        track = tracks.get(message.subject.split(".")[2])
        if track is None:
            return
        ask, missing = json.loads(message.data), []
        to = f"audio.resend.{track.room}.{track.user}.{ask['subscriber']}"
        kept = {seq: payload for _, seq, payload in track.ring}
        for first, count in ask["ranges"]:
            for seq in range(first, first + count):
                if seq in kept:
                    await bus.publish(to, kept[seq])
                else:
                    missing.append([seq, 1, "evicted"])
        answer = {"status": "partial" if missing else "ok", "epoch": 1, "missing": missing}
        await message.respond(json.dumps(answer).encode())

    async def beat():
        turn = 0
        while True:
            await asyncio.sleep(0.1)
            now = time.monotonic()
            for track in tracks.values():
                if track.last is not None and now > track.last + QUIET_S + 0.1:
                    while track.slots < BATCH:
                        track.slot(STALLED)
                    await bus.publish(track.subject, track.batch(now))
            if turn % 5 == 0:
                running = [
                    {"task": room, "room": room, "epoch": 1, "state": "running"}
                    for room in tracks
                ]
                sign = {"worker": "python", "seq": turn // 5, "sessions": running}
                await bus.publish("gateway.worker.python.heartbeat", json.dumps(sign).encode())
            for track in list(tracks.values())[turn % 50::50]:
                clock = {
                    "room": track.room, "epoch": 1, "pos": track.pos,
                    "time": time.time_ns() // 1000, "event": "clock",
                }
                await bus.publish(f"audio.event.{track.room}", json.dumps(clock).encode())
            turn += 1

    await bus.subscribe("audio.nack.>", cb=send_again)
    await asyncio.gather(beat(), *map(listen, tracks.values(), fds))


async def main(mode, server, *fds):
    bus = await nats.connect(server)
    fds = [int(fd) for fd in fds]
    if mode == "job":
        return await job(bus, fds)
    batch = {"framed": framed, "raw": raw}[mode]
    await asyncio.gather(*(room(bus, n, fd, batch) for n, fd in enumerate(fds)))


asyncio.run(main(*sys.argv[1:]))
