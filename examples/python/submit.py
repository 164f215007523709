"""Submits a task and waits until it runs: submit.py '{"room":"42","sdk":"sim"}'"""
import asyncio, json, os, sys, nats

async def main(task):
    nc = await nats.connect(os.environ.get("NATS_URL", "nats://127.0.0.1:4222"))
    events = await nc.subscribe("gateway.task.event.*")
    await nc.flush()
    answer = await nc.request("gateway.task.submit", task.encode(), timeout=2)
    if error := (answer.headers or {}).get("Nats-Service-Error"):
        sys.exit(f"refused: {error}")
    submitted = json.loads(answer.data)
    print("submitted:", submitted)
    if submitted["state"] != "pending":
        return
    async for msg in events.messages:
        event = json.loads(msg.data)
        if event["task"] == submitted["task"]:
            print(event["state"], event.get("worker", ""), event.get("reason", ""))
            if event["state"] in ("running", "done", "failed", "cancelled", "expired"):
                return

asyncio.run(main(sys.argv[1]))
