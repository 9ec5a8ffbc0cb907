"""The one place where the panels of the window are put together."""

from __future__ import annotations

from engine.recording.recording import Recording
from views.bitwidth import BitwidthPanel
from views.cache import CachePanel
from views.grid import GridPanel
from views.inspector import InspectorPanel
from views.latency import LatencyPanel
from views.memory import MemoryPanel
from views.panel import Panel
from views.prediction import PredictionPanel
from views.readouts import Readouts
from views.selection import Selection
from views.text import TextPanel
from views.theme import Theme
from views.timeline import TimelinePanel
from views.tuning import TuningPanel
from views.tuning_model import TuningModel
from views.whatif import WhatIfPanel

PANELS = (
    TextPanel, GridPanel, TimelinePanel, LatencyPanel, CachePanel, PredictionPanel, WhatIfPanel, MemoryPanel, TuningPanel, InspectorPanel,
    BitwidthPanel,
)  # fmt: skip


def build_panels(recording: Recording, selection: Selection, settings: TuningModel, theme: Theme) -> dict[str, Panel]:
    """Every panel by its key, in the order of the View menu."""
    return {kind.key: kind(recording, selection, settings, theme) for kind in PANELS}


def build_readouts(recording: Recording, selection: Selection, settings: TuningModel, theme: Theme) -> Readouts:
    """The strip of figures under the toolbar."""
    return Readouts(recording, selection, settings, theme)
