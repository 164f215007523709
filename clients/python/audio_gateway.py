"""A client of audio-gateway for nats-py: hand in tasks, listen to rooms.

Written against docs/wire.md alone. A `Listener` brings the batches of a room
into order, asks again for what is missing and declares a gap where it does not
come. What becomes of the audio is the caller's matter.
"""

import asyncio
import json
import struct
import time
import uuid
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, replace
from typing import Any, Self

import msgpack  # type: ignore[import-untyped]
import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

try:
    from crc32c import crc32c
except ImportError:  # what was damaged on its way is taken for sound then
    crc32c = None

BATCH_MAX_BYTES, BATCH_MAX_SLOTS, SLOTS_PER_S, NUMBER_MAX = 256 * 1024, 50, 50, 1 << 62
# A worker keeps 10 s of each track: 50 batches, or 500 of a single slot.
DEADLINE_S, RETRY_S, HELD_MAX, TRACKS_MAX, QUEUE_MAX = 10.0, 0.25, 1_000, 256, 4_096
NACK_MAX_RANGES, NACK_MAX_BATCHES, AUDIO, FLAG_RESENT, FLAG_LAST = 16, 64, 0, 2, 4
# While a room is handed over: silence after which the old worker is not waited for, the
# longest wait, and how long after flag 4 a track may go on under another epoch.
SILENT_S, HANDOVER_S, ENDED_S = 0.4, 1.0, 0.6
TAIL_S = 0.5  # silence after which the last batch may be what was lost
# What a worker keeps to begin with, and how long that may hold up what is live.
RING_S, PREROLL_WAIT_S = 10.0, 3.0
MISSING = {3, 4, 5, 7}  # absent, lost, stalled, dropped: another worker may have it


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

    @property
    def slots(self) -> int:
        return sum(count for _, count in self.runs)

    def before(self, pos: int) -> int:
        """Slots of which more than half lies before a position."""
        slot = self.rate // SLOTS_PER_S
        return min(max(-(-(pos - self.pos - slot // 2) // slot), 0), self.slots)

    def after(self, slots: int) -> "Batch":
        """The batch without its first slots."""
        states = [state for state, count in self.runs for _ in range(count)]
        audio = sum(state == AUDIO for state in states[:slots])
        cut, pos = audio * self.rate // SLOTS_PER_S * 2 * self.ch, slots * self.rate // SLOTS_PER_S
        runs = [[state, 1] for state in states[slots:]]
        return replace(self, pos=self.pos + pos, runs=runs, pcm=self.pcm[cut:])


@dataclass(frozen=True, slots=True)
class Gap:
    """Batches that will not come. How long it is, the next batch's `pos` says."""

    track: str
    epoch: int
    seq: int
    count: int
    reason: str


Heard = Batch | Gap


def fields(m: dict[str, Any]) -> bytes:
    """What `sum` is the CRC-32C of."""
    runs, user, role = m.get("runs", []), m.get("user", "").encode(), m.get("role", "").encode()
    flags = m.get("flags", 0) & ~FLAG_RESENT
    numbers = (m["epoch"], m["seq"], m["pos"], m["time"], flags, m["rate"], m["ch"], m["n"])
    out = struct.pack("<QQQqIIBBB", *numbers, len(runs)) + bytes(it for run in runs for it in run)
    for text in (user, role):
        out += len(text).to_bytes(4, "little") + text
    return out + m.get("crc", 0).to_bytes(4, "little")


def decode(track: str, payload: bytes) -> Batch:
    """Reads a batch, or raises ValueError where it is none, or none any more."""
    if len(payload) > BATCH_MAX_BYTES:
        raise ValueError("too large")
    try:
        m = msgpack.unpackb(payload, max_map_len=64, max_array_len=64)
        if crc32c and "crc" in m and crc32c(m["pcm"]) != m["crc"]:
            raise ValueError("damaged samples")
        if crc32c and "sum" in m and crc32c(fields(m)) != m["sum"]:
            raise ValueError("damaged fields")
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
        if not isinstance(m["pcm"], bytes):
            raise ValueError("pcm that is no bytes")
        if len(m["pcm"]) != audio * (rate // SLOTS_PER_S) * 2 * ch:
            raise ValueError("pcm of another length")
        return Batch(track, *(m[name] for name in names))
    except (LookupError, TypeError, AttributeError, ArithmeticError, struct.error) as error:
        raise ValueError(f"no batch: {error!r}") from error
    except msgpack.UnpackException as error:
        raise ValueError(f"no batch: {error!r}") from error


class Order:
    """The batches of one epoch of a track, by their numbers. Pure: `now` is handed in."""

    def __init__(self, name: str, epoch: int, first: int, now: float) -> None:
        self.name, self.epoch, self.next, self.top = name, epoch, first, first
        self.heard, self.asking, self.probe_at, self.reach = now, False, now, 0
        self.tail = True  # whether the last of it may be what was lost
        self.held: dict[int, Batch] = {}
        self.missing: dict[int, list[float]] = {}  # seq: [missing since, not asked before]
        self.gone: dict[int, tuple[int, str]] = {}  # seq: (one after the last, why)

    def insert(self, batch: Batch, now: float) -> None:
        """Takes in a batch, live or sent again."""
        seq, self.heard, self.tail = batch.seq, now, not batch.flags & FLAG_LAST
        self.reach = max(self.reach, batch.pos + batch.slots * batch.rate // SLOTS_PER_S)
        if seq >= self.next + HELD_MAX:
            self.give_up(list(self.missing), "overflow")
            self.gone[self.top], self.top = (seq, "overflow"), seq
        if seq >= self.top:
            self.missing.update((lost, [now, 0.0]) for lost in range(self.top, seq))
            self.top = seq + 1
        elif not self.missing.pop(seq, None):
            return
        self.held[seq] = batch

    def want_before(self, seq: int, since: float) -> None:
        """Is missing all from its first batch to `seq`, since then."""
        self.missing.update((lost, [since, 0.0]) for lost in range(self.top, seq))
        self.top = seq

    def give_up(self, seqs: Iterable[int], reason: str) -> None:
        """Waits for these no longer."""
        self.gone.update((seq, (seq + 1, reason)) for seq in seqs if self.missing.pop(seq, None))

    def late(self, now: float, deadline: float) -> list[int]:
        """What was waited for long enough."""
        return [seq for seq, (since, _) in self.missing.items() if now - since > deadline]

    def ask(self, now: float, leaves: bool) -> list[list[int]]:
        """Ranges to ask for now; they count as asked for. Of a worker that leaves, or that has
        gone silent, also what it said last: a hole at its end is seen by nothing else."""
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
        if leaves and not ranges and now >= self.probe_at:
            self.probe_at = now + RETRY_S
            return [[self.top, NACK_MAX_BATCHES]]
        if self.tail and not ranges and now - self.heard > TAIL_S:
            self.tail = False  # once; the worker says "unknown" where it said no more
            return [[self.top, 1]]
        return ranges

    def take(self) -> Heard | None:
        """What comes next, where that is known."""
        if batch := self.held.pop(self.next, None):
            self.next += 1
            return batch
        first, reason = self.next, self.gone.get(self.next, (0, ""))[1]
        while reason and self.gone.get(self.next, (0, ""))[1] == reason:
            self.next = self.gone.pop(self.next)[0]
        return Gap(self.name, self.epoch, first, self.next - first, reason) if reason else None

    def leave(self, seq: int) -> None:
        """Needs nothing before `seq` any more."""
        self.next = seq
        self.held = {at: batch for at, batch in self.held.items() if at >= seq}
        self.missing = {at: times for at, times in self.missing.items() if at >= seq}
        self.gone = {at: gone for at, gone in self.gone.items() if at >= seq}


class Track:
    """One track in order, also from one worker to the next: while a room is handed over both
    speak, and the old one is heard until the new one has what comes next."""

    def __init__(self, name: str, deadline: float, from_: float = 0.0) -> None:
        self.name, self.deadline, self.from_ = name, deadline, from_
        self.begin = -1  # where what is wanted begins, until something was handed out
        self.behind = False  # the program did not follow: go on with what is new
        self.orders: list[Order] = []  # the one listened to, and the one to follow
        self.cut_at, self.over = 0.0, False
        self.end = self.floor = -1  # what was handed out; what was so under the epoch before

    def insert(self, batch: Batch, now: float) -> list[Heard]:
        """Takes in a batch, live or sent again."""
        if not self.orders:
            # The worker keeps what came before: how many batches that are, this one tells by
            # its length alone, and what is too many lies before the beginning.
            before = -(-int(self.from_ * SLOTS_PER_S) // batch.slots) * 9 // 8
            order = Order(self.name, batch.epoch, max(0, batch.seq - before), now)
            order.want_before(batch.seq, now - max(0.0, self.deadline - PREROLL_WAIT_S))
            self.orders = [order]
            if before:
                self.begin = max(0, batch.pos - int(self.from_ * batch.rate))
        elif batch.epoch > self.orders[-1].epoch:
            old = self.orders[0]
            near = -10 * batch.rate <= batch.pos - old.reach <= SILENT_S * batch.rate
            lives = not self.over and (near or now < old.heard + SILENT_S)
            self.cut_at, old.heard = (now + HANDOVER_S, now) if lives else (now, old.heard)
            self.orders[1:] = [Order(self.name, batch.epoch, 0, now)]
        for order in self.orders:
            if order.epoch == batch.epoch:
                order.insert(batch, now)
        return self.tick(now)

    def catch_up(self, batch: Batch, now: float) -> list[Heard]:
        """Leaves out what is missing before a batch."""
        self.behind = False
        for order in self.orders:
            passed = [seq for seq in order.missing if order.epoch < batch.epoch or seq < batch.seq]
            order.give_up(passed, "too_slow")
        return self.tick(now)

    def give_up(self, order: Order, seqs: Iterable[int], reason: str, now: float) -> list[Heard]:
        """Waits for these no longer."""
        order.give_up(seqs, reason)
        return self.tick(now)

    def tick(self, now: float) -> list[Heard]:
        """What comes next; what was waited for long enough is given up."""
        out: list[Heard] = []
        for order in self.orders:
            order.give_up(order.late(now, self.deadline), "deadline")
        while self.orders:
            late = now >= min(self.cut_at, self.orders[0].heard + SILENT_S)
            if len(self.orders) > 1 and (self.over or late):
                self.orders[0].give_up(list(self.orders[0].missing), "epoch")
            if len(self.orders) > 1 and self._reached():
                self._turn()
            if one := self.orders[0].take():
                self._hand_out(one, out)
            elif len(self.orders) > 1 and (self.over or late):
                self._turn()
            else:
                break
        return out

    def _reached(self) -> bool:
        """Whether the epoch to follow has what comes next; what it has before that is left."""
        order = self.orders[1]
        for seq in sorted(order.held):
            batch = order.held[seq]
            silent = self.floor < 0 and all(state in MISSING for state, _ in batch.runs)
            if silent or batch.before(self.end) == batch.slots:
                order.leave(seq + 1)
            elif batch.pos <= self.end + batch.rate // SLOTS_PER_S // 2:
                order.leave(seq)
                return True
            else:
                return False
        return False

    def _turn(self) -> None:
        del self.orders[0]
        self.over, self.floor = False, self.end

    def _hand_out(self, one: Heard, out: list[Heard]) -> None:
        if self.begin >= 0:
            # Nobody has what came before, or nobody wanted it.
            early = one.before(self.begin) if isinstance(one, Batch) else 0
            if isinstance(one, Gap) or early == one.slots:
                return
            one, self.begin = one.after(early) if early else one, -1
        if isinstance(one, Batch):
            self.over = self.over or bool(one.flags & FLAG_LAST)
            # So far back it is another time line.
            passed = one.before(self.floor) if self.floor - one.pos <= 10 * one.rate else 0
            if passed == one.slots:
                return
            one, self.floor = one.after(passed) if passed else one, -1
            self.end = one.pos + one.slots * one.rate // SLOTS_PER_S
        out.append(one)


class Listener:
    """All tracks of a room, each in order: iterate over it. Made by `Gateway.listen`."""

    def __init__(self, nc: Client, room: str, deadline: float, from_: float = 0.0) -> None:
        self._nc, self._room, self._deadline, self._me = nc, room, deadline, uuid.uuid4().hex
        self._from = min(max(from_, 0.0), RING_S)
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
            self._tracks[name] = Track(name, self._deadline, self._from)
        if not (track := self._tracks.get(name)):
            return
        # What does not fit is left out: whoever is too slow goes on with what is new.
        if self._queue.qsize() >= QUEUE_MAX:
            track.behind = True
            return
        now = time.monotonic()
        heard = track.insert(batch, now)
        if track.behind and not msg.subject.startswith("audio.resend."):
            heard += track.catch_up(batch, now)
        self._tell(track, heard)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(RETRY_S / 5)
            for track in self._tracks.values():
                self._tell(track, track.tick(time.monotonic()))

    def _tell(self, track: Track, heard: list[Heard]) -> None:
        for one in heard:
            self._queue.put_nowait(one)
        for order in track.orders:
            leaves = len(track.orders) > 1 and order is track.orders[0]
            if not (order.asking or track.behind) and (ranges := order.ask(time.monotonic(), leaves)):
                order.asking = True
                task = asyncio.create_task(self._ask(track, order, ranges))
                self._asks.add(task)  # keeps it alive
                task.add_done_callback(self._asks.discard)

    async def _ask(self, track: Track, order: Order, ranges: list[list[int]]) -> None:
        asked = [seq for first, count in ranges for seq in range(first, first + count)]
        nack = {"subscriber": self._me, "epoch": order.epoch, "ranges": ranges}
        nack["deadline_ms"] = int(self._deadline * 1_000)
        subject, body = f"audio.nack.{self._room}.{track.name}", json.dumps(nack).encode()
        try:
            reply = json.loads((await self._nc.request(subject, body, timeout=RETRY_S)).data)
            now, status, missing = time.monotonic(), reply["status"], reply.get("missing", [])
            # A worker that was replaced, and does not know it, says nothing of its successor;
            # nor has this a say while the other may answer itself.
            other = status == "unknown" or (status == "epoch" and reply["epoch"] > order.epoch)
            if other and now >= order.heard + SILENT_S:
                missing = [[0, NUMBER_MAX, status]]
            for first, count, reason in missing:
                if order in track.orders and reason not in ("held", "throttled"):
                    gone = [seq for seq in asked if first <= seq < first + count]
                    self._tell(track, track.give_up(order, gone, reason, now))
        except (nats.errors.Error, ValueError, KeyError, TypeError):
            pass  # asked again until the deadline
        order.asking = False


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

    async def listen(
        self, room: str, deadline: float = DEADLINE_S, from_: float = 0.0
    ) -> Listener:
        """Listens; nothing that is said after it returns is missed. `from_` is how many
        seconds of what was said before are wanted as well: up to 10."""
        return await Listener(self.nc, room, deadline, from_)._open()

    async def ask(self, subject: str, message: dict[str, Any]) -> dict[str, Any]:
        """Asks anything, as in `ask("gateway.task.get", {"task": "call-42"})`."""
        reply = await self.nc.request(subject, json.dumps(message).encode(), timeout=2)
        body: dict[str, Any] = json.loads(reply.data)
        if reply.headers and "Nats-Service-Error-Code" in reply.headers:
            raise Refused(body["error"], body["message"], body.get("retry_after_ms", 0))
        return body
