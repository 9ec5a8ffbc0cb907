"""What crosses the boundary between engine and window: record arrays, commands and notices. Plain values only.

Times are nanoseconds of the engine's monotonic clock since the session began; bytes are bytes; a layer is an index
among the MoE layers; ``token`` is a row of the ``tokens`` table. Messages travel as MessagePack (``encode``/``decode``).
"""

from __future__ import annotations

from enum import IntEnum

import msgspec
import numpy as np

from engine.preload.device import Device
from engine.settings import Value

PROTOCOL = 1


class Phase(IntEnum):
    PREFILL = 0
    DECODE = 1


class SpanKind(IntEnum):
    """What a span of time was spent on. READ spans lie on I/O lanes (1 and up), all others on lane 0, the token loop.

    SHARED is dense MLP layers and shared experts, ACCOUNT the engine's own bookkeeping, PREDICT guessing what the next layers will choose
    and asking for it. Session files hold the numbers: they stay.
    """

    ATTENTION = 0
    ROUTER = 1
    EXPERT = 2
    STALL = 3
    HEAD = 4
    SAMPLE = 5
    READ = 6
    SHARED = 7
    ACCOUNT = 8
    PREDICT = 9


class Outcome(IntEnum):
    """How an expert that the router chose was found: in memory (HIT; PRELOADED: because it was read ahead), or missed, and why.

    LATE: its read ahead was not done yet. FIRST_TOUCH: it never was in memory. MISPREDICTED: others were read ahead for this layer instead.
    CAPACITY: it had been evicted.
    """

    HIT = 0
    FIRST_TOUCH = 1
    CAPACITY = 2
    MISPREDICTED = 3
    LATE = 4
    PRELOADED = 5


class Residency(IntEnum):
    """States of an expert in the buffer. STAGED: read ahead and not used yet."""

    ABSENT = 0
    LOADING = 1
    RESIDENT = 2
    STAGED = 3


class Asked(IntEnum):
    """What was done about a predicted expert."""

    NOTHING = 0  # not likely enough, or no room
    HELD = 1  # it was in memory already
    READ = 2  # it was read ahead, or is being read
    DROPPED = 3  # it waited to be read when the router spoke


WIDTHS = (2, 3, 4, 8, 16)
"""The bits that a weight of an expert may have."""


SPAN = np.dtype([
    ("start", "<i8"), ("duration", "<i8"), ("token", "<i4"), ("layer", "<i2"), ("expert", "<i2"),
    ("kind", "u1"), ("lane", "u1"), ("bits", "u1"), ("outcome", "u1"), ("bytes", "<i4"),
])
"""One stretch of work. ``layer``/``expert`` are -1 where they do not apply. READ: ``bytes`` read, ``outcome`` of the miss it served;
PRELOADED where it was read ahead, whatever became of it; HIT, with ``token`` -1, where the buffer was filled at
load."""

ACCESS = np.dtype([
    ("time", "<i8"), ("token", "<i4"), ("layer", "<i2"), ("expert", "<i2"),
    ("bits", "u1"), ("outcome", "u1"), ("rank", "u1"), ("phase", "u1"), ("tokens", "<i4"), ("weight", "<f4"),
])
"""One expert used by one pass; hit rates count these. Decode: ``rank`` is its place in the router's order, ``weight`` its gate weight.
Prefill: one row per layer and expert, ``tokens`` prompt tokens routed to it, ``weight`` their mean gate weight."""

TOKEN = np.dtype([
    ("request", "<i4"), ("token_id", "<i4"), ("tokens", "<i4"), ("phase", "u1"),
    ("start", "<i8"), ("duration", "<i8"),
    ("attention", "<i8"), ("router", "<i8"), ("compute", "<i8"), ("stall", "<i8"), ("head", "<i8"), ("sampling", "<i8"),
    ("framework", "<i8"), ("io", "<i8"),
    ("hits", "<i4"), ("preloaded", "<i4"),
    ("first_touch", "<i4"), ("capacity", "<i4"), ("mispredicted", "<i4"), ("late", "<i4"), ("evictions", "<i4"),
    ("demand_bytes", "<i8"), ("preload_useful_bytes", "<i8"), ("preload_wasted_bytes", "<i8"),
    ("budget_bytes", "<i8"), ("resident_bytes", "<i8"),
    *((f"resident_{bits}", "<i8") for bits in WIDTHS),
    ("kv_bytes", "<i8"), ("average_bits", "<f4"), ("logprob", "<f4"),
])
"""One forward pass and the token it produced. Row 0 of a request is its prefill (``tokens`` = prompt length) and yields the
first new token; its duration is the TTFT. ``attention`` … ``framework`` are ns and sum to ``duration``: ``attention`` takes in SHARED
spans, ``framework`` ACCOUNT and PREDICT spans and what no span names. ``io`` is the ns in which at least one read was in flight (it
overlaps the others). ``hits`` takes in ``preloaded``: those that would have been misses. ``average_bits`` is over the experts used by this
pass. Preloaded bytes count as useful in the pass that used them, as wasted in the pass that let them go unused."""

