"""Building the engine's native library: a C++17 compiler, a few seconds, one shared library of all C++ under ``engine``.

``python -m engine.kernels.build`` builds ahead; loading builds what is missing. Built libraries carry a hash of the sources,
compiler flags and platform in their names, so a stale one is never loaded.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import platformdirs

from engine.errors import EngineError

ROOT = Path(__file__).parent.parent
"""The engine's folder: what is C++ lies beside the Python of its room, and includes by its path from here."""
# Sums must not depend on how the compiler fuses them: tiles of different shapes would then differ in the last bit. Nobody asks what a
# comparison of floats might trap on, so that loops with one may be vectorized.
_FLAGS = ("-std=c++17", "-O3", "-ffp-contract=off", "-fno-trapping-math", "-fno-math-errno", "-fPIC", "-fvisibility=hidden", "-pthread")
_X86 = {"products_avx2.cpp": ("-mavx2", "-mfma", "-mf16c")}
_COMPILERS = ("c++", "g++", "clang++")


def compiler() -> list[str] | None:
    """The command of a C++ compiler: ``CXX``, the system's, or the one that ``pip install ziglang`` brings; None where there is none."""
    found = next(filter(None, map(shutil.which, (os.environ.get("CXX", ""), *_COMPILERS))), None)
    if found:
        return [found]
    return [sys.executable, "-m", "ziglang", "c++"] if importlib.util.find_spec("ziglang") else None


def built(extra: tuple[str, ...] = ()) -> Path:
    """The library of these very sources, compiled if it is not there yet; ``extra`` flags make one of its own (sanitizers).

    Raises:
        EngineError: no compiler, or it failed; the line says what to do.
    """
    name = f"edgemoe-{_digest(extra)}{sysconfig.get_config_var('SHLIB_SUFFIX') or '.so'}"
    for folder in _folders():
        if (folder / name).is_file():
            return folder / name
    command = compiler()
    if command is None:
        raise EngineError("no C++ compiler was found; install g++ or clang++, or `pip install ziglang`, and start again")
    return _compile(command, name, extra)


def _folders() -> tuple[Path, ...]:
    """Where libraries may lie: beside the kernels' sources, or in the user's cache where that folder cannot be written."""
    return ROOT / "kernels" / "native" / "build", Path(platformdirs.user_cache_dir("edgemoe-studio", appauthor=False)) / "kernels"


def _digest(extra: tuple[str, ...]) -> str:
    digest = hashlib.sha256(repr((_FLAGS, _X86, extra, platform.machine(), sys.platform)).encode())
    for file in sorted([*ROOT.rglob("*.cpp"), *ROOT.rglob("*.h")]):
        digest.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


def _compile(command: list[str], name: str, extra: tuple[str, ...]) -> Path:
    folder = next((f for f in _folders() if _writable(f)), None)
    if folder is None:
        raise EngineError(f"the native kernels cannot be built: {_folders()[-1]} cannot be written")
    x86 = platform.machine().lower() in ("x86_64", "amd64", "i686")
    with tempfile.TemporaryDirectory(dir=folder) as work:

        def compiled(source: Path) -> Path:
            target = Path(work) / f"{source.parent.name}-{source.stem}.o"
            own = _X86.get(source.name, ()) if x86 else ()
            _run([*command, *_FLAGS, f"-I{ROOT}", *own, *extra, "-c", str(source), "-o", str(target)])
            return target

        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            objects = list(pool.map(compiled, sorted(ROOT.rglob("*.cpp"))))
        library = Path(work) / name
        _run([*command, "-shared", "-pthread", *extra, *map(str, objects), "-o", str(library)])
        library.replace(folder / name)  # whole or not at all: another process may be building the same
    return folder / name


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        first = next((line for line in lines if "error" in line), lines[0])
        raise EngineError(f"the native kernels could not be compiled by {command[0]} ({first})")


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


if __name__ == "__main__":
    try:
        print(f"Native kernels: {built().name}", file=sys.stderr)
    except EngineError as error:  # not fatal: experts then run through torch
        print(f"Native kernels are not built: {error}", file=sys.stderr)
