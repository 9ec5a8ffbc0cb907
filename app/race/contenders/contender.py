"""What every contender has in common: whether it can race here, the files it needs, and the process it races in."""

from __future__ import annotations

import importlib.util
import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from engine.settings import Value

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Job:
    """One turn of one contender, as its process is told: the same prompt, tokens and threads for all."""

    weights: str  # file or folder that ``prepare`` made
    prompt: list[int]
    tokens: int
    threads: int
    bits: int
    scratch: str  # a folder for files of its own
    memory: int = 0  # bytes that the process is held to, 0 for no limit
    settings: dict[str, Value] = field(default_factory=dict)  # of our engine

    @classmethod
    def told(cls) -> Job:
        """The job this process was started for."""
        return cls(**json.loads(sys.argv[1]))

    @property
    def context(self) -> int:
        """Tokens of prompt and answer."""
        return len(self.prompt) + self.tokens


@dataclass(frozen=True)
class Course:
    """What is raced on: a checkpoint, and the folder where the files made of it are kept."""

    model: Path
    work: Path
    name: str
    architecture: str  # as config.json names it

    def file(self, suffix: str) -> Path:
        """Where something made of the checkpoint is kept."""
        return self.work / f"{self.name}{suffix}"


class Contender(ABC):
    """One engine with one way to use it."""

    name: str
    about: str
    packages: tuple[str, ...] = ()  # to import, where they are not this program's own
    module: str  # what its process runs

    def unavailable(self, course: Course, bits: int) -> str:
        """Why it cannot race on this course; "" where it can."""
        missing = [package for package in self.packages if importlib.util.find_spec(package) is None]
        return f"{' and '.join(missing)} not installed (requirements-bench.txt)" if missing else ""

    def bits(self, bits: int) -> int:
        """The width it races at where ``bits`` is asked for."""
        return bits

    @abstractmethod
    def weights(self, course: Course, bits: int) -> Path:
        """The file or folder that it reads."""

    @abstractmethod
    def prepare(self, course: Course, bits: int, progress: Progress) -> None:
        """Make that file or folder, if it is not there yet.

        Raises:
            EngineError: it cannot be made.
        """

    def settings(self, given: dict[str, Value]) -> dict[str, Value]:
        """Our engine's settings that it wants, where ``given`` are asked for; other engines have none."""
        return {}

    def command(self, job: Job) -> list[str]:
        """The process to start."""
        return [sys.executable, "-m", self.module, json.dumps(asdict(job))]
