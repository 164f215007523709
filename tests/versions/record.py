"""Records a conversation of dispatchers, workers, services and operators, every
control message of it as it stood on the wire, for the next version to be held
against:

    PYTHONPATH=$(scripts/python-env.sh) \\
        python3 tests/versions/record.py FOLDER_OF_BINARIES > tests/versions/0.1.0.jsonl

A line is `{"ms": …, "subject": …, "reply": …, "headers": …, "data": …}`: the
payload is kept as text, byte for byte. What says nothing new is left out.
"""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

import nats
from nats.errors import NoRespondersError

SUBJECTS = ["gateway.>", "_INBOX.>", "$KV.gateway_tasks.>", "$KV.gateway_rooms.>",
            "$KV.gateway_leases.>", "$SRV.>"]
PATIENCE_S = 60


class Recorder:
    """Keeps what is news: what comes again and says the same is left out."""

    def __init__(self):
        self.began = time.time()
        self.last = {}
        self.lines = []

    async def hear(self, msg):
        data = msg.data.decode()
        is_stored = msg.subject.startswith("$KV.") or ".event." in msg.subject
        # What a stream hands to its consumers has its first subject and an acknowledgement's reply.
        if is_stored and not msg.reply.startswith("_INBOX") or not self.is_news(msg.subject, data):
            return
        if msg.subject.startswith("_INBOX") and (is_jetstream(data) or "Nats-Stream" in (msg.headers or {})):
            return
        line = {"ms": int((time.time() - self.began) * 1000), "subject": msg.subject}
        if msg.reply:
            line["reply"] = msg.reply
        kept = {k: v for k, v in (msg.headers or {}).items() if not k.startswith("Nats-Exp")}
        if kept:
            line["headers"] = kept
        self.lines.append({**line, "data": data})

    def is_news(self, subject, data):
        if subject.endswith(".heartbeat"):
            beat = json.loads(data)
            says = [beat["boot"], beat["phase"], beat["sessions"]]
        elif subject.startswith("$KV.gateway_leases"):
            says = data
        else:
            return True
        count, last = self.last.get(subject, (0, None))
        self.last[subject] = (count + 1, says)
        return count < 3 or says != last

    def story(self):
        """Without the questions that were answered as they were just before."""
        answers = {line["subject"]: line["data"] for line in self.lines}
        last, dull = {}, set()
        for line in self.lines:
            reply = line.get("reply")
            if not line["subject"].startswith("gateway.") or reply not in answers:
                continue
            asked = (line["subject"], line["data"])
            answer = re.sub(r'"(heard_ms|cores_used|memory_used)":[0-9.]+', "", answers[reply])
            if last.get(line["subject"]) == (asked, answer):
                dull.add(reply)
            last[line["subject"]] = (asked, answer)
        left = [line for line in self.lines
                if line["subject"] not in dull and line.get("reply") not in dull]
        asked = [line["reply"] for line in left if line.get("reply") in answers]
        names = {reply: f"_INBOX.{number}" for number, reply in enumerate(dict.fromkeys(asked))}
        return [rename(line, names) for line in left]


def rename(line, names):
    if "reply" in line:
        line["reply"] = names.get(line["reply"], "_INBOX.x")
    line["subject"] = names.get(line["subject"], line["subject"])
    return line


def is_jetstream(data):
    """Its answers and acknowledgements, and the client's barriers."""
    acknowledged = re.match(r'{"(stream|error)"\s*:\s*[{"].*"(seq|err_code)"', data)
    return not data or acknowledged or "io.nats.jetstream" in data


class Stage:
    """The programs, and what the services and operators of this story ask."""

    def __init__(self, folder, url, nc):
        self.folder, self.url, self.nc, self.programs = folder, url, nc, []

    def start(self, program, *args):
        env = {**os.environ, "NATS_URL": self.url}
        child = subprocess.Popen([os.path.join(self.folder, program), *args], env=env,
                                 stderr=subprocess.DEVNULL)
        self.programs.append(child)
        return child

    async def ask(self, subject, data):
        text = data if isinstance(data, str) else json.dumps(data, separators=(",", ":"))
        answer = await self.nc.request(subject, text.encode(), timeout=5)
        return json.loads(answer.data)

    async def until(self, subject, data, holds):
        end = time.time() + PATIENCE_S
        while time.time() < end:
            try:
                answer = await self.ask(subject, data)
                if holds(answer):
                    return answer
            except (NoRespondersError, nats.errors.TimeoutError):
                pass
            await asyncio.sleep(0.3)
        raise SystemExit(f"{subject} {data}: it did not come to that: {answer}")

    async def state(self, task, *states):
        await self.until("gateway.task.get", {"task": task}, lambda a: a.get("state") in states)