MISSES = ("first_touch", "capacity", "mispredicted", "late")
"""Columns of ``tokens``: experts used that were not resident, by cause."""
BYTES_READ = ("demand_bytes", "preload_useful_bytes", "preload_wasted_bytes")
"""Columns of ``tokens``: what was read from storage, and what became of it."""

RESIDENCY = np.dtype([
    ("time", "<i8"), ("token", "<i4"), ("layer", "<i2"), ("expert", "<i2"), ("state", "u1"), ("bits", "u1"), ("score", "<f4"),
    ("newcomer", "<i4"), ("runner_up", "<f4"),
])
"""One change of an expert's state in the buffer. LOADING: ``score`` is the probability for which it is read ahead, 0 where it was demanded.

ABSENT: ``score`` is the eviction score that lost, the highest. ``newcomer`` is one more than the number (layer · E + expert) of the
expert that it made room for; -1 where less was to be in memory (a smaller budget, more room for reads ahead), 0 where no policy was asked
or a session does not tell. Else ``runner_up`` is the score of who would have had to leave instead, nan where all others were in use."""

PREDICTION = np.dtype([
    ("time", "<i8"), ("token", "<i4"), ("layer", "<i2"), ("expert", "<i2"),
    ("rank", "u1"), ("ahead", "u1"), ("chosen", "u1"), ("asked", "u1"), ("probability", "<f4"),
])
"""One expert that was thought likely for a layer, told when its router spoke: ``rank`` 0 is the likeliest; twice the model's top-k are
told. It was predicted ``ahead`` layers before, with this ``probability``; ``chosen`` 1 where the router chose it, ``asked`` an Asked.
Decode only."""

SAMPLE = np.dtype([
    ("time", "<i8"), ("rss", "<i8"), ("budget_bytes", "<i8"), ("resident_bytes", "<i8"), ("peak_resident_bytes", "<i8"),
    ("kv_bytes", "<i8"), ("read_bytes", "<i8"), ("major_faults", "<i8"), ("available", "<i8"), ("cpu", "<f4"),
])
"""The engine process ten times a second: ``rss`` and system-wide ``available`` memory, ``read_bytes`` as the kernel counts
them for the process since the session began, ``major_faults`` since then, ``cpu`` in percent of one core."""

TABLES: dict[str, np.dtype] = {
    "tokens": TOKEN, "spans": SPAN, "accesses": ACCESS, "residency": RESIDENCY, "samples": SAMPLE, "predictions": PREDICTION,
}
TIME_COLUMN = {"tokens": "start", "spans": "start", "accesses": "time", "residency": "time", "samples": "time", "predictions": "time"}


class Message(msgspec.Struct, frozen=True, tag=True):
    """Base of everything that is sent."""


# --- commands: window to engine -------------------------------------------------------------------------------------


class Load(Message, frozen=True):
    """Open ``model`` (a checkpoint or store folder), converting it first where needed, with these settings."""

    model: str
    settings: dict[str, Value]
    name: str = ""  # to show; empty takes the store's own
    devices: list[Device] = []  # beside native, which is always there


class Generate(Message, frozen=True):
    prompt: str
    paused: bool = False  # begin paused: wait for Step or Resume


class Pause(Message, frozen=True):
    pass


class Resume(Message, frozen=True):
    pass


class Step(Message, frozen=True):
    """Produce one token, then pause."""


class Stop(Message, frozen=True):
    """End the request, or cancel the loading or conversion under way."""


class Change(Message, frozen=True):
    """Set one setting; answered by Applied or Refused."""

    name: str
    value: Value


class Quit(Message, frozen=True):
    pass


# --- notices: engine to window --------------------------------------------------------------------------------------


class Budget(msgspec.Struct, frozen=True):
    """The expert budget in bytes at the widths in use: what is ``granted``, the ``least`` that works, ``full`` for all experts."""

    granted: int
    least: int
    full: int


