"""The tuning panel: generated rows, requests, refusals, the budget's slider."""

from __future__ import annotations

import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QWheelEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QComboBox, QLabel, QLineEdit, QSlider, QSpinBox

from engine.settings import BY_NAME, SETTINGS, parse_budget, parse_size
from views.theme import DARK
from views.throttle import Throttle
from views.tuning import TuningPanel
from views.tuning_budget import STEPS, BytesEditor, slider_position, slider_text
from views.tuning_model import TuningModel
from views.tuning_row import INTERVAL

LOW, HIGH = 3_000_001, 48_999_999


def texts(panel: TuningPanel, name: str) -> list[str]:
    return [label.text() for label in panel.rows[name].findChildren(QLabel) if label.isVisible()]


def asked(model: TuningModel) -> list[tuple[str, object]]:
    """What the panel asks for from now on, in order."""
    requests: list[tuple[str, object]] = []
    model.requested.connect(lambda name, value: requests.append((name, value)))
    return requests


def test_every_setting_has_a_row_with_help_and_effect(make_panel) -> None:
    panel = make_panel(TuningPanel, size=(420, 900))
    assert list(panel.rows) == [setting.name for setting in SETTINGS]
    for setting in SETTINGS:
        row = panel.rows[setting.name]
        assert setting.title in texts(panel, setting.name)
        assert str(setting.effect) in texts(panel, setting.name)
        assert setting.help in row.editor.toolTip()
        assert setting.help in row.editor.whatsThis()
        assert row.editor.focusProxy().accessibleName() == setting.title


