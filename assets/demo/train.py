"""Train the demo model: from any folder of text to a Hugging Face folder, with one command.

    python train.py --text FOLDER --work FOLDER --out model --minutes 120

The folder of text holds one file a domain (*.txt or *.txt.gz), a form feed between documents. Progress goes to
standard error and, a line of JSON each, to `log.jsonl` in the work folder. An interrupted training (Ctrl-C, SIGTERM)
saves its state; the same command takes it up again.
"""

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

# Before torch is imported: its threads should sleep, not spin, while they wait on a machine shared with others.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import numpy as np
import torch
from checkpoint import export, load_state, save_state, size
from corpus import END, Windows, prepare
from network import Trainee, build, compute_type
from optim import Optimizer
from schedule import Schedule, parse_clock

MUON_RATE, ADAM_RATE, BALANCE = 0.02, 0.004, 0.01
LONG_EVERY = 4  # one step in four sees sequences twice as long, which the model's positions then reach


def parse(argv):
    """Return the options."""
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--text", type=Path, required=True, help="folder of *.txt, *.txt.gz; form feed between documents")
    p.add_argument("--work", type=Path, required=True, help="folder for tokens, state and log")
    p.add_argument("--out", type=Path, required=True, help="folder the model is exported to")
    end = p.add_mutually_exclusive_group(required=True)
    end.add_argument("--until", type=parse_clock, metavar="HH:MM", help="stop at this UTC time")
    end.add_argument("--minutes", type=float, help="stop after so many minutes of training, all runs together")
    end.add_argument("--steps", type=int, help="stop after so many steps, all runs together")
    p.add_argument("--batch", type=int, default=4096, help="tokens a step (default %(default)s)")
    p.add_argument("--context", type=int, default=512, help="tokens a sequence; every fourth step twice that")
    p.add_argument("--vocabulary", type=int, default=4096)
    for name, value in SHAPE.items():
        p.add_argument(f"--{name.replace('_', '-')}", type=int, default=value, help="shape of the model (%(default)s)")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--no-compile", action="store_true", help="no torch.compile: slower, but needs no C++ compiler")
    p.add_argument("--measure-every", type=float, default=300, metavar="SECONDS", help="held-out loss, state, export")
    return p.parse_args(argv)


SHAPE = {"layers": 8, "experts": 16, "top_k": 2, "hidden": 256, "expert_hidden": 256, "heads": 4, "key_value_heads": 2}


