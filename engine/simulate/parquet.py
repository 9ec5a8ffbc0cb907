"""Routing as Parquet in the columns of moe-policylang's traces: a row for each layer of each token.

``prompt_id``, ``token_idx``, ``layer_idx`` int32, ``selected_experts`` list<int32>; optional ``router_scores`` list<float> beside
them, ``router_softmax`` list<float> over all experts, ``phase`` "prefill" or "decode". Rows of a prefill are taken together: here it is one
pass. Written here, it is one row a layer that names all of its experts, with ``tokens`` list<int32> of the prompt that used each.

N rows, M of them decoding; S MoE layers, E experts a layer, k experts a token.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from engine.errors import EngineError
from engine.recording.output import whole_file
from engine.simulate.routing import MOST_EXPERTS, NONE, Routing, checked

_COLUMNS = ("prompt_id", "token_idx", "layer_idx", "selected_experts", "router_scores", "router_softmax", "phase", "tokens")
_NEEDED = _COLUMNS[:4]
_PHASES = ("prefill", "decode")
_ABOUT = b"edgemoe"  # in the file's metadata: {"layers": S, "experts": E}
Ints = npt.NDArray[np.int64]


class _Lists(NamedTuple):
    """A column of lists: ``values`` of all rows, one after the other, and how many each has, [N]."""

    values: npt.NDArray[Any]
    widths: Ints

    def of(self, rows: Ints) -> npt.NDArray[Any]:
        """The values of some rows, one after the other."""
        if (self.widths == self.widths[:1]).all():
            return np.ascontiguousarray(self.values.reshape(len(self.widths), -1)[rows].reshape(-1))
        ends = np.cumsum(self.widths)
        index = np.repeat(ends[rows] - np.cumsum(self.widths[rows]), self.widths[rows])
        found: npt.NDArray[Any] = self.values[index + np.arange(len(index))]
        return found

    def padded(self, rows: Ints, fill: int) -> npt.NDArray[Any]:
        """Some rows as an array as wide as the longest and one at the least, so that rows that name nobody stay rows: [rows, width]."""
        widths = self.widths[rows]
        width = int(widths.max(initial=1))
        if (widths == width).all():
            return self.of(rows).reshape(len(rows), width)
        out = np.full((len(rows), width), fill, self.values.dtype)
        out[np.arange(width) < widths[:, None]] = self.of(rows)
        return out


def read_parquet(path: Path, expert_count: int | None = None) -> Routing:
    """Read a trace; its rows may come in any order, and layers are numbered in the order of ``layer_idx``. E is what the file tells, or the
    length of ``router_softmax``, or one more than the highest expert named.

    Raises:
        EngineError: it is damaged, lacks a column or a row, or a column holds something else.
    """
    table, told = _table(path)
    chosen = _lists(path, table, "selected_experts", pa.types.is_integer)
    assert chosen is not None
    prompts, prompt = _numbered(path, table, "prompt_id")
    layers, layer = _numbered(path, table, "layer_idx")
    if told and layers[-1] < told["layers"]:
        layer, layers = np.array(layers)[layer], list(range(told["layers"]))
    (tokens, token), prefill = _numbered(path, table, "token_idx"), _prefills(path, table)
    order = np.lexsort((layer, token, prompt))
    decode, before = order[~prefill[order]], order[prefill[order]]
    wrong = _incomplete(prompt[decode], token[decode], layer[decode], len(layers))
    if wrong is not None:
        row = decode[wrong]
        name = f"token {tokens[token[row]]} of prompt {prompts[prompt[row]]}"
        raise EngineError(f"{path}: {name} has not one row for each of the {len(layers)} layers; record it again or leave it out")
    experts = chosen.padded(decode, NONE)
    softmax = _beside(path, table, "router_softmax", decode)
    if softmax is not None and softmax.shape[1] > experts.shape[1]:
        expert_count = expert_count or softmax.shape[1]
    else:
        softmax = None  # of the chosen ones only
    weights = _beside(path, table, "router_scores", decode)
    if weights is not None and weights.shape != experts.shape:
        raise EngineError(f"{path}: router_scores are not as many as selected_experts; record it again or drop the column")
    used = _lists(path, table, "tokens", pa.types.is_integer)

    def by_token(array: npt.NDArray[Any] | None) -> npt.NDArray[Any] | None:
        return None if array is None else array.reshape(-1, len(layers), array.shape[1])

    lengths = np.bincount(prompt[decode], minlength=len(prompts)) // len(layers)
    return checked(
        str(path), experts.reshape(-1, len(layers), experts.shape[1]), lengths, expert_count or (told and told["experts"]) or None,
        _sets(path, prompt[before], layer[before], before, chosen, used), by_token(weights), by_token(softmax),
    )  # fmt: skip


def write_parquet(routing: Routing, path: Path) -> int:
    """Write a routing; returns the number of rows.

    Raises:
        EngineError: the file cannot be written.
    """
    tokens, layers, top_k = routing.experts.shape
    request = np.repeat(np.arange(routing.requests), routing.lengths)
    index = np.arange(tokens) - np.repeat(routing.starts[:-1], routing.lengths)
    starts = np.flatnonzero(np.diff(routing.prefill[:, 0] * layers + routing.prefill[:, 1], prepend=-1))
    sets = np.diff(starts, append=len(routing.prefill))
    named = (routing.experts != NONE).reshape(-1, top_k)
    widths = np.concatenate([sets, named.sum(1)])

    def lists(decode: npt.NDArray[Any], prefill: npt.NDArray[Any]) -> pa.Array:
        values = np.concatenate([prefill.astype(decode.dtype), decode.reshape(-1, top_k)[named]])
        return pa.ListArray.from_arrays(np.concatenate([[0], np.cumsum(widths)]).astype(np.int32), pa.array(values))

    phase = np.repeat(np.arange(2, dtype=np.int8), [len(sets), tokens * layers])
    columns: dict[str, Any] = {
        "prompt_id": np.concatenate([routing.prefill[starts, 0], np.repeat(request, layers)]).astype(np.int32),
        "token_idx": np.concatenate([np.zeros(len(sets)), np.repeat(index + 1, layers)]).astype(np.int32),
        "layer_idx": np.concatenate([routing.prefill[starts, 1], np.tile(np.arange(layers), tokens)]).astype(np.int32),
        "selected_experts": lists(routing.experts.astype(np.int32), routing.prefill[:, 2]),
        "tokens": lists(np.ones_like(routing.experts, np.int32), routing.prefill[:, 3]),
        "phase": pa.DictionaryArray.from_arrays(phase, list(_PHASES)).cast(pa.string()),
    }
    if routing.weights is not None:
        columns["router_scores"] = lists(routing.weights, np.zeros(len(routing.prefill)))
    if routing.softmax is not None:
        absent = pa.nulls(len(sets), pa.list_(pa.float32()))
        whole = pa.FixedSizeListArray.from_arrays(pa.array(routing.softmax.reshape(-1)), routing.expert_count).cast(absent.type)
        columns["router_softmax"] = pa.concat_arrays([absent, whole])
    about = json.dumps({"layers": layers, "experts": routing.expert_count}).encode()
    table = pa.table(columns).replace_schema_metadata({_ABOUT: about})
    with whole_file(path) as file:
        pa.parquet.write_table(table, file, compression="zstd")
    return int(table.num_rows)


def _table(path: Path) -> tuple[pa.Table, dict[str, int]]:
    """The columns of a trace, and what we told of it if it was written here."""
    try:
        with pa.parquet.ParquetFile(path) as file:
            names, about = file.schema_arrow.names, (file.schema_arrow.metadata or {}).get(_ABOUT)
            table = file.read([name for name in _COLUMNS if name in names])
        told = json.loads(about) if about else {}
    except (OSError, pa.ArrowException, ValueError, MemoryError) as error:
        reason = str(error).partition("\n")[0]
        raise EngineError(f"{path} cannot be read as Parquet ({reason}); it is damaged: copy or record it again") from None
    missing = [name for name in _NEEDED if name not in names]
    if missing:
        raise EngineError(f"{path} has no column {missing[0]}; a routing trace has {', '.join(_NEEDED)}")
    if not table.num_rows:
        raise EngineError(f"{path} has no rows; record a request first")
    if not isinstance(told, dict) or (told and any(not isinstance(told.get(name), int) for name in ("layers", "experts"))):
        raise EngineError(f"{path}: its metadata do not tell layers and experts; write it again")
    return table, told


def _numbered(path: Path, table: pa.Table, name: str) -> tuple[list[Any], Ints]:
    """The distinct values of a column in order, and the place of each row's among them, [N]."""
    column = table[name].combine_chunks()
    if column.null_count or not (pa.types.is_integer(column.type) or (name == "prompt_id" and pa.types.is_string(column.type))):
        raise EngineError(f"{path}: {name} is {column.type}{' with gaps' if column.null_count else ''}; it must be whole numbers")
    coded = column.dictionary_encode()
    values = coded.dictionary.to_pylist()
    order = sorted(range(len(values)), key=values.__getitem__)
    places = np.empty(len(values), np.int64)
    places[order] = np.arange(len(values))
    return [values[i] for i in order], places[coded.indices.to_numpy()]


