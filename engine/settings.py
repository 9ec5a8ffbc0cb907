"""Every tunable of the engine, declared once: type, unit, range, default, help, and when a change takes effect.

The tuning panel, the command line and the recording are all generated from ``SETTINGS``. Values are plain
(str, int, float, bool), so that they cross the process boundary and land in session files unchanged.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum

from engine.errors import EngineError

Value = str | int | float | bool


class Effect(StrEnum):
    """When a change becomes true in the engine."""

    TOKEN = "next token"
    REQUEST = "next request"
    RELOAD = "reload"


@dataclass(frozen=True)
class Setting:
    """One tunable. ``choices`` may be extended at run time (device and eviction names come from their folders)."""

    name: str
    title: str
    group: str
    default: Value
    help: str
    effect: Effect
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    choices: tuple[Value, ...] = field(default=())
    kind: str = ""  # "bytes" | "path" | "" (told by the default's type)

    def parse(self, text: Value) -> Value:
        """Turn user input into a value of this setting's type, within its range.

        Raises:
            EngineError: the text is no such value, with the range or the choices named.
        """
        if self.kind == "bytes":
            given = str(text).strip()
            if self.name != "budget":
                parse_size(given, self.title)
                return given
            parse_budget(given, 1, 1)
            return given.lower() if given.lower() == LEAST else given
        try:
            value = _converted(text, type(self.default))
        except ValueError:
            raise EngineError(f"{self.title}: {text!r} is not {_article(self.default)}") from None
        if self.choices and value not in self.choices:
            raise EngineError(f"{self.title}: {text!r} is none of {', '.join(map(str, self.choices))}")
        if isinstance(value, int | float) and not isinstance(value, bool):
            low, high = self.minimum, self.maximum
            if (low is not None and value < low) or (high is not None and value > high):
                raise EngineError(f"{self.title}: {value} {self.unit} is outside {low} to {high} {self.unit}")
        return value

    def unit_of(self, value: Value) -> str:
        """The unit as it stands behind a value: 2 layers, 1 layer, and none behind auto."""
        number = re.fullmatch(r"-?[0-9]*\.?[0-9]+", str(value))
        if number is None:
            return ""
        return self.unit[:-1] if float(number[0]) == 1 and self.unit.endswith("s") and "/" not in self.unit else self.unit

    def with_unit(self, value: Value) -> str:
        return f"{value} {self.unit_of(value)}".strip()


def _converted(text: Value, kind: type) -> Value:
    if kind is bool and isinstance(text, str):
        if text.lower() in ("1", "true", "yes", "on"):
            return True
        if text.lower() in ("0", "false", "no", "off"):
            return False
        raise ValueError(text)
    if kind is bool:
        return bool(text)
    if kind is int and isinstance(text, float) and not text.is_integer():
        raise ValueError(text)
    return kind(text)  # type: ignore[no-any-return]


def _article(default: Value) -> str:
    names = {bool: "yes or no", int: "a whole number", float: "a number", str: "a name"}
    return names[type(default)]


LEAST = "least"
"""A budget: the smallest that works, what one layer needs for one token, so that nothing is kept beyond the layer under way."""
_UNITS = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "kb": 10**3, "mb": 10**6, "gb": 10**9}


_NUMBER = r"\s*([0-9]*\.?[0-9]+)\s*"


def parse_size(text: str, what: str = "Size") -> int:
    """Read bytes: ``12MiB``, ``1.5 GB`` or ``800000``. ``what`` is named where it is no size.

    Raises:
        EngineError: not a size.
    """
    match = re.fullmatch(_NUMBER + r"([kmg]?i?b)?\s*", text.lower())
    if not match or (match[2] or "") not in _UNITS:
        raise EngineError(f"{what}: {text!r} is not a size; write 12MiB or 1.5GB")
    return int(float(match[1]) * _UNITS[match[2] or ""])


def parse_budget(text: str, full: int, least: int) -> int:
    """Read a byte budget: a size, ``25%`` of ``full`` bytes (all experts at the width in use), or ``least``, the smallest that works.

    Raises:
        EngineError: none of these.
    """
    if text.strip().lower() == LEAST:
        return least
    share = re.fullmatch(_NUMBER + r"%\s*", text)
    if share:
        return int(full * float(share[1]) / 100)
    try:
        return parse_size(text)
    except EngineError:
        raise EngineError(f"Budget: {text!r} is not a size; write 12MiB, 1.5GB, 25% or {LEAST}") from None


SETTINGS: tuple[Setting, ...] = (
    Setting("budget", "Expert budget", "Memory", "25%", "Most bytes that expert weights may occupy in memory at any instant. "
            "A size (12MiB), a share of all experts at the width in use (25%), or least: the smallest that works.", Effect.TOKEN, unit="bytes", kind="bytes"),
    Setting("bits", "Expert bits", "Memory", 4, "Width at which experts are loaded. Experts already resident keep theirs "
            "until they are loaded again.", Effect.TOKEN, unit="bits", choices=(2, 3, 4, 8, 16)),
    Setting("plan", "Bitwidth plan", "Memory", "", "Plan file that gives every expert its own width; empty uses Expert bits "
            "for all.", Effect.TOKEN, kind="path"),
    Setting("eviction", "Eviction policy", "Memory", "default", "Which resident expert makes room for the next.", Effect.TOKEN,
            choices=("default", "forecast", "edgemoe", "edgemoe-printed", "lru", "lfu", "fifo")),
    Setting("warm_start", "Warm start", "Memory", True, "When a model is loaded, fill the budget with the experts used most so far, so that "
            "the first tokens need not wait for them.", Effect.RELOAD),
    Setting("predictor", "Predictor", "Preload", "auto", "Which experts to read before the router has asked for them. Path: the paper's dictionary over the two "
            "layers before. Gate: the next layer's own router, one layer early. Transition: learned from routing. Auto: the best there is for this model. "
            "None: experts are read on demand only.", Effect.TOKEN, choices=("auto", "none", "path", "gate", "transition")),
    Setting("preload_depth", "Preload depth", "Preload", "auto", "Layers ahead for which experts are read. Auto: as many as pay, none where reading ahead costs more "
            "than it gains.", Effect.TOKEN, unit="layers", choices=("auto", "1", "2", "3", "4", "6", "8")),
    Setting("preload_width", "Preload width", "Preload", "auto", "Most experts read ahead and not used yet; room for them is kept free within the budget. Auto: as many "
            "as pay.", Effect.TOKEN, unit="experts", choices=("auto", "1", "2", "3", "4", "6", "8", "12", "16")),
    Setting("device", "Storage device", "Storage", "native", "Slow this machine's storage down to another device's bandwidth, "
            "latency and queue depth. Native: as fast as it is.", Effect.TOKEN),
    Setting("io_threads", "I/O threads", "Storage", 4, "Reads in flight at once; a device profile may allow fewer.", Effect.TOKEN,
            unit="threads", minimum=1, maximum=16, step=1),
    Setting("verify", "Verify checksums", "Storage", True, "Check every record read against its checksum.", Effect.TOKEN),
    Setting("compute_threads", "Compute threads", "Compute", 0, "Threads that multiply; 0 leaves one core to I/O and window.",
            Effect.TOKEN, unit="threads", minimum=0, maximum=64, step=1),
    Setting("kernels", "Kernels", "Compute", "auto", "What multiplies: the best native kernels this processor runs, those of plain C++, or torch, "
            "with which transformers decodes as well.", Effect.RELOAD, choices=("auto", "portable C++", "torch")),
    Setting("dtype", "Compute type", "Compute", "auto", "Number type of activations and non-expert weights. Auto: float32 for "
            "models whose non-expert weights stay under 1 GiB, else bfloat16.", Effect.RELOAD,
            choices=("auto", "float32", "bfloat16")),
    Setting("skeleton_bits", "Non-expert bits", "Compute", "auto", "Width of the non-expert linear layers and the output head, which every token reads "
            "whole. 16: as the model has them. Auto: 16 while all non-expert weights stay under 1 GiB, else 8. Only models that are decoded natively.",
            Effect.RELOAD, unit="bits", choices=("auto", "4", "8", "16")),
    Setting("max_tokens", "New tokens", "Generation", 400, "Tokens to generate before stopping.", Effect.REQUEST, unit="tokens",
            minimum=1, maximum=100_000, step=10),
    Setting("pace", "Pace", "Generation", 0, "Most tokens a second, so that a fast model can be watched; 0: as fast as it runs. The wait lies "
            "between tokens and counts in no figure.", Effect.TOKEN, unit="tokens/s", minimum=0, maximum=1000, step=5),
    Setting("temperature", "Temperature", "Generation", 0.8, "Spread of the sampling; 0 always takes the likeliest token.",
            Effect.TOKEN, minimum=0.0, maximum=5.0, step=0.05),
    Setting("top_k", "Top-k", "Generation", 50, "Sample among the k likeliest tokens; 0 for all.", Effect.TOKEN, unit="tokens",
            minimum=0, maximum=100_000, step=1),
    Setting("top_p", "Top-p", "Generation", 0.95, "Sample among the likeliest tokens that make up this probability.", Effect.TOKEN,
            minimum=0.01, maximum=1.0, step=0.01),
    Setting("repetition_penalty", "Repetition penalty", "Generation", 1.0, "Above 1 makes tokens already seen less likely.",
            Effect.TOKEN, minimum=0.5, maximum=3.0, step=0.05),
    Setting("seed", "Seed", "Generation", 0, "Start of the random numbers; the same seed gives the same text.", Effect.REQUEST,
            minimum=0, maximum=2**31 - 1, step=1),
    Setting("memory_limit", "Engine memory limit", "Safety", "0", "End the engine process when its memory would pass this; 0 for no "
            "limit.", Effect.RELOAD, unit="bytes", kind="bytes"),
    Setting("ignore_eos", "Ignore end of text", "Generation", False, "Go on to New tokens even when the model ends its text.", Effect.REQUEST),
)

BY_NAME = {setting.name: setting for setting in SETTINGS}


def defaults() -> dict[str, Value]:
    """The default value of every setting, by name."""
    return {setting.name: setting.default for setting in SETTINGS}


def checked(values: dict[str, Value]) -> dict[str, Value]:
    """Defaults overlaid with ``values``, each parsed.

    Raises:
        EngineError: an unknown name or a value out of range.
    """
    result = defaults()
    for name, value in values.items():
        if name not in BY_NAME:
            raise EngineError(f"There is no setting {name!r}; the settings are {', '.join(BY_NAME)}")
        result[name] = BY_NAME[name].parse(value)
    return result
