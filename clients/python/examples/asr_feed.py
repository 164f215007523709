#!/usr/bin/env python3
"""Pipes one track of a room into a recogniser: s16le samples on stdout.

    asr_feed.py 42 | recogniser --rate 16000
    asr_feed.py 42 --track user-0 --task sim > user-0.pcm

What is missing is zeros of the right length, so that time in the recogniser's
words is time in the room; each gap is told on stderr. Ends with the track, or 15 s
after it was closed; where its room goes to another worker, it goes on.
"""

import argparse
import asyncio
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from audio_gateway import ENDED_S, FLAG_LAST, Batch, Gap, Gateway  # noqa: E402

# A jump beyond this is another conversation, not a pause.
FILL_MAX_S = 600
# A track that said nothing for so long was closed: it is heard of every 200 ms.
QUIET_S = 15


async def feed(args: argparse.Namespace) -> None:
    gateway = await Gateway.connect(args.server)
    listener = await gateway.listen(args.room, deadline=args.deadline, from_=args.since)
    if args.task:
        print("task:", await gateway.submit(args.room, args.task), file=sys.stderr)
    track, end, over, room = args.track, None, None, aiter(listener)
    while True:
        try:
            left = None if over is None else max(0.0, over - time.monotonic())
            heard = await asyncio.wait_for(anext(room), left)
        except TimeoutError:
            break
        track = track or heard.track
        if heard.track != track:
            continue
        if isinstance(heard, Gap):
            print(f"gap: {heard.count} batches from {heard.seq} ({heard.reason})", file=sys.stderr)
        elif isinstance(heard, Batch):
            missing = 0 if end is None else heard.pos - end
            if 0 < missing <= FILL_MAX_S * heard.rate:
                await write(bytes(missing * 2 * heard.ch))
            samples = heard.samples()
            await write(samples)
            end = heard.pos + len(samples) // (2 * heard.ch)
            ends = heard.flags & FLAG_LAST
            over = time.monotonic() + (ENDED_S if ends else QUIET_S + args.deadline)
    await listener.close()
    await gateway.nc.close()


async def write(samples: bytes) -> None:
    # A recogniser that is slow must not keep the connection from being read.
    await asyncio.to_thread(sys.stdout.buffer.write, samples)
    await asyncio.to_thread(sys.stdout.buffer.flush)


def main() -> None:
    parser = argparse.ArgumentParser(description="one track of a room as s16le on stdout")
    parser.add_argument("room")
    parser.add_argument("--track", help="default: the first one heard")
    parser.add_argument("--task", metavar="SDK", help="first hand in a task with this adapter")
    parser.add_argument("--deadline", type=float, default=10.0, help="wait for a batch, seconds")
    parser.add_argument("--from", dest="since", type=float, default=0.0, help="seconds ago, up to 10")
    parser.add_argument("--server", default=os.environ.get("NATS_URL", "nats://127.0.0.1:4222"))
    try:
        asyncio.run(feed(parser.parse_args()))
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        # The reader has had enough; Python would complain of it once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