class ModelInfo(Message, frozen=True):
    """What is loaded. ``record_bytes`` is an expert's size by bits, as stored and as held.

    ``kernel`` is the instruction set that multiplies experts, or torch; ``decode`` is what runs a token: native or
    transformers.
    """

    name: str
    architecture: str
    path: str
    store: str
    model_hash: str
    layers: int
    experts: int
    top_k: int
    hidden: int
    width: int
    widths: list[int]
    record_bytes: dict[int, int]
    skeleton_bytes: int
    quantizer: str
    kernel: str
    direct_io: bool
    dtype: str
    vocabulary: int
    context: int
    decode: str = "transformers"


class Machine(Message, frozen=True):
    system: str
    processor: str
    cores: int
    memory: int
    python: str
    torch: str
    transformers: str


class Opened(Message, frozen=True):
    """First message of every session: the engine is up. ``wall`` is the Unix time in s at session time 0."""

    protocol: int
    version: str
    wall: float
    pid: int
    machine: Machine


class Progress(Message, frozen=True):
    """Long work: ``done`` of ``total`` in ``unit`` (\"bytes\", \"experts\", …); ``total`` 0 where it is not known."""

    stage: str
    done: int
    total: int
    unit: str = "bytes"


class Ready(Message, frozen=True):
    """The model is loaded; ``effective`` are the settings as they truly are (budget in bytes, threads counted).

    ``plan``: the bits of every expert, a byte each by number (layer · E + expert), where a plan says so; empty where all have Expert bits.
    """

    time: int
    model: ModelInfo
    settings: dict[str, Value]
    effective: dict[str, Value]
    budget: Budget
    plan: bytes = b""


class Filled(Message, frozen=True):
    """The buffer was filled at load, from ``began`` to ``time``: ``experts`` of ``bytes`` were read, of ``wanted`` bytes."""

    time: int
    began: int
    experts: int
    bytes: int
    wanted: int


class State(Message, frozen=True):
    """``state`` is one of loading, idle, running, paused."""

    time: int
    state: str


class Began(Message, frozen=True):
    """A request starts. ``first_token`` is the row of ``tokens`` that its prefill will fill. ``prompt_ids`` are the prompt's token ids,
    none in sessions of older versions."""

    time: int
    request: int
    prompt: str
    prompt_pieces: list[str]
    first_token: int
    prompt_ids: list[int] = []


class Batch(Message, frozen=True):
    """Records by table, as raw bytes of the table's dtype, and the text of the tokens in it, in order.

    ``lost`` counts records dropped since the session began.
    """

    tables: dict[str, bytes]
    pieces: list[str]
    lost: int = 0


class Applied(Message, frozen=True):
    """A setting changed; it holds from ``token`` on. ``effective`` is what it came to (25% as bytes, auto as a name).

    ``budget`` is what holds now: a change of widths moves it too. ``plan`` is as in Ready, told where the plan is what changed."""

    time: int
    token: int
    name: str
    old: Value
    new: Value
    effective: Value
    budget: Budget
    plan: bytes = b""


class Beside(Message, frozen=True):
    """From here on calibration runs beside the request (``running``), which disturbs its times, or does so no more. ``token`` is the first
    that is concerned. Noted by the window."""

    time: int
    token: int
    running: bool


class Refused(Message, frozen=True):
    """A setting was not changed, and why."""

    name: str
    value: Value
    reason: str


class Finished(Message, frozen=True):
    """A request ended: ``reason`` is length, end of text, stopped or failed."""

    time: int
    request: int
    reason: str


class Failed(Message, frozen=True):
    """Something went wrong; ``text`` is one line for the user. The engine is idle afterwards, without a model if loading failed."""

    time: int
    text: str


Command = Load | Generate | Pause | Resume | Step | Stop | Change | Quit
Notice = Opened | Progress | Ready | Filled | State | Began | Batch | Applied | Beside | Refused | Finished | Failed

_encoder = msgspec.msgpack.Encoder()
_commands: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)
_notices: msgspec.msgpack.Decoder[Notice] = msgspec.msgpack.Decoder(Notice)


def encode(message: Command | Notice) -> bytes:
    """One message as MessagePack."""
    return _encoder.encode(message)


def decode_command(data: bytes) -> Command:
    """Raises ``msgspec.ValidationError`` or ``DecodeError`` on anything that is no command."""
    return _commands.decode(data)


def decode_notice(data: bytes) -> Notice:
    """Raises ``msgspec.ValidationError`` or ``DecodeError`` on anything that is no notice."""
    return _notices.decode(data)
