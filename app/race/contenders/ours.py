"""This engine: with the settings given, and as the paper's baselines, which are the same engine with its mechanisms off."""

from __future__ import annotations

import shutil
from pathlib import Path

from app.race.contenders.contender import Contender, Course, Job, Progress
from engine.settings import LEAST, Value

_MACHINE = ("device", "io_threads", "kernels", "dtype", "skeleton_bits")
"""Settings that a baseline takes over too: how the machine is used, not what is raced."""
_SLACK = 96 << 20
"""Bytes left to keys and values, activations and the allocator, where the budget is what a memory limit leaves."""


class Ours(Contender):
    """``fixed`` settings go before those given; a width among them goes before the race's."""

    module = __name__

    def __init__(self, name: str, about: str, **fixed: Value) -> None:
        self.name, self.about, self._fixed = name, about, fixed

    def bits(self, bits: int) -> int:
        return int(self._fixed.get("bits", bits))

    def settings(self, given: dict[str, Value]) -> dict[str, Value]:
        kept = given if not self._fixed else {name: given[name] for name in _MACHINE if name in given}
        return {**kept, **self._fixed}

    def weights(self, course: Course, bits: int) -> Path:
        """A store of the one width."""
        return course.file(f"-{self.bits(bits)}bit")

    def prepare(self, course: Course, bits: int, progress: Progress) -> None:
        from engine.store import convert, is_store
        from engine.store.format import VERSION
        from engine.store.reader import version_of

        store = self.weights(course, bits)
        if is_store(store) and version_of(store) < VERSION:
            shutil.rmtree(store)  # made here, and made again
        convert(course.model, store, (self.bits(bits),), progress=lambda told: progress(told.stage, told.done, told.total))


CONTENDERS = (
    Ours("ours", "this engine; its budget is what the memory limit leaves, or all experts"),
    Ours("io-free", "the paper's IO-FREE: 16 bits, all experts resident", bits=16, budget="100%"),
    Ours("io-qfree", "the paper's IO-QFREE: 8 bits, all experts resident", bits=8, budget="100%"),
    Ours("io-exp", "the paper's IO-EXP: 16 bits, every expert read when needed", bits=16, budget=LEAST, predictor="none"),
    Ours("io-qexp", "the paper's IO-QEXP: 4 bits, every expert read when needed", bits=4, budget=LEAST, predictor="none"),
)


def main() -> None:
    """Race, in a process of its own."""
    from app.race.meter import Meter

    job, meter = Job.told(), Meter()
    import psutil
    import torch

    from engine.residency.usage import Usage
    from engine.session import Session
    from engine.store import Store
    from engine.warm import fill
    from profiles.devices import load_devices

    store = Store.open(Path(job.weights))
    wanted = job.settings.get("budget", "")
    values = {
        "compute_threads": job.threads, **job.settings, "bits": job.bits, "temperature": 0.0, "ignore_eos": True,
        "max_tokens": job.tokens, "budget": wanted or (LEAST if job.memory else "100%"),
    }  # fmt: skip
    session = Session(store, values, load_devices(), recording=False)
    if job.memory and not wanted:  # what is in memory but experts, and what is yet to come, is taken off the limit
        left = job.memory - psutil.Process().memory_info().rss - _SLACK
        session.change("budget", str(max(session.budget.least, min(session.budget.full, left))))
    # Where the budget holds all experts they are there from the start, as the others'; else nothing is known of which are used most.
    fill(session, Usage(Path(), store.model_hash, store.spec.layers, store.spec.experts), lambda done, total: None)
    request = session.begin_ids(torch.tensor([job.prompt]))
    meter.ready(budget=session.budget.granted, threads=session.effective()["compute_threads"])
    while session.request is not None:
        meter.token(session.step() or 0)
    meter.end(budget=session.budget.granted, peak_resident=session.buffer.peak_bytes, prompt=request.prompt_length)
    session.close()


if __name__ == "__main__":
    main()