def _prefills(path: Path, table: pa.Table) -> npt.NDArray[np.bool_]:
    """Which rows are of a prefill, [N]; none where the column is not there or says nothing."""
    if "phase" not in table.column_names:
        return np.zeros(table.num_rows, np.bool_)
    phases = table["phase"].unique().to_pylist()
    wrong = [phase for phase in phases if phase not in (*_PHASES, None)]
    if wrong:
        raise EngineError(f"{path}: phase is {wrong[0]!r}; it must be {' or '.join(_PHASES)}")
    if phases == [None]:
        return np.zeros(table.num_rows, np.bool_)
    return np.asarray(pc.fill_null(pc.equal(table["phase"], _PHASES[0]), False).to_numpy(), np.bool_)


def _lists(path: Path, table: pa.Table, name: str, kind: Any) -> _Lists | None:
    """A column of lists of one kind of numbers; None where there is none."""
    if name not in table.column_names:
        return None
    column = table[name].combine_chunks()
    lists = any(check(column.type) for check in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list))
    if not lists or not kind(column.type.value_type) or (name == "selected_experts" and column.null_count):
        raise EngineError(f"{path}: {name} is {column.type}{' with gaps' if column.null_count else ''}; it must be lists of numbers")
    values = column.flatten()
    if values.null_count:
        raise EngineError(f"{path}: {name} has lists with gaps; record it again")
    numbers = values.to_numpy(zero_copy_only=False)
    numbers = numbers.astype(np.int64) if numbers.dtype.kind == "u" else numbers  # so that NONE can stand beside them
    return _Lists(numbers, pc.fill_null(pc.list_value_length(column), 0).to_numpy().astype(np.int64))