async def story(stage):
    d1 = stage.start("dispatcher", "--id", "d1")
    await stage.until("gateway.admin.leader", {}, lambda a: a.get("leader") == "d1")
    config = tempfile.NamedTemporaryFile("w", suffix=".toml")
    config.write("[worker.labels]\nzone = \"a\"\n")
    config.flush()
    w1 = stage.start("worker", "--id", "w1", "--cores", "64", "--config", config.name)
    await stage.until("gateway.admin.workers", "", lambda a: len(a["workers"]) == 1)

    full = {"id": "call-1", "room": "r1", "sdk": "sim", "params": {"participants": 2},
            "pull": {"participants": True, "roles": ["host"], "batch_frames": 10},
            "push": {"from": "audio.push.r1.tts"}, "priority": 7, "max_duration_s": 600,
            "start_within_s": 20, "labels": {"zone": "a"}}
    await stage.ask("gateway.task.submit", full)
    await stage.state("call-1", "running")
    await stage.ask("gateway.task.submit", full)
    await stage.ask("gateway.task.submit", {**full, "room": "r9"})
    await stage.ask("gateway.task.submit", {"id": "call-x", "room": "r1", "sdk": "sim"})
    await stage.ask("gateway.task.submit", {"room": "r1", "sdk": "sim", "typo": 1})
    await stage.ask("gateway.task.get", {"task": "nobody"})

    await stage.ask("gateway.task.submit", {"id": "short", "room": "r2", "sdk": "sim",
                                            "params": {"seconds": 1}})
    await stage.state("short", "done")
    await stage.ask("gateway.task.submit", {"id": "broken", "room": "r3", "sdk": "sim",
                                            "params": {"fail_join": "the token has expired"}})
    await stage.state("broken", "failed")
    await stage.ask("gateway.task.submit", {"id": "nowhere", "room": "r4", "sdk": "sim",
                                            "start_within_s": 2, "labels": {"zone": "moon"}})
    await stage.state("nowhere", "expired")
    await stage.ask("gateway.task.submit", {"room": "r5", "sdk": "sim", "id": "call-5"})
    await stage.state("call-5", "running")
    await stage.ask("gateway.task.list", "")
    await stage.ask("gateway.task.list", {"states": ["done", "failed", "expired"], "limit": 2})
    await stage.ask("gateway.admin.workers", {})
    await stage.ask("gateway.worker.w1.ping", {})
    await stage.ask("gateway.worker.w1.inventory", {})

    config.seek(0)
    stage.start("worker", "--id", "w2", "--cores", "64", "--config", config.name)
    stage.start("dispatcher", "--id", "d2")
    await stage.until("gateway.admin.workers", "", lambda a: len(a["workers"]) == 2)
    await stage.ask("gateway.admin.drain", {"worker": "w1", "reason": "a new kernel"})
    await stage.until("gateway.admin.workers", {}, lambda a: any(
        w["worker"] == "w1" and w["phase"] == "lame_duck" for w in a["workers"]))
    await stage.ask("gateway.admin.drain", {"worker": "w9"})
    w1.send_signal(signal.SIGTERM)
    for task in "call-1", "call-5":
        await stage.until("gateway.task.get", {"task": task}, lambda a: (
            a["state"], a["worker"]) == ("running", "w2"))

    d1.send_signal(signal.SIGTERM)
    await stage.until("gateway.admin.leader", {}, lambda a: a.get("leader") == "d2")
    await stage.ask("gateway.task.cancel", {"task": "call-1", "reason": "the call is over"})
    await stage.ask("gateway.task.cancel", {"task": "nobody"})
    await stage.until("gateway.worker.w2.inventory", {}, lambda a: all(
        s["task"] != "call-1" for s in a["sessions"]))
    await stage.ask("gateway.task.get", {"task": "call-5"})
    await asyncio.sleep(1.2)


async def main(folder):
    server = subprocess.run([os.path.join(os.path.dirname(__file__), "../../scripts/nats-server.sh")],
                            capture_output=True, text=True, check=True).stdout.strip()
    store = tempfile.TemporaryDirectory()
    process = subprocess.Popen([server, "-a", "127.0.0.1", "-p", "-1", "-js", "-sd", store.name],
                               stderr=subprocess.PIPE, text=True)
    url = None
    for line in process.stderr:
        found = re.search(r"Listening for client connections on (\S+)", line)
        url = f"nats://{found[1]}" if found else url
        if "Server is ready" in line:
            break
    asyncio.get_running_loop().run_in_executor(None, lambda: [None for _ in process.stderr])
    recorder = Recorder()
    ears, nc = await nats.connect(url), await nats.connect(url)
    for subject in SUBJECTS:
        await ears.subscribe(subject, cb=recorder.hear)
    await ears.flush()
    stage = Stage(folder, url, nc)
    try:
        await story(stage)
    finally:
        for program in stage.programs:
            program.terminate()
        for program in stage.programs:
            program.wait()
        process.terminate()
        process.wait()
    for line in recorder.story():
        print(json.dumps(line, ensure_ascii=False, separators=(",", ":")))
    sys.stdout.flush()
    # What still reads from the server has nothing more to say.
    os._exit(0)


asyncio.run(main(sys.argv[1]))
