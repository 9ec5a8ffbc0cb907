"""Changes on the undo stack, and refusals that take them off again."""

import pytest

from app import undo
from app.undo import ChangeStack
from engine.settings import Value, defaults


class Engine:
    """Takes every change except those in ``refusing``; answers when told to."""

    def __init__(self) -> None:
        self.values: dict[str, Value] = defaults()
        self.wanted: dict[str, Value] = defaults()
        self.refusing: tuple[Value, ...] = ()
        self.sent: list[tuple[str, Value]] = []
        self.waiting: list[tuple[str, Value]] = []
        self.stack = ChangeStack(self.take, lambda: self.wanted)

    def take(self, name: str, value: Value) -> None:
        self.sent.append((name, value))
        self.waiting.append((name, value))
        self.wanted[name] = value

    def answer(self) -> None:
        waiting, self.waiting = self.waiting, []
        for name, value in waiting:
            if value in self.refusing:
                if self.wanted[name] == value:
                    self.wanted[name] = self.values[name]
                self.stack.refused(name, value, self.values[name])
            else:
                self.values[name] = value
                self.stack.accepted(name, value)


@pytest.fixture
def engine(qapp) -> Engine:
    return Engine()


def test_undo_and_redo_send_both_values(engine: Engine) -> None:
    engine.stack.change("bits", 2)
    engine.answer()
    assert engine.stack.undoText() == "Expert bits: 4 bits → 2 bits"
    engine.stack.step_back()
    engine.stack.step_forth()
    engine.answer()
    assert engine.sent == [("bits", 2), ("bits", 4), ("bits", 2)]
    assert engine.values["bits"] == 2


def test_refused_change_leaves_the_stack(engine: Engine) -> None:
    engine.refusing = ("1",)
    engine.stack.change("bits", 2)
    engine.stack.change("budget", "1")
    engine.answer()
    assert (engine.stack.count(), engine.stack.undoText()) == (1, "Expert bits: 4 bits → 2 bits")
    engine.stack.step_back()
    assert engine.sent[-1] == ("bits", 4)


def test_refused_below_another_is_skipped(engine: Engine) -> None:
    engine.refusing = ("1",)
    engine.stack.change("seed", 7)
    engine.stack.change("budget", "1")
    engine.stack.change("bits", 2)
    engine.answer()
    engine.stack.step_back()
    engine.stack.step_back()
    assert engine.sent[3:] == [("bits", 4), ("seed", 0)]


def test_dragged_slider_is_one_step(engine: Engine) -> None:
    for value in ("10MiB", "9MiB", "8MiB"):
        engine.stack.change("budget", value)
        engine.answer()
    assert engine.stack.count() == 1
    engine.stack.step_back()
    assert engine.sent[-1] == ("budget", "25%")


def test_drag_into_what_is_refused_ends_where_it_held(engine: Engine) -> None:
    engine.refusing = ("1",)
    engine.stack.change("budget", "10MiB")
    engine.stack.change("budget", "1")
    engine.answer()
    assert engine.stack.undoText() == "Expert budget: 25% → 10MiB"
    engine.stack.step_back()
    engine.stack.step_forth()
    assert engine.sent[-2:] == [("budget", "25%"), ("budget", "10MiB")]


def test_slow_changes_are_steps_of_their_own(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(undo, "MERGE_S", -1.0)
    engine.stack.change("seed", 1)
    engine.stack.change("seed", 2)
    assert engine.stack.count() == 2


def test_profile_is_one_step_without_what_was_refused(engine: Engine) -> None:
    engine.refusing = ("1",)
    engine.stack.change_all("Profile board", {"bits": 8, "budget": "1", "seed": 0})
    engine.answer()
    assert (engine.stack.count(), engine.stack.undoText()) == (1, "Profile board")
    engine.stack.step_back()
    assert engine.sent == [("bits", 8), ("budget", "1"), ("bits", 4)]


def test_profile_refused_whole_is_gone(engine: Engine) -> None:
    engine.refusing = ("1",)
    engine.stack.change_all("Profile board", {"budget": "1"})
    engine.answer()
    assert engine.stack.count() == 0
