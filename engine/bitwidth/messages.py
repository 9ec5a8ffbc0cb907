"""What crosses the boundary between the window and the calibrator, the process that measures plans. Plain values only.

N = S · E experts, by number layer · E + expert; W widths, in the order that ``Studied`` tells. A plan is N bytes: a width each.
"""

from __future__ import annotations

import msgspec

from engine.events import Failed, Message, Progress, Quit, Stop
from engine.simulate.cost import Costs

OBJECTIVES = ("storage", "traffic", "speed")
"""What a plan is to make least: bytes on storage; bytes of experts that a token uses; or most: tokens/s under a budget."""


class Setup(msgspec.Struct, frozen=True):
    """Under what ``speed`` is to be highest: a budget in bytes, an eviction policy, and what computing and reading cost."""

    budget: int
    eviction: str
    costs: Costs


# --- commands: window to calibrator ---------------------------------------------------------------------------------


class Study(Message, frozen=True):
    """Open the store of ``model`` and texts of about ``tokens`` tokens on either side; estimate what every expert loses at every width,
    then measure the uniform widths and some plans in between. Answered by Studied, a Weighed for each, and Covered. ``number`` tells
    answers apart: all that is measured later carries it, too."""

    model: str
    texts: list[str]
    tokens: int
    number: int = 0


class Weigh(Message, frozen=True):
    """Measure what a plan loses on the text to verify on. Answered by Weighed."""

    plan: bytes
    method: str = "hand"


class Find(Message, frozen=True):
    """Find the plan that is within ``tolerance`` (0.02 is 2%) and best by ``objective``. Answered by a Weighed for every plan tried, the
    last of them ``delivered``. ``method`` is fast or paper."""

    tolerance: float
    objective: str = "storage"
    method: str = "fast"
    setup: Setup | None = None


class Compare(Message, frozen=True):
    """Hold a plan against the model at its highest width on these token ids. Answered by Compared.

    ``model`` is opened where another is, or none; it must be that of the hash. No text is needed. ``request`` tells answers apart.
    """

    request: int
    plan: bytes
    token_ids: list[int]
    model: str
    model_hash: str


class Drop(Message, frozen=True):
    """Give up the Compare of this ``request``, whether it waits or is under way; all else goes on."""

    request: int


# --- notices: calibrator to window ----------------------------------------------------------------------------------


class Studied(Message, frozen=True):
    """``losses`` float64 [N, W], nats a token that each width is estimated to cost; ``uses`` float64 [N], how often a token uses each.
    ``works`` to learn from and to verify on; ``tokens`` of each; ``perplexity`` of the model at its highest width on the latter."""

    model_hash: str
    texts: str
    works: tuple[int, int]
    tokens: tuple[int, int]
    widths: list[int]
    losses: bytes
    uses: bytes
    perplexity: float
    study: int = 0


class Weighed(Message, frozen=True):
    """What a plan loses, measured: ``loss`` is the rise of perplexity as a share (0.02 is 2%), ``kl`` nats a token, each with its 95%
    interval.

    ``method`` says whence the plan is: uniform, fast, paper or hand. ``estimate``: nats a token that were estimated. ``delivered``: it is
    what a Find was to find.
    """

    plan: bytes
    method: str
    estimate: float
    loss: float
    loss_ci: tuple[float, float]
    kl: float
    kl_ci: tuple[float, float]
    delivered: bool = False
    study: int = 0


class Covered(Message, frozen=True):
    """All plans that a Study is to measure were measured."""

    study: int


class Compared(Message, frozen=True):
    """For each token id but the first: the likeliest token by the reference and by the plan, their texts, and the divergence (KL, nats)
    there, float32."""

    request: int
    plan: bytes
    reference: list[int]
    chosen: list[int]
    reference_pieces: list[str]
    chosen_pieces: list[str]
    kl: bytes


class Rested(Message, frozen=True):
    """Nothing is left to do of the first ``commands``, which may not be all that are on their way. What was found out is kept."""

    commands: int


Command = Study | Weigh | Find | Compare | Drop | Stop | Quit
Notice = Studied | Weighed | Covered | Compared | Rested | Progress | Failed

_commands: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)
_notices: msgspec.msgpack.Decoder[Notice] = msgspec.msgpack.Decoder(Notice)


def decode_command(data: bytes) -> Command:
    """Raises ``msgspec.ValidationError`` or ``DecodeError`` on anything that is no command."""
    return _commands.decode(data)


def decode_notice(data: bytes) -> Notice:
    """Raises ``msgspec.ValidationError`` or ``DecodeError`` on anything that is no notice."""
    return _notices.decode(data)
