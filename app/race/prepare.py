"""Making the files of a race, in a process of its own: what it loads for that is then in no contender's memory."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.demo import PROJECT
from app.progress import Bar
from app.race.contenders import CONTENDERS, Course
from engine.errors import Cancelled, EngineError

STEPS = 512
"""Tokens of the cycle of a synthetic model, where its hidden size allows as many."""

_INTERRUPTED = 130


@dataclass(frozen=True)
class Making:
    """What to make: the course's checkpoint where a ``shape`` says how, and the files of these contenders."""

    course: Course
    contenders: tuple[str, ...]
    bits: int
    shape: str = ""  # name or file of a shape
    routing: str = ""  # file of a recorded routing; drawn where there is none
    seed: int = 0


def make_in_process(making: Making) -> None:
    """Make what is missing, with progress on stderr.

    Raises:
        EngineError: it cannot be made; the reason is on stderr already where the process told it.
        Cancelled: it was interrupted.
    """
    course = making.course
    told = {
        "model": str(course.model), "work": str(course.work), "name": course.name, "architecture": course.architecture,
        "contenders": making.contenders, "bits": making.bits, "shape": making.shape, "routing": making.routing, "seed": making.seed,
    }  # fmt: skip
    done = subprocess.run([sys.executable, "-m", __name__, json.dumps(told)], cwd=PROJECT, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, text=True, check=False)  # fmt: skip
    if done.returncode == _INTERRUPTED:
        raise Cancelled
    if done.returncode:
        raise EngineError(done.stdout.strip() or "The files of the race could not be made")


def make(making: Making) -> None:
    """Make what is missing, here."""
    from app.race.checkpoint import make_checkpoint
    from app.race.routing import Routing, draw_routing, load_routing
    from app.race.shapes import shape_named

    course = making.course
    course.work.mkdir(parents=True, exist_ok=True)
    with Bar() as bar:
        if making.shape and not course.model.is_dir():
            _, shape = shape_named(making.shape)
            steps = min(STEPS, int(shape["hidden_size"]) * 3 // 4)

            def plan(layers: int, experts: int, top_k: int) -> Routing:
                if making.routing:
                    return load_routing(Path(making.routing), steps, layers, experts, top_k, making.seed)
                return draw_routing(steps, layers, experts, top_k, making.seed)

            make_checkpoint(course.model, shape, plan, making.seed, bar.show)
        for name in making.contenders:
            CONTENDERS[name].prepare(course, making.bits, bar.show)


def main() -> int:
    """What the process does: 0 made, 2 it cannot be (one line on stdout says why), or interrupted."""
    told: dict[str, Any] = json.loads(sys.argv[1])
    course = Course(Path(told.pop("model")), Path(told.pop("work")), told.pop("name"), told.pop("architecture"))
    try:
        make(Making(course, **told))
    except EngineError as error:
        print(error)
        return 2
    except (Cancelled, KeyboardInterrupt):
        return _INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
