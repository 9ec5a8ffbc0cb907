"""Running a process inside a memory limit that is real: a cgroup of its own, of version 1 or 2, where the system allows one."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
_DROP = Path("/proc/sys/vm/drop_caches")
_GONE_SECONDS = 5.0
_BOUNDLESS = 10**12


@dataclass(frozen=True)
class Ending:
    """How a run in a cage ended. ``peak`` and ``read`` are bytes of the whole cage by the kernel's count, -1 where unknown."""

    status: int
    peak: int = -1
    read: int = -1
    out_of_memory: bool = False
    timed_out: bool = False
    said: str = ""  # the last line on its stderr


class Cage(ABC):
    """One cgroup; ``close`` removes it. Processes put in stay in, with all they start."""

    def __init__(self, folders: list[Path]) -> None:
        self._folders = folders
        for folder in folders:
            folder.mkdir()

    @property
    def doors(self) -> list[Path]:
        """Files that a process writes its id to in order to be inside."""
        return [folder / "cgroup.procs" for folder in self._folders]

    @abstractmethod
    def hold(self, memory: int, read_rate: int, device: str) -> None:
        """Limit to ``memory`` bytes and ``read_rate`` bytes a second from ``device`` (major:minor); 0 for no limit."""

    @abstractmethod
    def peak(self) -> int: ...

    @abstractmethod
    def read(self) -> int: ...

    @abstractmethod
    def killed(self) -> bool:
        """Whether something in it was killed because memory ran out."""

    def close(self) -> None:
        """End what is left inside, and remove the cgroup."""
        until = time.monotonic() + _GONE_SECONDS
        for folder in self._folders:
            while folder.exists() and time.monotonic() < until:
                for line in _text(folder / "cgroup.procs").split():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(line), signal.SIGKILL)
                with contextlib.suppress(OSError):
                    folder.rmdir()
                    break
                time.sleep(0.02)


class CageV1(Cage):
    """Memory and block I/O are hierarchies of their own."""

    def __init__(self, name: str) -> None:
        super().__init__([ROOT / "memory" / name, ROOT / "blkio" / name])
        self._memory, self._block = self._folders

    def hold(self, memory: int, read_rate: int, device: str) -> None:
        if memory:
            (self._memory / "memory.limit_in_bytes").write_text(str(memory))
            with contextlib.suppress(OSError):  # no swap accounting: no swap to flee to is then the system's business
                (self._memory / "memory.memsw.limit_in_bytes").write_text(str(memory))
        # A rule even where there is no limit: without one the kernel does not count.
        (self._block / "blkio.throttle.read_bps_device").write_text(f"{device} {read_rate or _BOUNDLESS}")

    def peak(self) -> int:
        return int(_text(self._memory / "memory.max_usage_in_bytes") or -1)

    def read(self) -> int:
        lines = _text(self._block / "blkio.throttle.io_service_bytes").splitlines()
        return sum(int(line.split()[2]) for line in lines if " Read " in line) if lines else -1

    def killed(self) -> bool:
        return _field(_text(self._memory / "memory.oom_control"), "oom_kill") > 0


class CageV2(Cage):
    """One hierarchy; the controllers wanted have to be passed down to it first."""

    def __init__(self, name: str) -> None:
        for controller in ("+memory", "+io"):
            with contextlib.suppress(OSError):
                (ROOT / "cgroup.subtree_control").write_text(controller)
        super().__init__([ROOT / name])
        self._folder = self._folders[0]
        if not (self._folder / "memory.max").exists():
            self.close()
            raise OSError("its memory controller is not passed down")

    def hold(self, memory: int, read_rate: int, device: str) -> None:
        if memory:
            (self._folder / "memory.max").write_text(str(memory))
            with contextlib.suppress(OSError):
                (self._folder / "memory.swap.max").write_text("0")
        if read_rate:
            (self._folder / "io.max").write_text(f"{device} rbps={read_rate}")

    def peak(self) -> int:
        return int(_text(self._folder / "memory.peak") or -1)

    def read(self) -> int:
        words = _text(self._folder / "io.stat").split()
        found = [int(word.removeprefix("rbytes=")) for word in words if word.startswith("rbytes=")]
        return sum(found) if found else -1

    def killed(self) -> bool:
        return _field(_text(self._folder / "memory.events"), "oom_kill") > 0


def open_cage(memory: int, read_rate: int = 0, on: Path = Path("/")) -> tuple[Cage | None, str]:
    """A cage of that size, or None and why the system allows none."""
    name = f"edgemoe-race-{os.getpid()}-{time.monotonic_ns()}"
    try:
        cage = CageV2(name) if (ROOT / "cgroup.controllers").exists() else CageV1(name)
    except OSError as error:
        return None, f"no memory cgroup can be made ({error.strerror or error}); it takes root"
    try:
        cage.hold(memory, read_rate, _disk_of(on))
    except OSError as error:
        cage.close()
        return None, f"the cgroup takes no such limit ({error.strerror or error})"
    return cage, ""


def run_in(cage: Cage | None, command: list[str], cwd: Path, seconds: float, told: Callable[[str], None]) -> Ending:
    """Run ``command`` to its end, at most ``seconds``; ``told`` gets each line of its stdout as it comes.

    An interrupt ends the process too.
    """
    enter = "".join(f"echo $$ > '{door}' && " for door in (cage.doors if cage else [])) + 'exec "$@"'
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            ["sh", "-c", enter, "sh", *command], cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
            start_new_session=True,
        )  # fmt: skip
        try:
            in_time = _listen(process, time.monotonic() + seconds, told)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            status = process.wait()
            process.stdout.close()  # type: ignore[union-attr]
        errors.seek(0)
        lines = errors.read().decode("utf-8", "replace").strip().splitlines()
    said = lines[-1] if lines else ""
    if cage is None:
        return Ending(status, timed_out=not in_time, said=said)
    return Ending(status, cage.peak(), cage.read(), cage.killed(), not in_time, said)


def _listen(process: subprocess.Popen[bytes], until: float, told: Callable[[str], None]) -> bool:
    """Pass lines on until the process ends; False where time ran out first."""
    pending = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)  # type: ignore[arg-type]
        while (left := until - time.monotonic()) > 0:
            if not selector.select(min(left, 0.5)):
                continue
            chunk = os.read(process.stdout.fileno(), 1 << 16)  # type: ignore[union-attr]
            if not chunk:
                process.wait(_GONE_SECONDS)
                return True
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                told(line.decode("utf-8", "replace"))
    return False


def drop_caches() -> str:
    """Empty the page cache, so that everyone starts from the disk; why not, where the system does not allow it."""
    os.sync()
    try:
        _DROP.write_text("3")
    except OSError as error:
        return f"the page cache was not dropped before each turn ({error.strerror}); it takes root"
    return ""


def _disk_of(path: Path) -> str:
    """The disk (not the partition) that holds ``path``, as major:minor."""
    device = path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    block = Path(f"/sys/dev/block/{number}")
    whole = block.resolve().parent / "dev"
    return _text(whole).strip() if (block / "partition").exists() and whole.exists() else number


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii")
    except OSError:
        return ""


def _field(text: str, name: str) -> int:
    return next((int(line.split()[1]) for line in text.splitlines() if line.split()[:1] == [name]), 0)
