#!/usr/bin/env python3
"""A consumer written from docs/wire.md alone, with nats-py and msgpack.

It hands in a room of index ramps, listens to it for so many seconds, and holds
every batch against the contract: no hole in the sequence, on the time line or in
the ramp. It asks for a sample of the batches again and expects each of them,
byte for byte but for flag 2, on its resend subject, and nothing but the result
on its reply inbox. What really is lost on the way it asks for as well.

Prints one line of JSON and exits 0 where all of that holds.
"""

import argparse
import asyncio
import json
import os
import sys
import time
import uuid
from collections import defaultdict

import msgpack
import nats

SLOT = 320  # samples of 20 ms at 16 kHz
RESENT, LAST, DISCONTINUITY = 2, 4, 8
RETRY_S, SILENT_S, GIVE_UP_S = 0.25, 0.5, 10.0
# Two turns of the ramp as s16le, so that a slot never runs over its end.
RAMP = b"".join((value % 65536).to_bytes(2, "little") for value in range(65536 + SLOT))


def crc32c_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


CRC32C = crc32c_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC32C[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


class Fault(Exception):
    """The contract does not hold."""


def require(holds, what):
    if not holds:
        raise Fault(what)


class Track:
    """One track: brings its batches into order and checks them."""

    def __init__(self, name, index):
        self.name, self.index = name, index
        self.epoch = None
        self.next = 0  # the next sequence number
        self.held = {}  # what came early
        self.end = None  # where the last batch ended
        self.start = None  # where sample 0 of the ramp stands
        self.audio = 0  # slots of audio
        self.closed = False
        self.heard = time.monotonic()

    def missing(self, now):
        """[first, count] of every hole before what is held; where the track has
        fallen silent without a last batch, that one may be what is missing."""
        ranges, at = [], self.next
        if self.next and not self.held and not self.closed and now - self.heard > SILENT_S:
            return [[self.next, 1]]
        for seq in sorted(self.held):
            if seq > at:
                ranges.append([at, seq - at])
            at = seq + 1
        return ranges

    def insert(self, batch):
        """Takes in a batch, and yields those that are in order now."""
        if self.epoch is None:
            self.epoch = batch["epoch"]
        require(batch["epoch"] == self.epoch, f"{self.name}: the epoch changed")
        self.heard = time.monotonic()
        if batch["seq"] < self.next or batch["seq"] in self.held:
            return
        self.held[batch["seq"]] = batch
        while self.next in self.held:
            ready = self.held.pop(self.next)
            self.next += 1
            yield ready

    def check(self, batch, ending):
        """Holds a batch in order against the contract."""
        where = f"{self.name} seq {batch['seq']}"
        require(batch["v"] == 1 and batch["rate"] == 16000 and batch["ch"] == 1, f"{where}: format")
        require(batch["user"] == self.name, f"{where}: user {batch['user']}")
        require(self.end in (None, batch["pos"]), f"{where}: pos {batch['pos']} after {self.end}")
        require(not batch.get("flags", 0) & DISCONTINUITY, f"{where}: a discontinuity")
        runs = batch.get("runs", [[0, batch["n"]]])
        require(sum(count for _, count in runs) == batch["n"] <= 50, f"{where}: n and runs")
        pcm, pos = batch.get("pcm", b""), batch["pos"]
        slots = sum(count for state, count in runs if state == 0)
        require(len(pcm) == slots * SLOT * 2, f"{where}: {len(pcm)} bytes for {slots} slots")
        if pcm:
            require(crc32c(pcm) == batch["crc"], f"{where}: crc")
        for state, count in runs:
            for _ in range(count):
                if state == 0:
                    self.slot(pcm[: SLOT * 2], pos, where)
                    pcm = pcm[SLOT * 2 :]
                else:
                    # Before its first sound a track is still coming up.
                    require(self.start is None or ending, f"{where}: a slot of state {state}")
                pos += SLOT
        self.end = pos
        self.closed = bool(batch.get("flags", 0) & LAST)

    def slot(self, pcm, pos, where):
        if self.start is None:
            self.start = pos
        value = (9973 * self.index + pos - self.start) % 65536
        require(pcm == RAMP[value * 2 : (value + SLOT) * 2], f"{where}: the ramp breaks at {pos}")
        self.audio += 1


class Consumer:
    """Everything this program knows."""

    def __init__(self, args):
        self.args = args
        self.room = args.room
        self.subscriber = uuid.uuid4().hex
        self.tracks = {f"user-{i}": Track(f"user-{i}", i) for i in range(args.participants)}
        self.sample = {}  # (track, seq) → the live payload of what was asked for on purpose
        self.back = defaultdict(list)  # (track, seq) → payloads sent again
        self.asked = {}  # reply subject → (track, ranges, whether on purpose)
        self.results = defaultdict(list)  # reply subject → answers
        self.due = {}  # (track, seq) → when its loss was seen and when to ask next
        self.batches = self.recovered = 0
        self.ending = False
        self.fault = None
        self.progress = asyncio.Event()

    async def run(self):
        self.nc = await nats.connect(self.args.url, max_reconnect_attempts=-1)
        self.inbox = f"_INBOX.{uuid.uuid4().hex}"
        for subject, callback in (
            (f"audio.live.{self.room}.*", self.on_batch),
            (f"audio.rec.{self.room}.*", self.on_batch),
            (f"audio.resend.{self.room}.*.{self.subscriber}", self.on_resend),
            (f"{self.inbox}.*", self.on_result),
        ):
            await self.nc.subscribe(subject, cb=self.guarded(callback))
        events = await self.nc.subscribe("gateway.task.event.*")
        await self.nc.flush()  # PING and PONG: the server has taken them in
        task = await self.submit()
        await self.until(lambda: all(t.audio >= self.args.seconds * 50 for t in self.tracks.values()),
                         self.args.seconds + 30, "audio of every track")
        await self.until(lambda: all(self.results[inbox] for inbox in self.asked), 10, "answers")
        await self.until(lambda: all(self.back[key] for key in self.sample), 10, "batches again")
        self.ending = True
        await self.request("gateway.task.cancel", {"task": task, "reason": "heard enough"})
        await self.ended(events, task)
        await self.until(lambda: all(t.closed for t in self.tracks.values()), 10, "last batches")
        await self.until(lambda: all(self.results[inbox] for inbox in self.asked), 10, "answers")
        self.judge()
        await self.nc.close()

    async def request(self, subject, message):
        answer = await self.nc.request(subject, json.dumps(message).encode(), timeout=5)
        error = (answer.headers or {}).get("Nats-Service-Error")
        require(error is None, f"{subject}: {error}")
        return json.loads(answer.data)

    async def submit(self):
        answer = await self.request("gateway.task.submit", {
            "room": self.room, "sdk": "sim",
            "params": {"participants": self.args.participants, "source": "ramp"},
        })
        require(answer["state"] == "pending" and not answer["duplicate"], f"submit: {answer}")
        return answer["task"]

    async def ended(self, events, task):
        while True:
            event = json.loads((await events.next_msg(timeout=15)).data)
            if event["task"] == task and event["state"] == "cancelled":
                return

    async def until(self, holds, within, what):
        deadline = time.monotonic() + within
        while not holds():
            await self.ask_for_losses()
            if self.fault:
                raise self.fault
            self.progress.clear()
            try:
                await asyncio.wait_for(self.progress.wait(), RETRY_S)
            except asyncio.TimeoutError:
                require(time.monotonic() < deadline, f"no {what} within {within} s")
        if self.fault:
            raise self.fault

    def guarded(self, callback):
        """nats-py logs what a callback raises and goes on; a fault must end it."""

        async def call(msg):
            try:
                await callback(msg)
            except Exception as error:  # also what a broken message raises
                self.fault = self.fault or (error if isinstance(error, Fault) else Fault(repr(error)))
            self.progress.set()

        return call

    def track(self, msg):
        name = msg.subject.split(".")[3]
        require(name in self.tracks, f"a track nobody has: {name}")
        return self.tracks[name]

    async def on_batch(self, msg):
        require(len(msg.data) <= 256 * 1024, "a payload beyond the limit")
        track, batch = self.track(msg), msgpack.unpackb(msg.data)
        self.batches += 1
        seq = batch["seq"]
        if self.args.sample and seq % self.args.sample == self.args.sample - 1 and not self.ending:
            self.sample[track.name, seq] = msg.data
            await self.nack(track, [[seq, 1]], on_purpose=True)
        await self.take(track, batch)

    async def take(self, track, batch):
        for ready in track.insert(batch):
            self.recovered += (track.name, ready["seq"]) in self.due
            self.due.pop((track.name, ready["seq"]), None)
            track.check(ready, self.ending)

    async def on_resend(self, msg):
        track, batch = self.track(msg), msgpack.unpackb(msg.data)
        require(batch["flags"] & RESENT, f"{track.name} seq {batch['seq']}: sent again without flag 2")
        self.back[track.name, batch["seq"]].append(msg.data)
        await self.take(track, batch)

    async def on_result(self, msg):
        self.results[msg.subject].append(json.loads(msg.data))

    async def ask_for_losses(self):
        now = time.monotonic()
        for track in self.tracks.values():
            for first, count in track.missing(now):
                for seq in range(first, first + count):
                    seen, ask = self.due.get((track.name, seq), (now, now))
                    require(now - seen < GIVE_UP_S, f"{track.name} seq {seq} is lost for good")
                    if now >= ask:
                        ask = now + RETRY_S
                        await self.nack(track, [[seq, 1]])
                    self.due[track.name, seq] = seen, ask

    async def nack(self, track, ranges, on_purpose=False):
        inbox = f"{self.inbox}.{len(self.asked)}"
        self.asked[inbox] = track.name, ranges, on_purpose
        request = {"subscriber": self.subscriber, "epoch": self.epoch(track), "ranges": ranges}
        await self.nc.publish(f"audio.nack.{self.room}.{track.name}",
                              json.dumps(request).encode(), reply=inbox)

    def epoch(self, track):
        known = (t.epoch for t in [track, *self.tracks.values()] if t.epoch is not None)
        return next(known, 0)

    def judge(self):
        for (name, seq), live in self.sample.items():
            again = self.back[name, seq]
            require(len(again) == 1, f"{name} seq {seq}: sent again {len(again)} times")
            before, after = msgpack.unpackb(live), msgpack.unpackb(again[0])
            before["flags"] |= RESENT
            require(before == after and len(live) == len(again[0]), f"{name} seq {seq} has changed")
            require(sum(a != b for a, b in zip(live, again[0])) == 1, f"{name} seq {seq}: bytes")
        require(set(self.results) <= set(self.asked), "an answer nobody asked for")
        for inbox, (name, ranges, on_purpose) in self.asked.items():
            answers = self.results[inbox]
            require(len(answers) == 1, f"{name} {ranges}: {len(answers)} answers")
            fine = answers[0]["status"] == "ok" or not on_purpose
            require(fine, f"{name} {ranges}: {answers[0]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default=os.environ.get("NATS_URL", "nats://127.0.0.1:4222"))
    parser.add_argument("--room", default="wire")
    parser.add_argument("--participants", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--sample", type=int, default=5, help="ask for every n-th batch again; 0: none")
    consumer = Consumer(parser.parse_args())
    try:
        asyncio.run(consumer.run())
    except Fault as fault:
        sys.exit(f"fault: {fault}")
    print(json.dumps({
        "tracks": len(consumer.tracks),
        "batches": consumer.batches,
        "slots": sum(track.audio for track in consumer.tracks.values()),
        "asked_again": len(consumer.sample),
        "came_again": sum(len(consumer.back[key]) for key in consumer.sample),
        "results": len(consumer.results),
        "lost_and_recovered": consumer.recovered,
    }))


main()
