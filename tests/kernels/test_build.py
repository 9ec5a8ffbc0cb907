"""Where no compiler is found everything runs through torch, and says so; a library is of its very sources."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

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
    library.cache_clear()
    yield tmp_path
    library.cache_clear()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("store")
    save_random("Olmoe", folder / "model")
    return convert(folder / "model", folder / "store")


def told(store: Store, bits: int) -> tuple[list[int], Session]:
    """The tokens of a request, and the closed session they came from."""
    session = Session(store, {"temperature": 0.0, "ignore_eos": True, "max_tokens": 24, "budget": "40%", "bits": bits})
    try:
        return generate(session), session
    finally:
        session.close()


def test_without_a_compiler_torch_says_the_same(store: Store, nothing_built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, session = told(store, 16)
    info = session.info()
    assert (info.kernel, info.decode) == ("torch", "transformers")
    assert info.kernel_note.startswith("Native kernels are not built: no C++ compiler was found; install g++")
    told(store, 4)
    with pytest.raises(EngineError, match=r"no C\+\+ compiler"):
        Native()
    assert not list(nothing_built.rglob("edgemoe*"))

    monkeypatch.undo()
    library.cache_clear()
    natively, session = told(store, 16)
    assert (session.info().decode, session.info().kernel_note) == ("native", "")
    assert natively == tokens


def test_a_compiler_that_fails_leaves_nothing(nothing_built: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = nothing_built / "broken"
    compiler.write_text("#!/bin/sh\necho 'x.cpp:1: error: no space left' >&2\nexit 1\n")
    compiler.chmod(compiler.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("CXX", str(compiler))
    with pytest.raises(EngineError, match=r"could not be compiled by .*broken \(x\.cpp:1: error: no space left\)"):
        built()
    assert list((nothing_built / "build").iterdir()) == []
    assert "could not be compiled" in told(store, 4)[1].info().kernel_note


def test_a_library_that_cannot_be_loaded_is_told(nothing_built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = nothing_built / "broken.so"
    broken.write_bytes(b"not a library")
    monkeypatch.setattr("engine.kernels.library.built", lambda: broken)
    with pytest.raises(EngineError, match="cannot be loaded"):
        Native()


@pytest.mark.skipif(os.name != "posix", reason="folders are closed by their mode")
def test_where_the_sources_cannot_be_written_the_users_cache_is(nothing_built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    (nothing_built / "closed").write_text("a file is no folder")
    monkeypatch.setattr(build, "_folders", lambda: (nothing_built / "closed", nothing_built / "cache"))
    if not any(map(build.shutil.which, build._COMPILERS)):
        pytest.skip("there is no C++ compiler")
    made = built(("-O0",))
    assert made.parent == nothing_built / "cache" and built(("-O0",)) == made
    assert [file.name for file in made.parent.iterdir()] == [made.name]


def test_a_changed_source_is_another_library(nothing_built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = nothing_built / "a.cpp"
    source.write_text("int a;")
    monkeypatch.setattr(build, "SOURCES", nothing_built)
    first = build._digest(())
    assert build._digest(("-O0",)) != first
    source.write_text("int b;")
    assert build._digest(()) != first

