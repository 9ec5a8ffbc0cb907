"""A stand-in for engine.worker that speaks its protocol without a model: for tests of the host and the window only.

Prompts steer it: ``crash`` dies by SIGKILL, ``exit`` ends with code 3 and a line, ``garbage`` sends no message, ``fail`` fails.
The budget ``1`` is refused. Tokens come every 5 ms.
"""

from __future__ import annotations

import argparse
import os
import queue
import signal
import sys
import threading
import time
from multiprocessing.connection import Client
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from engine import events
from engine.settings import checked

LAYERS, EXPERTS, TOP_K = 4, 8, 2
SIZES = {2: 500, 4: 1000, 8: 2000, 16: 4000}  # bytes of a record by bits


class Scripted:
    def __init__(self, connection) -> None:
        self.connection = connection
        self.zero = time.monotonic_ns()
        self.settings: dict = {}
        self.row = self.request = 0
        self.left = 0
        self.state = ""
        self.commands: queue.Queue = queue.Queue()

    def now(self) -> int:
        return time.monotonic_ns() - self.zero

    def say(self, message) -> None:
        self.connection.send_bytes(events.encode(message))

    def be(self, state: str) -> None:
        if state != self.state:
            self.state = state
            self.say(events.State(self.now(), state))

    def listen(self) -> None:
        try:
            while True:
                self.commands.put(events.decode_command(self.connection.recv_bytes()))
        except (EOFError, OSError):
            os._exit(0)

    def serve(self) -> None:
        machine = events.Machine("test", "test", 2, 1 << 30, "3.11", "0", "0")
        self.say(events.Opened(events.PROTOCOL, "0", time.time(), os.getpid(), machine))
        threading.Thread(target=self.listen, daemon=True).start()
        while True:
            try:
                command = self.commands.get(timeout=0.005 if self.state == "running" else None)
            except queue.Empty:
                self.token()
                continue
            if isinstance(command, events.Quit):
                return
            self.handle(command)

    def handle(self, command) -> None:
        match command:
            case events.Load():
                self.load(command)
            case events.Generate():
                self.generate(command)
            case events.Pause() if self.left:
                self.be("paused")
            case events.Resume() if self.left:
                self.be("running")
            case events.Step() if self.left:
                self.be("paused")
                self.token()
            case events.Stop():
                self.finish("stopped")
            case events.Change(name="budget", value="1"):
                self.say(events.Refused("budget", "1", "The budget cannot be under 2000 bytes"))
            case events.Change():
                old, self.settings[command.name] = self.settings[command.name], command.value
                self.say(events.Applied(self.now(), self.row, command.name, old, command.value, command.value, self.budget()))

    def budget(self) -> events.Budget:
        """A quarter of all experts at the width in use."""
        record = SIZES[self.settings["bits"]]
        full = LAYERS * EXPERTS * record
        return events.Budget(full // 4, TOP_K * record, full)

    def load(self, command) -> None:
        self.be("loading")
        if "missing" in command.model:
            self.say(events.Failed(self.now(), f"{command.model} has no config.json"))
            self.be("idle")
            return
        for done in range(0, 5):
            self.say(events.Progress("Converting experts", done * 1000, 4000))
            time.sleep(0.3 if "slow" in command.model else 0.001)
            if not self.commands.empty() and isinstance(self.commands.get(), events.Stop):
                self.say(events.Failed(self.now(), "Loading was stopped"))
                self.be("idle")
                return
        self.settings = checked(command.settings)
        torch = "torch" in command.model
        info = events.ModelInfo(
            command.name or "scripted", "TestForCausalLM", command.model, command.model, "abc", LAYERS, EXPERTS, TOP_K, 16, 16,
            [2, 4, 8, 16], SIZES, 10_000, "group64", "torch" if torch else "AVX2", True, "float32", 100, 1024,
            "transformers" if torch else "native",
        )  # fmt: skip
        effective = {**self.settings, "budget": self.budget().granted, "eviction": "edgemoe", "compute_threads": 1}
        self.say(events.Ready(self.now(), info, self.settings, effective, self.budget()))
        self.say(events.Progress("Filling the expert buffer", 500, 1000))
        self.be("idle")

    def generate(self, command) -> None:
        match command.prompt:
            case "crash":
                os.kill(os.getpid(), signal.SIGKILL)
            case "exit":
                print("no more paper in the printer", file=sys.stderr, flush=True)
                os._exit(3)
            case "garbage":
                self.connection.send_bytes(b"\xc1 nothing")
                return
            case "fail":
                self.say(events.Failed(self.now(), "The prompt is longer than the model's context"))
                return
        self.request += 1
        self.left = int(self.settings["max_tokens"])
        self.say(events.Began(self.now(), self.request - 1, command.prompt, command.prompt.split(" "), self.row))
        self.first = True
        self.be("paused" if command.paused else "running")

    def token(self) -> None:
        start = self.now()
        row = np.zeros(1, events.TOKEN)
        row["request"], row["tokens"], row["phase"] = self.request - 1, 1, 0 if self.first else 1
        row["start"], row["duration"], row["compute"] = start, 4_000_000, 4_000_000
        row["hits"], row["capacity"] = LAYERS * TOP_K - 2, 2
        row["budget_bytes"], row["resident_bytes"], row["resident_4"] = 8000, 8000, 8000
        row["average_bits"] = 4
        access = np.zeros(LAYERS * TOP_K, events.ACCESS)
        access["time"], access["token"] = start, self.row
        access["layer"], access["expert"] = np.repeat(np.arange(LAYERS), TOP_K), (np.arange(LAYERS * TOP_K) + self.row) % EXPERTS
        access["bits"], access["phase"] = 4, row["phase"]
        span = np.zeros(LAYERS, events.SPAN)
        span["start"], span["duration"] = start + np.arange(LAYERS) * 1_000_000, 1_000_000
        span["token"], span["layer"], span["expert"], span["kind"] = self.row, np.arange(LAYERS), 0, int(events.SpanKind.EXPERT)
        tables = {"tokens": row.tobytes(), "accesses": access.tobytes(), "spans": span.tobytes()}
        self.say(events.Batch(tables, [f" word{self.row}"]))
        self.row, self.left, self.first = self.row + 1, self.left - 1, False
        if self.left == 0:
            self.finish("length")

    def finish(self, reason: str) -> None:
        if self.state in ("running", "paused"):
            self.left = 0
            self.say(events.Finished(self.now(), self.request - 1, reason))
            self.be("idle")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--silent", action="store_true", help="never connect")
    parser.add_argument("--deaf", action="store_true", help="ignore every command and SIGTERM")
    args = parser.parse_args()
    key = bytes.fromhex(sys.stdin.readline())
    if args.deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if args.silent:
        time.sleep(60)
    link = Client(args.address, authkey=key)
    if args.deaf:
        time.sleep(60)
    Scripted(link).serve()
