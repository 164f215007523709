"""A client of audio-gateway for nats-py: hand in tasks, listen to rooms.

Written against docs/wire.md alone. A `Listener` brings the batches of a room
into order, asks again for what is missing and declares a gap where it does not
come. What becomes of the audio is the caller's matter.
"""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any, Self

import msgpack  # type: ignore[import-untyped]
import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

BATCH_MAX_BYTES, BATCH_MAX_SLOTS, SLOTS_PER_S, NUMBER_MAX = 256 * 1024, 50, 50, 1 << 62
# A worker keeps 10 s of each track: 50 batches, or 500 of a single slot.
DEADLINE_S, RETRY_S, HELD_MAX, TRACKS_MAX, QUEUE_MAX = 10.0, 0.25, 1_000, 256, 4_096
NACK_MAX_RANGES, NACK_MAX_BATCHES, AUDIO = 16, 64, 0


class Refused(Exception):
    """The gateway's own words: `args` are the error, the message, retry_after_ms."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Up to a second of one track. `pcm` has the samples of the audio slots only."""

    track: str
    epoch: int
    seq: int
    pos: int
    rate: int
    ch: int
    runs: list[list[int]]
    flags: int
    user: str
    role: str
    pcm: bytes

    def samples(self) -> bytes:
        """s16le samples of all slots: zeros where there is no audio."""
        slot, at, out = self.rate // SLOTS_PER_S * 2 * self.ch, 0, b""
        for state, count in self.runs:
            out += self.pcm[at : at + count * slot] if state == AUDIO else bytes(count * slot)
            at += count * slot if state == AUDIO else 0
        return out


@dataclass(frozen=True, slots=True)
class Gap:
    """Batches that will not come. How long it is, the next batch's `pos` says."""

    track: str
    epoch: int
    seq: int
    count: int
    reason: str


Heard = Batch | Gap


