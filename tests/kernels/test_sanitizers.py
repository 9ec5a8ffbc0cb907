"""The native code under the compiler's sanitizers: no address, no overflow, no race out of order in anything it does (driver.cpp).

Threads are not mixed with the others, as the compilers want it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from engine.errors import EngineError
from engine.kernels.build import ROOT, built, compiler

DRIVER = Path(__file__).parent / "driver.cpp"
OPTIONS = {"ASAN_OPTIONS": "detect_leaks=1", "UBSAN_OPTIONS": "print_stacktrace=1", "TSAN_OPTIONS": "halt_on_error=1"}


@pytest.mark.skipif(sys.platform != "linux", reason="linked as on Linux")
@pytest.mark.parametrize(("sanitizers", "parts"), [
    ("address,undefined", ("products", "tops", "threads", "experts", "loaders", "decoders")),
    ("thread", ("threads", "loaders", "decoders")),
])  # fmt: skip
def test_nothing_is_reported(sanitizers: str, parts: tuple[str, ...], tmp_path: Path) -> None:
    command = compiler()
    if command is None:
        pytest.skip("there is no C++ compiler")
    flags = ("-Og", "-g1", f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all")
    (tmp_path / "probe.cpp").write_text("int main() { return 0; }")
    probe = subprocess.run([*command, *flags, str(tmp_path / "probe.cpp"), "-o", str(tmp_path / "probe")], capture_output=True, check=False)
    if probe.returncode or subprocess.run([str(tmp_path / "probe")], capture_output=True, check=False).returncode:
        pytest.skip(f"{command[0]} has no {sanitizers} sanitizer that runs here")
    library = built(flags)
    driver = tmp_path / "driver"
    linking = [f"-I{ROOT}", str(DRIVER), str(library), f"-Wl,-rpath,{library.parent}", "-o", str(driver)]
    made = subprocess.run([*command, "-std=c++17", *flags, *linking], capture_output=True, text=True, check=False)
    assert not made.returncode, made.stderr
    ran = subprocess.run([str(driver), *parts], env=OPTIONS, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0 and ran.stdout == "all well\n", ran.stderr[:4000]
    assert not ran.stderr, ran.stderr[:4000]


def test_a_compiler_that_fails_is_told_in_one_line() -> None:
    with pytest.raises(EngineError, match=r"could not be compiled by \S+ \(.*no-such-option.*\)$"):
        built(("-fno-such-option",))
