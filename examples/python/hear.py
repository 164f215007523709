import asyncio, io, os, sys, wave, msgpack, nats

files, last = {}, {}

async def hear(msg):
    batch, track = msgpack.unpackb(msg.data), msg.subject.split(".")[3]
    if (at := (batch["epoch"], batch["seq"])) <= last.get(track, (0, -1)): return
    last[track] = at  # what came already, or of the worker before, is left out
    if track not in files:
        files[track] = wave.open(track + ".wav", "wb")
        files[track].setparams((batch["ch"], 2, batch["rate"], 0, "NONE", ""))
    pcm, slot = io.BytesIO(batch.get("pcm", b"")), batch["rate"] // 50 * 2 * batch["ch"]
    for state, count in batch.get("runs", [[0, batch["n"]]]):  # 0 is audio, the rest is quiet
        files[track].writeframes(pcm.read(count * slot) if state == 0 else bytes(count * slot))

async def main(room):
    nc = await nats.connect(os.environ.get("NATS_URL", "nats://127.0.0.1:4222"))
    for lane in "live", "rec": await nc.subscribe(f"audio.{lane}.{room}.*", cb=hear)
    await asyncio.Event().wait()

asyncio.run(main(sys.argv[1]))
