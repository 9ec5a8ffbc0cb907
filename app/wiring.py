"""The one place where the panels of the window are put together."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import Any

from engine.recording.recording import Recording
from views.panel import Panel
from views.selection import Selection
from views.theme import Theme
from views.tuning_model import TuningModel

_PLACES = {
    "text": ("views.text", "TextPanel"), "grid": ("views.grid", "GridPanel"), "timeline": ("views.timeline", "TimelinePanel"),
    "latency": ("views.latency", "LatencyPanel"), "cache": ("views.cache", "CachePanel"), "memory": ("views.memory", "MemoryPanel"),
    "tuning": ("views.tuning", "TuningPanel"), "inspector": ("views.inspector", "InspectorPanel"),
}  # fmt: skip


def build_panels(recording: Recording, selection: Selection, settings: TuningModel, theme: Theme) -> dict[str, Panel]:
    """Every panel by its key, in the order of the View menu."""
    panels = {}
    for key, (module, name) in _PLACES.items():
        if find_spec(module) is not None:
            panels[key] = getattr(importlib.import_module(module), name)(recording, selection, settings, theme)
    return panels


def build_readouts(recording: Recording, selection: Selection, settings: TuningModel, theme: Theme) -> Any:
    """The strip of figures under the toolbar."""
    if find_spec("views.readouts") is None:
        return None
    return importlib.import_module("views.readouts").Readouts(recording, selection, settings, theme)
