"""Channels of an activation brought to like magnitudes, before they share one scale.

Static int8 has one scale for all channels of an activation. Where one channel's largest value is 40
times another's, that one has 3 of the 127 steps. So each channel is multiplied by a factor where it
is made (weights, bias, BatchNorm or LayerNorm, a multiplication by a constant), and the weights
that read it are divided by the same: the network computes what it did (Nagel et al., "Data-Free
Quantization Through Weight Equalization and Bias Correction", ICCV 2019; Xiao et al.,
"SmoothQuant", ICML 2023). What makes a channel has a scale for each output channel and loses
nothing by it, nor does a depthwise layer that reads it; another layer's weights share the loss.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lite_opt.model.executor import Executor
from lite_opt.model.program import Op, Program
from lite_opt.quant.observe import Probes
from lite_opt.quant.operators import LAYERS, stored_weight
from py_runner.errors import ModelError
from py_runner.files.regular import read_bytes
from py_runner.tensors import Sample

__all__ = ["Equalised", "equalise", "read_equalised", "write_equalised"]

_Array = npt.NDArray[Any]

# More samples hardly move the largest values of channels.
_SAMPLES = 32
# A channel that is hardly ever not zero tells little of its range.
_MOST = 32.0
_HOMOGENEOUS = ("relu", "leaky_relu", "pool2d")
# A channel that is multiplied in front of a relu6 meets the bound elsewhere. One that stays below
# may come so near to it: the range of int8 would cut off what is beyond, if there ever is.
_NEAR_BOUND = 0.9

_FILE = "equalised.json"


@dataclass(frozen=True)
class Equalised:
    """Variables whose channels, along `axis`, are these factors times what they were: an activation
    and what it is made from."""

    names: tuple[str, ...]
    axis: int
    factors: tuple[float, ...]


def write_equalised(folder: Path, equalised: Iterable[Equalised]) -> None:
    """Keep beside a saved model how its variables differ from those of its source."""
    text = json.dumps([asdict(each) for each in equalised])
    (folder / _FILE).write_text(text, encoding="utf-8")


def read_equalised(folder: Path) -> list[Equalised]:
    """What `write_equalised` wrote; nothing where it wrote nothing. Raises ModelError."""
    file = folder / _FILE
    if not file.exists():
        return []
    try:
        document = json.loads(read_bytes(file))
        return [
            Equalised(tuple(each["names"]), int(each["axis"]), tuple(map(float, each["factors"])))
            for each in document
        ]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelError(f"{file}: damaged: {error}; convert the model again") from None


@dataclass
class _Pair:
    """An activation, the layers that read it, and what its channels can be multiplied in: each an
    operator with the slot of a parameter. `inner` are the variables that are multiplied with it.
    `bound` is that of the relu6 that writes it, if one does."""

    name: str
    axis: int
    channels: int
    readers: list[Op]
    makers: list[tuple[Op, str]] = field(default_factory=list)
    inner: list[str] = field(default_factory=list)
    bound: float = np.inf


def equalise(program: Program, samples: Sequence[Sample]) -> tuple[Program, list[Equalised]]:
    """A copy of a repaired float program whose activations are equalised where that is possible
    without another operator, and how each of them was."""
    result = program.copy()
    pairs = _pairs(result)
    if not pairs:
        return result, []
    probes = Probes(result)
    for pair in pairs:
        largest = probes.like(probes.op("abs", {"X": pair.name}), pair.name)
        probes.answer(probes.reduce("reduce_max", largest, pair.axis))
    with Executor(result, samples[:_SAMPLES]) as executor:
        answers = executor.run(probes.done()).outputs
    changed = []
    for pair, values in zip(pairs, answers):
        factors = _factors(result, pair, np.max(values, axis=0).astype(np.float64))
        if not np.allclose(factors, 1):
            _apply(result, pair, factors)
            changed.append(Equalised(tuple(pair.inner), pair.axis, tuple(map(float, factors))))
    return result, changed


def _pairs(program: Program) -> list[_Pair]:
    producers, consumers = program.producers(), program.consumers()
    pairs = []
    for name in dict.fromkeys(
        op.inputs[LAYERS[op.type].input][0] for op in program.ops if op.type in LAYERS
    ):
        readers = consumers[name]
        if name not in producers or len(program.var(name).shape) < 2:
            continue
        weights = [stored_weight(program, op, producers) for op in readers]
        if any(
            weight is None or consumers[weight] != [op] or not _whole(program, op, weight, name)
            for op, weight in zip(readers, weights)
        ):
            continue
        is_image = readers[0].type != "mul"
        axis = 1 if is_image else len(program.var(name).shape) - 1
        channels = _input_channels(program, readers[0])
        pair = _Pair(name, axis, channels, readers)
        if _walk(program, pair, producers, consumers):
            pairs.append(pair)
    return pairs


def _whole(program: Program, op: Op, weight: str, name: str) -> bool:
    """Whether each channel of the input is one slice of the weights."""
    if op.type == "mul":
        dims = len(program.var(name).shape)
        return op.inputs["X"] == [name] and int(op.get("x_num_col_dims", 1)) == dims - 1
    if op.type == "conv2d_transpose" or op.inputs["Input"] != [name]:
        return False
    groups = int(op.get("groups", 1))
    return groups == 1 or program.params[weight].shape[1] == 1


def _input_channels(program: Program, op: Op) -> int:
    shape = program.params[op.inputs[LAYERS[op.type].weight][0]].shape
    if op.type == "mul":
        return int(shape[0])
    return int(shape[1]) * int(op.get("groups", 1))


def _walk(
    program: Program,
    pair: _Pair,
    producers: Mapping[str, Op],
    consumers: Mapping[str, list[Op]],
) -> bool:
    """Find what makes the channels; False where they cannot be multiplied."""
    name = pair.name
    while True:
        op = producers.get(name)
        if op is None or (name != pair.name and len(consumers[name]) != 1):
            return False
        pair.inner.append(name)
        if op.type in _HOMOGENEOUS and pair.axis == 1:
            name = op.inputs["X"][0]
        elif op.type == "relu6" and name == pair.name and pair.axis == 1:
            pair.bound = float(op.get("threshold", 6.0))
            name = op.inputs["X"][0]
        elif op.type in ("elementwise_add", "elementwise_mul"):
            constant = _constant(program, op, pair, consumers)
            if constant is None:
                return False
            pair.makers.append((op, constant))
            if op.type == "elementwise_mul":
                return True
            name = op.inputs["Y" if constant == "X" else "X"][0]
        elif op.type in ("batch_norm", "layer_norm"):
            if op.type == "batch_norm" and pair.axis != 1:
                return False
            dims = len(program.var(name).shape)
            if op.type == "layer_norm" and not (
                pair.axis == dims - 1 == int(op.get("begin_norm_axis", 1))
            ):
                return False
            pair.makers += [(op, "Scale"), (op, "Bias")]
            return all(_own(program, op, slot, consumers) for slot in ("Scale", "Bias"))
        elif op.type in ("conv2d", "depthwise_conv2d", "mul"):
            slot = LAYERS[op.type].weight
            is_image = op.type != "mul"
            pair.makers.append((op, slot))
            return is_image == (pair.axis == 1 and len(program.var(name).shape) == 4) and _own(
                program, op, slot, consumers
            )
        else:
            return False


def _own(program: Program, op: Op, slot: str, consumers: Mapping[str, list[Op]]) -> bool:
    name = op.input(slot)
    return name in program.params and len(consumers[name or ""]) == 1


def _constant(
    program: Program, op: Op, pair: _Pair, consumers: Mapping[str, list[Op]]
) -> str | None:
    """The slot of a constant that is a scalar or has a value for each channel."""
    for slot in ("X", "Y"):
        if not _own(program, op, slot, consumers):
            continue
        value = program.params[op.inputs[slot][0]]
        other = op.inputs["X" if slot == "Y" else "Y"][0]
        dims = len(program.var(other).shape)
        if value.size == 1:
            return slot
        if value.size != pair.channels or slot == "X":
            return None
        axis = int(op.get("axis", -1))
        start = dims - value.ndim if axis == -1 else axis
        place = start + int(np.argmax(value.shape))
        return slot if place == pair.axis else None
    return None


def _factors(program: Program, pair: _Pair, largest: _Array) -> _Array:
    """What each channel is multiplied by."""
    most = largest.max()
    if largest.shape != (pair.channels,) or not np.isfinite(most) or most <= 0:
        return np.ones(pair.channels)
    if np.isfinite(pair.bound):
        most = pair.bound * _NEAR_BOUND
    alive = largest > most * 1e-4
    if not alive.any():
        return np.ones(pair.channels)
    wanted = np.ones(pair.channels)
    wanted[alive] = most / largest[alive]
    shares = [_shares(program, op) for op in pair.readers if not _is_depthwise(program, op)]
    if shares:
        wanted = np.sqrt(wanted * np.maximum(np.max(shares, axis=0), 1e-4))
        # The largest stays what it is.
        wanted /= (wanted * largest)[alive].max() / most
        wanted[~alive] = 1
    if np.isfinite(pair.bound):
        room = np.where(alive, most / np.maximum(largest, most * 1e-4), 1.0)
        wanted = np.clip(wanted, 1, np.maximum(room, 1))
    return np.asarray(np.clip(wanted, 1 / _MOST, _MOST))


def _is_depthwise(program: Program, op: Op) -> bool:
    return op.type != "mul" and int(op.get("groups", 1)) > 1


def _shares(program: Program, op: Op) -> _Array:
    """How near the weights of each input channel come to the largest of their output channel."""
    weight = np.abs(program.params[op.inputs[LAYERS[op.type].weight][0]].astype(np.float64))
    rows = weight.T if op.type == "mul" else weight.max(axis=(2, 3))
    return np.asarray((rows / np.maximum(rows.max(axis=1, keepdims=True), 1e-30)).max(axis=0))


def _apply(program: Program, pair: _Pair, factors: _Array) -> None:
    for op, slot in pair.makers:
        name = op.inputs[slot][0]
        value = program.params[name].astype(np.float64)
        if op.type.startswith("elementwise"):
            _per_channel(program, op, slot, pair, value, factors)
        elif op.type in LAYERS:
            axis = LAYERS[op.type].channels
            shape = [-1 if i == axis else 1 for i in range(value.ndim)]
            program.set_param(name, (value * factors.reshape(shape)).astype(np.float32))
        else:
            program.set_param(name, (value.ravel() * factors).astype(np.float32))
    for op in pair.readers:
        name = op.inputs[LAYERS[op.type].weight][0]
        value = program.params[name].astype(np.float64)
        axis = 0 if op.type == "mul" or _is_depthwise(program, op) else 1
        inverse = 1 / factors
        if _is_depthwise(program, op):
            inverse = np.repeat(inverse, value.shape[0] // pair.channels)
        shape = [-1 if i == axis else 1 for i in range(value.ndim)]
        program.set_param(name, (value * inverse.reshape(shape)).astype(np.float32))


def _per_channel(
    program: Program, op: Op, slot: str, pair: _Pair, value: _Array, factors: _Array
) -> None:
    """Give a constant of an elementwise operator a value for each channel, as second operand."""
    name = op.inputs[slot][0]
    if slot == "X":
        op.inputs["X"], op.inputs["Y"] = op.inputs["Y"], op.inputs["X"]
    program.set_param(name, (value.ravel() * factors).astype(np.float32))
    op.set("axis", pair.axis)