@pytest.mark.parametrize("position", [0, 1, 17, STEPS // 2, STEPS - 1, STEPS])
def test_slider_stays_within_the_budgets_that_work(position: int) -> None:
    size = parse_size(slider_text(position, LOW, HIGH))
    assert LOW <= size <= HIGH
    assert abs(slider_position(size, LOW, HIGH) - position) <= 2


def test_the_least_budget_is_the_sliders_lower_end(qtbot) -> None:
    editor = BytesEditor(BY_NAME["budget"])
    qtbot.addWidget(editor)
    editor.set_range((LOW, HIGH))
    editor.show_value("50%")
    slider = editor.findChild(QSlider)
    assert 0 < slider.value() < STEPS
    editor.show_value("least")
    assert slider.value() == 0


def test_slider_ends_are_exact() -> None:
    assert parse_size(slider_text(0, LOW, HIGH)) == LOW
    assert parse_size(slider_text(STEPS, LOW, HIGH)) == HIGH


def test_budget_takes_sizes_and_shares(make_panel, qtbot) -> None:
    panel = make_panel(TuningPanel)
    requests = asked(panel.settings)
    line = panel.rows["budget"].findChild(QLineEdit)
    for text in ("12MiB", "30%"):
        line.selectAll()
        QTest.keyClicks(line, text)
        QTest.keyClick(line, Qt.Key.Key_Return)
        qtbot.wait(INTERVAL + 20)
    assert requests == [("budget", "12MiB"), ("budget", "30%")]


def test_effective_value_is_shown_only_where_it_differs(make_panel) -> None:
    panel = make_panel(TuningPanel, size=(420, 900))
    panel.settings.accept("budget", "25%", 12_345_678)
    panel.settings.accept("dtype", "auto", "float32")
    panel.settings.accept("memory_limit", "1GiB", 2**30)
    assert "= 11.8 MiB in force" in texts(panel, "budget")
    assert "= float32 in force" in texts(panel, "dtype")
    assert not any("in force" in text for text in texts(panel, "memory_limit"))


def test_a_budget_under_one_token_cycle_is_flagged_with_the_smallest_that_is_not(make_panel) -> None:
    model, mib = TuningModel(), 1 << 20
    model.budget_range, model.cycle = (mib, 48 * mib), 6 * mib + 1
    panel = make_panel(TuningPanel, settings=model, size=(420, 900))
    model.accept("budget", "10%", 48 * mib // 10)
    flags = [text for text in texts(panel, "budget") if text.startswith("⚠")]
    assert len(flags) == 1 and flags[0].endswith("6.01MiB, 12.6%")  # rounded up: what is read there is not flagged again
    assert DARK.warning in panel.rows["budget"]._flag.styleSheet()
    for text in ("6.01MiB", "12.6%"):
        model.accept("budget", text, parse_budget(text, 48 * mib, 0))
        assert not any("⚠" in text for text in texts(panel, "budget"))


def test_units_stand_behind_numbers_alone(make_panel) -> None:
    panel = make_panel(TuningPanel)
    for name, shown in (("preload_depth", ["auto", "1 layer", "2 layers"]), ("preload_width", ["auto", "1 expert", "2 experts"])):
        box = panel.rows[name].findChild(QComboBox)
        assert [box.itemText(place) for place in range(3)] == shown
        assert "Default: auto." in box.toolTip()
    assert BY_NAME["pace"].with_unit(1.0) == "1.0 tokens/s"


def test_refused_change_returns_and_says_why(make_panel) -> None:
    model = TuningModel()
    panel = make_panel(TuningPanel, settings=model, size=(420, 900))
    model.requested.connect(lambda name, value: model.refuse(name, "the smallest that works is 3 MiB"))
    line = panel.rows["budget"].findChild(QLineEdit)
    line.selectAll()
    QTest.keyClicks(line, "1KiB")
    QTest.keyClick(line, Qt.Key.Key_Return)
    assert line.text() == "25%"
    assert "⚠ the smallest that works is 3 MiB" in texts(panel, "budget")
    model.accept("budget", "50%", 24_000_000)
    assert line.text() == "50%"
    assert not any("⚠" in text for text in texts(panel, "budget"))


def test_text_that_is_no_value_never_reaches_the_engine(make_panel) -> None:
    panel = make_panel(TuningPanel)
    requests = asked(panel.settings)
    line = panel.rows["budget"].findChild(QLineEdit)
    line.selectAll()
    QTest.keyClicks(line, "much")
    QTest.keyClick(line, Qt.Key.Key_Return)
    assert requests == []
    assert line.text() == "25%"
    assert any("'much' is not a size" in text for text in texts(panel, "budget"))


def test_dragging_asks_at_most_ten_times_a_second_and_ends_at_the_last_value(make_panel, qtbot) -> None:
    model = TuningModel()
    model.budget_range = (LOW, HIGH)
    panel = make_panel(TuningPanel, settings=model)
    requests = asked(model)
    slider = panel.rows["budget"].findChild(QSlider)
    assert slider.isVisible()
    slider.setSliderDown(True)
    for position in range(100, 400, 3):
        slider.setSliderPosition(position)
        qtbot.wait(3)
    slider.setSliderDown(False)
    qtbot.wait(INTERVAL + 50)
    assert 2 <= len(requests) <= 12
    assert requests[-1] == ("budget", slider_text(397, LOW, HIGH))


def test_answers_do_not_move_a_slider_that_is_held(make_panel) -> None:
    model = TuningModel()
    model.budget_range = (LOW, HIGH)
    panel = make_panel(TuningPanel, settings=model)
    slider = panel.rows["budget"].findChild(QSlider)
    slider.setSliderDown(True)
    slider.setSliderPosition(900)
    model.accept("budget", "10%", LOW)
    assert slider.sliderPosition() == 900
    slider.setSliderDown(False)


def test_numbers_and_choices_keep_their_type(make_panel, qtbot) -> None:
    panel = make_panel(TuningPanel)
    requests = asked(panel.settings)
    spin = panel.rows["io_threads"].findChild(QSpinBox)
    QTest.keyClick(spin, Qt.Key.Key_Up)
    box = panel.rows["bits"].findChild(QComboBox)
    QTest.keyClick(box, Qt.Key.Key_Down)
    QTest.keyClick(panel.rows["verify"].editor.focusProxy(), Qt.Key.Key_Space)
    assert requests == [("io_threads", 5), ("bits", 8), ("verify", False)]
    assert [type(value) for _, value in requests] == [int, int, bool]


def test_offered_choices_can_be_chosen(make_panel) -> None:
    panel = make_panel(TuningPanel)
    requests = asked(panel.settings)
    panel.settings.offer("device", ("native", "sd-card"))  # declared without choices: they come from a folder
    QTest.keyClick(panel.rows["device"].findChild(QComboBox), Qt.Key.Key_Down)
    assert requests == [("device", "sd-card")]


def test_filter_finds_by_help_and_hides_empty_groups(make_panel) -> None:
    panel = make_panel(TuningPanel, size=(420, 900))
    panel.filter.setText("checksum")
    assert [name for name, row in panel.rows.items() if row.isVisible()] == ["verify"]
    panel.filter.setText("no such thing")
    assert not any(row.isVisible() for row in panel.rows.values())
    assert any(label.text() == "No setting matches." for label in panel.findChildren(QLabel) if label.isVisible())


def test_default_button_asks_for_the_default(make_panel) -> None:
    model = TuningModel()
    model.accept("temperature", 0.2, 0.2)
    panel = make_panel(TuningPanel, settings=model, size=(420, 900))
    requests = asked(model)
    panel.rows["temperature"]._default.click()
    assert requests == [("temperature", 0.8)]
    assert not panel.rows["seed"]._default.isVisible()


def test_recorded_session_cannot_be_changed_and_says_so(make_panel) -> None:
    model = TuningModel()
    model.read_only = True
    panel = make_panel(TuningPanel, settings=model)
    assert not any(row.editor.isEnabled() for row in panel.rows.values())
    assert any("recorded session" in label.text() for label in panel.findChildren(QLabel) if label.isVisible())


def test_wheel_scrolls_the_panel_and_not_the_values(make_panel, qtbot) -> None:
    panel = make_panel(TuningPanel)
    spin = panel.rows["io_threads"].findChild(QSpinBox)
    panel.filter.setFocus()
    none, flags = Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier
    event = QWheelEvent(QPointF(5, 5), QPointF(5, 5), QPoint(), QPoint(0, 120), none, flags, Qt.ScrollPhase.NoScrollPhase, False)
    QApplication.sendEvent(spin, event)
    assert spin.value() == 4


def test_throttle_gives_the_first_at_once_and_the_newest_later(qtbot, qapp) -> None:
    throttle = Throttle(INTERVAL, qapp)
    given: list[object] = []
    throttle.ready.connect(given.append)
    for value in range(5):
        throttle.offer(value)
    assert given == [0]
    qtbot.waitUntil(lambda: given == [0, 4], timeout=1000)
    throttle.deleteLater()


def test_no_text_is_clipped_in_a_narrow_dock(make_panel, theme) -> None:
    panel = make_panel(TuningPanel, theme=theme, size=(320, 700))
    for name, row in panel.rows.items():
        for label in row.findChildren(QLabel):
            if label.isVisible() and not label.wordWrap():
                assert label.sizeHint().width() <= label.width(), (name, label.text())
        right = max(child.geometry().right() for child in row.findChildren(QLabel) if child.isVisible())
        assert right <= row.width()