def decode(track: str, payload: bytes) -> Batch:
    """Reads a batch, or raises ValueError where it is none."""
    if len(payload) > BATCH_MAX_BYTES:
        raise ValueError("too large")
    try:
        m = msgpack.unpackb(payload, max_map_len=64, max_array_len=64)
        m = {"flags": 0, "user": "", "role": "", "pcm": b"", "runs": [[AUDIO, m["n"]]]} | m
        numbers = [m[key] for key in ("v", "epoch", "seq", "pos", "rate", "ch", "n", "flags")]
        numbers += [number for state, count in m["runs"] for number in (state, count)]
        if not all(type(number) is int and 0 <= number < NUMBER_MAX for number in numbers):
            raise ValueError("a number out of range")
        names = ("epoch", "seq", "pos", "rate", "ch", "runs", "flags", "user", "role", "pcm")
        n, rate, ch = m["n"], m["rate"], m["ch"]
        if m["v"] != 1 or ch not in (1, 2) or not 8_000 <= rate <= 48_000 or rate % SLOTS_PER_S:
            raise ValueError("another version or format")
        audio = sum(count for state, count in m["runs"] if state == AUDIO)
        if not 1 <= n <= BATCH_MAX_SLOTS or n != sum(count for _, count in m["runs"]):
            raise ValueError("runs that do not add up")
        if len(bytes(m["pcm"])) != audio * (rate // SLOTS_PER_S) * 2 * ch:
            raise ValueError("pcm of another length")
        return Batch(track, *(m[name] for name in names))
    except (KeyError, TypeError, AttributeError, msgpack.UnpackException) as error:
        raise ValueError(f"no batch: {error!r}") from error


class Track:
    """The order of one track. Pure: `now` is handed in, what is next comes out."""

    def __init__(self, name: str, deadline: float) -> None:
        self.name, self.deadline, self.asking = name, deadline, False
        self.epoch, self.next, self.top = -1, 0, 0
        self.held: dict[int, Batch] = {}
        self.missing: dict[int, list[float]] = {}  # seq: [missing since, not asked before]
        self.gone: dict[int, str] = {}

    def insert(self, batch: Batch, now: float) -> list[Heard]:
        """Takes in a batch, live or sent again."""
        out: list[Heard] = []
        if batch.epoch > self.epoch:
            out += self.give_up(list(self.missing), "epoch")
            self.next = self.top = batch.seq if self.epoch < 0 else 0
            self.epoch = batch.epoch
        if batch.epoch < self.epoch or batch.seq < self.next or batch.seq in self.held:
            return out
        if batch.seq >= self.next + HELD_MAX:
            out += self.give_up(list(self.missing), "overflow")
            out += self._skip(batch.seq, "overflow")
            self.top = batch.seq
        self.missing.update((seq, [now, 0.0]) for seq in range(self.top, batch.seq))
        self.top = max(self.top, batch.seq + 1)
        self.held[batch.seq] = batch
        self.missing.pop(batch.seq, None)
        self.gone.pop(batch.seq, None)
        return out + self._advance()

    def give_up(self, seqs: Iterable[int], reason: str) -> list[Heard]:
        """Waits for these no longer."""
        self.gone.update((seq, reason) for seq in seqs if self.missing.pop(seq, None))
        return self._advance()

    def tick(self, now: float) -> list[Heard]:
        """Gives up what was waited for long enough."""
        late = [seq for seq, (since, _) in self.missing.items() if now - since > self.deadline]
        return self.give_up(late, "deadline")

    def ask(self, now: float) -> list[list[int]]:
        """Ranges to ask for now; they count as asked for."""
        ranges: list[list[int]] = []
        due = sorted(seq for seq, (_, after) in self.missing.items() if after <= now)
        for seq in due[:NACK_MAX_BATCHES]:
            if ranges and sum(ranges[-1]) == seq:
                ranges[-1][1] += 1
            elif len(ranges) < NACK_MAX_RANGES:
                ranges.append([seq, 1])
            else:
                break
            self.missing[seq][1] = now + RETRY_S
        return ranges

    def _advance(self) -> list[Heard]:
        out: list[Heard] = []
        while True:
            if batch := self.held.pop(self.next, None):
                out.append(batch)
                self.next += 1
            elif reason := self.gone.pop(end := self.next, ""):
                while self.gone.get(end := end + 1) == reason:
                    del self.gone[end]
                out += self._skip(end, reason)
            else:
                return out

    def _skip(self, to: int, reason: str) -> list[Heard]:
        first, self.next = self.next, to
        return [Gap(self.name, self.epoch, first, to - first, reason)] if first < to else []


class Listener:
    """All tracks of a room, each in order: iterate over it. Made by `Gateway.listen`."""

    def __init__(self, nc: Client, room: str, deadline: float) -> None:
        self._nc, self._room, self._deadline, self._me = nc, room, deadline, uuid.uuid4().hex
        self._tracks: dict[str, Track] = {}
        self._queue: asyncio.Queue[Heard] = asyncio.Queue()
        self._asks: set[asyncio.Task[None]] = set()
        self.bad = 0  # messages that are no batch

    async def _open(self) -> Self:
        room, me = self._room, self._me
        subjects = (f"audio.live.{room}.*", f"audio.rec.{room}.*", f"audio.resend.{room}.*.{me}")
        self._subs = [await self._nc.subscribe(subject, cb=self._message) for subject in subjects]
        await self._nc.flush()  # only then has the server taken them in
        self._ticks = asyncio.create_task(self._tick())
        return self

    async def close(self) -> None:
        """Stops listening."""
        self._ticks.cancel()
        for sub in self._subs:
            await sub.unsubscribe()

    async def __aiter__(self) -> AsyncIterator[Heard]:
        while True:
            yield await self._queue.get()

    async def _message(self, msg: Msg) -> None:
        name = msg.subject.split(".")[3]
        try:
            batch = decode(name, msg.data)
        except ValueError:
            self.bad += 1
            return
        if name not in self._tracks and len(self._tracks) < TRACKS_MAX:
            self._tracks[name] = Track(name, self._deadline)
        # What does not fit is missing, and asked for when there is room again.
        if self._queue.qsize() < QUEUE_MAX and (track := self._tracks.get(name)):
            self._tell(track, track.insert(batch, time.monotonic()))

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(RETRY_S / 5)
            for track in self._tracks.values():
                self._tell(track, track.tick(time.monotonic()))

    def _tell(self, track: Track, heard: list[Heard]) -> None:
        for one in heard:
            self._queue.put_nowait(one)
        if not track.asking and (ranges := track.ask(time.monotonic())):
            track.asking = True
            task = asyncio.create_task(self._ask(track, track.epoch, ranges))
            self._asks.add(task)  # keeps it alive
            task.add_done_callback(self._asks.discard)

    async def _ask(self, track: Track, epoch: int, ranges: list[list[int]]) -> None:
        asked = [seq for first, count in ranges for seq in range(first, first + count)]
        nack = {"subscriber": self._me, "epoch": epoch, "ranges": ranges}
        nack["deadline_ms"] = int(self._deadline * 1_000)
        subject, body = f"audio.nack.{self._room}.{track.name}", json.dumps(nack).encode()
        try:
            reply = json.loads((await self._nc.request(subject, body, timeout=RETRY_S)).data)
            status, missing = reply["status"], reply.get("missing", [])
            # A worker that was replaced, and does not know it, says nothing of its successor.
            if status == "unknown" or (status == "epoch" and reply["epoch"] > epoch):
                missing = [[0, NUMBER_MAX, status]]
            for first, count, reason in missing:
                if track.epoch == epoch and reason not in ("held", "throttled"):
                    gone = [seq for seq in asked if first <= seq < first + count]
                    self._tell(track, track.give_up(gone, reason))
        except (nats.errors.Error, ValueError, KeyError, TypeError):
            pass  # asked again until the deadline
        track.asking = False


@dataclass
class Gateway:
    """A connection: `gateway = await Gateway.connect("nats://127.0.0.1:4222")`."""

    nc: Client

    @classmethod
    async def connect(cls, url: str, **options: Any) -> Self:
        """Connects; `options` are those of `nats.connect`."""
        steady = {"max_reconnect_attempts": -1, "reconnect_time_wait": 0.2, "ping_interval": 2}
        return cls(await nats.connect(url, **(steady | options)))

    async def submit(self, room: str, sdk: str, **task: Any) -> dict[str, Any]:
        """Hands in a task. Repeated with the same `id` it is one task."""
        task = {"id": str(uuid.uuid4()), "room": room, "sdk": sdk} | task
        return await self.ask("gateway.task.submit", task)

    async def listen(self, room: str, deadline: float = DEADLINE_S) -> Listener:
        """Listens; nothing that is said after it returns is missed."""
        return await Listener(self.nc, room, deadline)._open()

    async def ask(self, subject: str, message: dict[str, Any]) -> dict[str, Any]:
        """Asks anything, as in `ask("gateway.task.get", {"task": "call-42"})`."""
        reply = await self.nc.request(subject, json.dumps(message).encode(), timeout=2)
        body: dict[str, Any] = json.loads(reply.data)
        if reply.headers and "Nats-Service-Error-Code" in reply.headers:
            raise Refused(body["error"], body["message"], body.get("retry_after_ms", 0))
        return body
