"""Where no compiler is found the engine says what to install; a library is of its very sources."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import binding
from engine.errors import EngineError
from engine.kernels import build
from engine.kernels.build import built
from engine.kernels.library import Native, library
from engine.session import Session
from engine.store import Store, convert
from tests.models.families import save_random
from tests.session.conftest import generate


@pytest.fixture
def nothing_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """No library has been built, and there is no compiler."""
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(build, "_folders", lambda: (tmp_path / "build", tmp_path / "cache"))
    forget()
    yield tmp_path
    forget()


def forget() -> None:
    library.cache_clear()
    binding.loaded.cache_clear()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("store")
    save_random("Olmoe", folder / "model")
    return convert(folder / "model", folder / "store")


def told(store: Store, bits: int, kernels: str = "auto") -> tuple[list[int], Session]:
    """The tokens of a request, and the closed session they came from."""
    session = Session(store, {"temperature": 0.0, "ignore_eos": True, "max_tokens": 24, "budget": "40%", "bits": bits, "kernels": kernels})
    try:
        return generate(session), session
    finally:
        session.close()


def test_without_a_compiler_one_line_says_what_to_install(store: Store, nothing_built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build.importlib.util, "find_spec", lambda name: None)
    for bits in (16, 4):
        with pytest.raises(EngineError, match=r"no C\+\+ compiler was found; install g\+\+ or clang\+\+, or `pip install ziglang`"):
            told(store, bits)
    assert not list(nothing_built.rglob("edgemoe*"))
    monkeypatch.setattr(build.importlib.util, "find_spec", lambda name: name)
    assert build.compiler() == [sys.executable, "-m", "ziglang", "c++"]


def test_torch_says_the_same_as_native_kernels(store: Store) -> None:
    natively, session = told(store, 16)
    assert session.info().decode == "native"
    through_torch, session = told(store, 16, kernels="torch")
    assert (session.info().kernel, session.info().decode) == ("torch", "transformers")
    assert natively == through_torch


def test_a_compiler_that_fails_leaves_nothing(nothing_built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = nothing_built / "broken"
    compiler.write_text("#!/bin/sh\necho 'x.cpp:1: error: no space left' >&2\nexit 1\n")
    compiler.chmod(compiler.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("CXX", str(compiler))
    with pytest.raises(EngineError, match=r"could not be compiled by .*broken \(x\.cpp:1: error: no space left\)"):
        built()
    assert list((nothing_built / "build").iterdir()) == []


def test_a_library_that_cannot_be_loaded_is_told(nothing_built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = nothing_built / "broken.so"
    broken.write_bytes(b"not a library")
    monkeypatch.setattr(binding, "built", lambda: broken)
    with pytest.raises(EngineError, match="cannot be loaded"):
        Native()


@pytest.mark.skipif(os.name != "posix", reason="folders are closed by their mode")
def test_where_the_sources_cannot_be_written_the_users_cache_is(nothing_built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    (nothing_built / "closed").write_text("a file is no folder")
    monkeypatch.setattr(build, "_folders", lambda: (nothing_built / "closed", nothing_built / "cache"))
    if not any(map(build.shutil.which, build._COMPILERS)):
        pytest.skip("there is no C++ compiler")
    (nothing_built / "a.cpp").write_text("int a;")
    monkeypatch.setattr(build, "ROOT", nothing_built)
    made = built(("-O0",))
    assert made.parent == nothing_built / "cache" and built(("-O0",)) == made
    assert [file.name for file in made.parent.iterdir()] == [made.name]


def test_a_changed_source_is_another_library(nothing_built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = nothing_built / "a.cpp"
    source.write_text("int a;")
    monkeypatch.setattr(build, "ROOT", nothing_built)
    first = build._digest(())
    assert build._digest(("-O0",)) != first
    source.write_text("int b;")
    assert build._digest(()) != first