class Training:
    """One training: model, optimizer, where each domain's windows stand, and the loop over them."""

    def __init__(self, options):
        self.options, self.work = options, options.work
        self.tokenizer, self.splits = prepare(options.text, options.work, options.vocabulary)
        self.width = 2 * options.context
        end_id, vocabulary = self.tokenizer.token_to_id(END), self.tokenizer.get_vocab_size()
        shape = {name: getattr(options, name) for name in SHAPE}
        self.model = build(shape, vocabulary, end_id, self.width, options.seed).to(compute_type())
        self.optimizer = Optimizer(self.model, MUON_RATE, ADAM_RATE)
        # At 32 bits there is nothing to compile: grouped products are traced at 16 bits only.
        self.trainee = Trainee(self.model, not options.no_compile and self.model.dtype == torch.bfloat16)
        facts = {"step": 0, "tokens": 0, "spent": 0.0, "drawn": {}, "best": None}
        self.path = self.work / "state.safetensors"
        if self.path.exists():
            tensors, facts = load_state(self.path)
            self.optimizer.restore(tensors, facts["step"])
        else:
            export(self.model, self.tokenizer, self.work / "untrained")
        self.step, self.tokens, self.best = facts["step"], facts["tokens"], facts["best"]
        self.schedule = Schedule(options.until, options.minutes, options.steps, spent=facts["spent"])
        self.windows = {
            name: Windows(**split["train"], width=self.width, seed=options.seed, drawn=facts["drawn"].get(name, 0))
            for name, split in self.splits.items()
        }
        self.stopping = False

    def batch(self):
        """Return the step's windows [B, T + 1], as many of every domain as of any other, and each one's domain."""
        units = max(len(self.windows), self.options.batch // self.width)
        names = list(self.windows)
        rows, owners = [], []
        for rank, (name, windows) in enumerate(self.windows.items()):
            # The whole batches so far decide: each domain gets its part of every unit, to the unit.
            count = (units * (self.step + 1) + rank) // len(names) - (units * self.step + rank) // len(names)
            rows.append(windows.draw(count))
            owners += [name] * count
        rows = np.concatenate(rows)
        if self.step % LONG_EVERY:
            half = self.width // 2
            rows = np.stack([rows[:, : half + 1], rows[:, half:]], 1).reshape(-1, half + 1)
            owners = [name for name in owners for _ in range(2)]
        return torch.from_numpy(rows), np.array(owners)

    def run(self):
        """Train to the end of the schedule or until told to stop. Returns whether the end was reached."""
        total, experts, active = size(self.model)
        say(f"{total / 1e6:.1f}M parameters, {experts / 1e6:.1f}M in experts, {active / 1e6:.1f}M active a token")
        for name, windows in self.windows.items():
            say(f"  {name}: {len(windows.tokens) / 1e6:.2f}M tokens, held out {self.held_out(name).size / 1e6:.2f}M")
        measured = time.time()
        while not self.stopping and self.schedule.progress(self.step) < 1.0:
            self.take_step()
            if time.time() - measured > self.options.measure_every:
                self.measure()
                measured = time.time()
        done = not self.stopping
        if done:
            self.measure()
        else:
            self.save()
        return done

    def take_step(self):
        """One batch through the model and the optimizer, and a line about it."""
        begun, scale = time.time(), self.schedule.scale(self.step)
        rows, owners = self.batch()
        losses, balance, loads = self.trainee.losses(rows)
        (losses.mean() + BALANCE * balance).backward()
        norm = self.optimizer.step(scale)
        self.step += 1
        self.tokens += losses.numel()
        of = {name: round(float(losses.detach()[owners == name].mean()), 4) for name in self.windows if name in owners}
        least = float((loads / loads.sum(1, keepdim=True)).min())
        pace = losses.numel() / (time.time() - begun)
        self.log(step=self.step, tokens=self.tokens, loss=of, rate=round(scale, 4), norm=round(norm, 3),
                 balance=round(float(balance.detach()) / len(loads), 4), least_load=round(least, 4), pace=round(pace))
        if self.step % 10 == 0 or self.step < 4:
            parts = ", ".join(f"{name} {value:.3f}" for name, value in of.items())
            left = self.schedule.left(self.step) / 60
            say(f"step {self.step}, {self.tokens / 1e6:.2f}M tokens, {pace:.0f} tokens/s, nats a token: {parts}; "
                f"rate {scale:.2f}, least expert {least:.1%}, {left:.0f} min left")

    def held_out(self, name):
        """Return the domain's held-out tokens [N]."""
        return self.splits[name]["held_out"]["tokens"]

    @torch.no_grad()
    def measure(self, count=32):
        """Measure on `count` held-out sequences a domain; keep the state, and the model if it is the best so far."""
        found = {}
        for name in self.windows:
            tokens, width = self.held_out(name), self.options.context
            starts = np.linspace(0, max(0, len(tokens) - width - 1), count).astype(int)
            rows = np.stack([np.resize(tokens[at : at + width + 1], width + 1) for at in starts]).astype(np.int64)
            parts = [self.trainee.losses(part)[0].mean() for part in torch.from_numpy(rows).split(16)]
            found[name] = round(float(torch.stack(parts).mean()), 4)
        mean = sum(found.values()) / len(found)
        better = self.best is None or mean < self.best
        if better:
            self.best = mean
            export(self.model, self.tokenizer, self.options.out)
        self.log(step=self.step, tokens=self.tokens, held_out=found, exported=better)
        say(f"held out, nats a token: {found}{'; exported' if better else ''}")
        self.save()

    def save(self):
        """Write the state that `--work` resumes from."""
        drawn = {name: windows.drawn for name, windows in self.windows.items()}
        facts = {"step": self.step, "tokens": self.tokens, "spent": self.schedule.spent, "drawn": drawn,
                 "best": self.best}
        save_state(self.path, self.optimizer.tensors(), facts)

    def log(self, **fields):
        """Append one line to the log."""
        with open(self.work / "log.jsonl", "a") as file:
            file.write(json.dumps({"seconds": round(self.schedule.spent, 1), **fields}) + "\n")

    def stop(self, *_):
        """Ask the loop to end after the step it is in."""
        self.stopping = True


def say(text):
    """Report progress."""
    print(text, file=sys.stderr, flush=True)


def main(argv=None):
    """Run the command line. Returns the exit status: 0 done, 2 unusable input, 130 interrupted (resume to go on)."""
    options = parse(argv)
    torch.set_num_threads(options.threads)
    try:
        training = Training(options)
    except (ValueError, OSError) as error:
        say(str(error))
        return 2
    handlers = {number: signal.signal(number, training.stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return 0 if training.run() else 130
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