def _beside(path: Path, table: pa.Table, name: str, rows: Ints) -> npt.NDArray[np.float32] | None:
    """A column of probabilities of these rows; None where some have none."""
    lists = _lists(path, table, name, pa.types.is_floating)
    if lists is None or not len(rows) or not lists.widths[rows].all():
        return None
    return lists.padded(rows, 0).astype(np.float32)


def _incomplete(prompt: Ints, token: Ints, layer: Ints, layers: int) -> int | None:
    """The first of these rows, in order, that is not one of a token with one row for each layer."""
    place = np.arange(len(layer))
    first = np.minimum(place - place % layers, max(0, len(layer) - 1))
    wrong = (layer != place % layers) | (token != token[first]) | (prompt != prompt[first])
    wrong[len(layer) - len(layer) % layers :] = True
    return int(np.argmax(wrong)) if wrong.any() else None


def _sets(path: Path, prompt: Ints, layer: Ints, rows: Ints, chosen: _Lists, used: _Lists | None) -> npt.NDArray[np.int64]:
    """What prefills used, [P, 4], from their rows in order: each expert of a layer once, with all the tokens that used it."""
    widths, experts = chosen.widths[rows], chosen.of(rows).astype(np.int64)
    if len(experts) and not 0 <= experts.min() <= experts.max() < MOST_EXPERTS:
        raise EngineError(f"{path}: selected_experts holds {experts.min()} to {experts.max()}; experts count from 0 to {MOST_EXPERTS}")
    tokens = np.ones(len(experts)) if used is None or (used.widths[rows] != widths).any() else used.of(rows)
    which = np.repeat(prompt * (layer.max(initial=0) + 1) + layer, widths)
    _, first, group = np.unique(which * MOST_EXPERTS + experts, return_index=True, return_inverse=True)
    order = np.lexsort((first, which[first]))
    uses = np.repeat(prompt, widths)[first], np.repeat(layer, widths)[first], experts[first], np.bincount(group, tokens, len(first))
    return np.stack(uses, axis=1)[order].astype(np.int64)
