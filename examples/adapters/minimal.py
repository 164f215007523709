#!/usr/bin/env python3
"""An adapter in its shortest form: a room with one participant, who hums.

It speaks docs/sdk-pipe.md and needs nothing but Python. To make a real one of
it, join the SDK's room where `main` says JOINED, and call `audio` from the
SDK's callbacks. In the worker's configuration:

    [adapter.minimal]
    mode = "framed"
    command = ["python3", "/path/to/minimal.py"]
"""
import array, json, math, os, select, struct, sys, time

HELLO, JOINED, PARTICIPANT_JOINED, TRACK_OPENED, AUDIO = 1, 2, 3, 5, 9
STATS, ERROR, BYE = 15, 16, 17
WELCOME, JOIN, SUBSCRIBE, PING, LEAVE = 65, 66, 67, 73, 75
HEADER = struct.Struct("<HBBHHIIq")  # magic version kind flags stream seq length pts
MAGIC, MUST_UNDERSTAND, FRAME_US = 0x4753, 0x8000, 20_000

pipe = os.dup(1)  # frames go here; whatever prints now goes to stderr
os.dup2(2, 1)
sent = 0


def now():
    """The media clock in µs."""
    return time.monotonic_ns() // 1000


def send(kind, payload=b"", stream=0, pts=0):
    global sent
    if isinstance(payload, dict):
        payload = json.dumps(payload).encode()
    data = HEADER.pack(MAGIC, 1, kind, 0, stream, sent & 0xFFFFFFFF, len(payload), pts) + payload
    sent += 1
    while data:
        data = data[os.write(pipe, data):]


def leave(reason):
    send(BYE, {"reason": reason})
    sys.exit(0)


def fail(message):
    send(ERROR, {"message": message, "fatal": True})
    sys.exit(1)


def exactly(count):
    data = b""
    while len(data) < count:
        piece = os.read(0, count - len(data))
        if not piece:
            leave("stdin has ended")
        data += piece
    return data


def receive():
    """The next frame of the worker: kind, stream, payload."""
    magic, version, kind, flags, stream, _, length, _ = HEADER.unpack(exactly(HEADER.size))
    if magic != MAGIC or version != 1:
        fail("stdin is not the SDK pipe")
    payload = exactly(length)
    if kind not in range(WELCOME, LEAVE + 1) and kind != AUDIO and flags & MUST_UNDERSTAND:
        fail(f"kind {kind} is unknown to this adapter")
    return kind, stream, payload if kind == AUDIO else json.loads(payload or b"{}")


def audio(pts, pcm):
    send(AUDIO, pcm, stream=1, pts=pts)


def main():
    send(HELLO, {"protocol": 1, "name": "minimal", "version": "1"})
    kind, join = None, {}
    while kind != JOIN:
        kind, _, join = receive()
        if kind == WELCOME and join["protocol"] != 1:
            fail("this adapter speaks protocol 1")
        if kind == LEAVE:
            leave("told to leave")
    if join["push"]:
        fail("this adapter plays nothing: submit the task without push")
    hz = float(join["params"].get("hz", 440))
    pts = now()  # a real adapter joins its room first
    send(JOINED, pts=pts)
    send(PARTICIPANT_JOINED, {"user": "hummer", "name": "Hummer"})
    send(TRACK_OPENED, {"user": "hummer"}, stream=1, pts=pts)
    subscribed, sample = False, 0
    while True:
        due = pts + FRAME_US  # a frame is sent when its last sample was captured
        if select.select([0], [], [], max(0, due - now()) / 1e6)[0]:
            kind, stream, said = receive()
            if kind == SUBSCRIBE and stream == 1:
                subscribed = said["on"]
            elif kind == PING:
                send(STATS, {}, pts=now())
            elif kind == LEAVE:
                leave("told to leave")
        elif now() >= due:
            wave = (math.sin(math.tau * hz * (sample + i) / 16000) for i in range(320))
            pcm = array.array("h", (int(8000 * value) for value in wave))
            if sys.byteorder == "big":
                pcm.byteswap()
            if subscribed:
                audio(pts, pcm.tobytes())
            pts, sample = due, sample + 320


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        pass  # the worker is gone
