"""What Paddle Lite's kernels cannot do although they take the operator: refused before they try.

Each limit was read in the sources of commit 044ba5b and of tag v2.13-rc, and holds for both. What
only libraries before v2.13-rc lack (a grid_sampler of another size) is left to the engine, and so
is what a rule of lite_opt/passes has an equal form for: then nothing of it is left here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from lite_opt.lite.kernels import RELEASES, SINCE
from lite_opt.model.program import Op, Program
from py_runner.errors import ConvertError
from py_runner.formats.bundle import Target

__all__ = [
    "LIMITS",
    "Limit",
    "advice_for",
    "cannot_run",
    "lacks_fp16",
    "reasons",
    "refuse",
    "refuse_later",
]

_OUTSIDE = "replace that layer in the network, or compute it outside, and export again"
# Operators that no kernel of any target computes -> what to do instead.
_INSTEAD: dict[str, str] = {
    **dict.fromkeys(
        ("conv3d", "pool3d", "conv3d_transpose", "trilinear_interp_v2", "max_pool3d_with_index"),
        "Paddle Lite computes in two dimensions: put the depth into the batch or the channels "
        "(a 3-D kernel is then a sum of 2-D ones), or run this part on the server",
    ),
    "masked_select": "give the mask the shape of what it selects from, by paddle.expand, or keep "
    "the whole tensor and set what is not selected to a number by paddle.where",
    "unique": "what it gives has another size for every input: leave it to the program that reads "
    "the output",
    "bicubic_interp_v2": "resize by mode='bilinear', or to a size that the network knows",
    "put_along_axis": "put one element a row, or use paddle.where with a mask",
    "cumprod": "it is computed along an axis of a fixed size: fix it with --input-shape",
    "elementwise_fmax": "use paddle.maximum, which differs in NaN only",
    "elementwise_fmin": "use paddle.minimum, which differs in NaN only",
    "atan": "leave the angle to the program that reads the output, and give it its tangent",
    "atan2": "leave the angle to the program that reads the output, and give it both numbers",
    "einsum": "write it as transpose and matmul",
}


def advice_for(type_: str) -> str:
    """What to do about an operator for which a target has no kernel."""
    return _INSTEAD.get(type_, _OUTSIDE)


def cannot_run(op: Op, who: str, words: str) -> str:
    """That an engine died of an operator or refused it: in our words, then in its last ones."""
    advice = advice_for(op.type)
    if op.type in SINCE:
        advice = f"libraries have it from {SINCE[op.type]} on: use a newer one, or {advice}"
    return f"{who} cannot run {op.type} in layer '{op.layer}': {advice}; it said: {words}"


def lacks_fp16(words: str) -> str:
    """Which of CPU and library has no fp16, in words, where that is why an engine ended with these
    on a file of recipe fp16; "" where it is another reason.

    Such a file begins with a cast to fp16, by a kernel that only libraries with fp16 have.
    """
    if "computes in fp16, which this CPU lacks" in words:
        return "its CPU has no fp16"
    if "kernel for 'calib' is not supported" in words:
        return "its Paddle Lite library has no fp16 kernels: take one built with arm82_fp16"
    return ""


@dataclass(frozen=True)
class Limit:
    """An operator, on the targets named, where `applies(op, program)`: what is wrong then, why, and
    what to do instead."""

    ops: tuple[str, ...]
    applies: Callable[[Op, Program], bool]
    reason: str
    advice: str
    targets: tuple[str, ...] = ("arm",)


def _shape(program: Program, op: Op, slot: str) -> tuple[int, ...]:
    return program.var(op.inputs[slot][0]).shape


def _axes(op: Op, rank: int) -> list[int]:
    given = [] if op.get("reduce_all") else op.get("dim") or []
    return sorted({d % rank for d in given}) or list(range(rank))


def _reduces_too_much(op: Op, program: Program) -> bool:
    """What split_reductions leaves: a dynamic shape that no reshape can name."""
    rank = len(_shape(program, op, "X"))
    return rank > 4 or (rank > 1 and len(_axes(op, rank)) == rank)


def _counts_uneven_padding(op: Op, program: Program) -> bool:
    """Its kernel for 2x2 by 2 (pooling2x2s2p0_avg, wider than 8) forgets which side is padded, and
    its general one (pooling_basic) does where a window is larger than the input."""
    if op.get("pooling_type") != "avg" or op.get("exclusive", True) or op.get("adaptive"):
        return False
    given = op.get("paddings", [0, 0])
    pads = [p for p in given for _ in range(2)] if len(given) == 2 else given
    sides = _shape(program, op, "X")[2:]
    if op.get("global_pooling") or not any(pads) or len(pads) != 4:
        return False
    if any(0 < side < size for side, size in zip(sides, op.get("ksize"))):
        return True
    two = op.get("ksize") == [2, 2] and op.get("strides") == [2, 2]
    return two and pads[::2] != pads[1::2] and not 0 < sides[-1] <= 8


def _pads_in_a_circle(op: Op, program: Program) -> bool:
    return bool(op.get("mode") == "circular")


def _has_lengths(op: Op, program: Program) -> bool:
    return bool(op.inputs.get("SequenceLength"))


def _gives_states(op: Op, program: Program) -> bool:
    """Whether the last states of more than one layer and direction are read."""
    if op.get("num_layers", 1) == 1 and not op.get("is_bidirec", False):
        return False
    states = set(op.outputs.get("State", []))
    return any(states & set(names) for o in program.ops for names in o.inputs.values())


def _is_simple(op: Op, program: Program) -> bool:
    return str(op.get("mode", "")).startswith("RNN")


def _takes_the_smallest(op: Op, program: Program) -> bool:
    return not op.get("largest", True)


def _broadcasts_its_base(op: Op, program: Program) -> bool:
    x, out = _shape(program, op, "X"), program.var(op.outputs["Out"][0]).shape
    return x != out and x != _shape(program, op, "Y")


_BOTH = ("arm", "x86")
LIMITS: tuple[Limit, ...] = (
    Limit(
        ("reduce_mean", "reduce_sum", "reduce_max", "reduce_min", "reduce_prod"),
        _reduces_too_much,
        "its kernels know up to four dimensions, and which these are is dynamic",
        "fix the shape with --input-shape, or reduce one axis at a time",
        _BOTH,
    ),
    Limit(
        ("pool2d",),
        _counts_uneven_padding,
        "an average that counts padding is wrong on ARM where that differs between the sides or "
        "the window is larger than the input (lite/backends/arm/math/pooling.cc)",
        "pad in a layer of its own, or use exclusive=True",
    ),
    Limit(
        ("pad3d", "pad2d"),
        _pads_in_a_circle,
        "circular padding is not in its kernels, and slices take its place only where the sides "
        "are known",
        "fix the shape with --input-shape",
        _BOTH,
    ),
    Limit(
        ("rnn",),
        _has_lengths,
        "sequence_length is ignored by its kernels, and what lies behind an end is read",
        "feed sequences of one length, without sequence_length",
        _BOTH,
    ),
    Limit(
        ("rnn",),
        _is_simple,
        "its kernels know LSTM and GRU only",
        "use paddle.nn.LSTM or paddle.nn.GRU",
        _BOTH,
    ),
    Limit(
        ("rnn",),
        _gives_states,
        "its kernels mix up the last states of several layers or of two directions",
        "make each layer and direction one of its own, or take a state from the output ([:, -1, "
        ":n] and, of the other direction, [:, 0, n:], n being the hidden size)",
        _BOTH,
    ),
    Limit(
        ("deformable_conv",),
        lambda op, program: op.get("groups", 1) != op.get("deformable_groups", 1),
        "lite/operators/deformable_conv_op.cc wants as many groups as deformable_groups",
        "use the same number for both, or one group",
        _BOTH,
    ),
    Limit(
        ("scatter",),
        lambda op, program: True,
        "its kernel does not read the tensor that it writes into, and a product takes its place "
        "only where all shapes are known",
        "fix the shape with --input-shape, or use paddle.where with a mask",
        _BOTH,
    ),
    Limit(
        ("slice", "strided_slice"),
        lambda op, program: 0 in program.var(op.layer).shape,
        "what it takes is empty, of which its kernels die",
        "leave it out where it takes nothing",
        _BOTH,
    ),
    Limit(
        ("top_k_v2",),
        _takes_the_smallest,
        "its kernel gives the largest whatever is asked for",
        "negate a float tensor and take the largest",
        _BOTH,
    ),
    Limit(
        ("elementwise_pow",),
        _broadcasts_its_base,
        "base and exponent change places where the base is the smaller tensor, and its shape is "
        "dynamic (lite/kernels/arm/elementwise_compute.cc)",
        "expand the base, or fix the shape with --input-shape",
    ),
)


def reasons(program: Program, targets: Collection[str]) -> list[str]:
    """What of a repaired program the kernels for these targets cannot do, a sentence each."""
    found = []
    for op in program.ops:
        for limit in LIMITS:
            on = [t for t in limit.targets if t in targets]
            if op.type in limit.ops and on and limit.applies(op, program):
                found.append(
                    f"{op.type} in layer '{op.layer}' cannot run on {' and '.join(on)}: "
                    f"{limit.reason}; {limit.advice}"
                )
    return found


def refuse(program: Program, targets: Collection[str]) -> None:
    """Raise ConvertError where a target's kernels cannot do what a repaired program wants."""
    found = reasons(program, targets)
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise ConvertError(f"{program.files.model}: {found[0]}{more}")


def refuse_later(model: Path, targets: Mapping[str, Target], lite: str) -> None:
    """Raise ConvertError where the file for arm has operators that came after a release."""
    needs = targets["arm"].needs if "arm" in targets else {}
    later = {op: r for op, r in needs.items() if RELEASES.index(r) > RELEASES.index(lite)}
    if later:
        named = ", ".join(f"operator {op} needs {release}" for op, release in later.items())
        raise ConvertError(
            f"{model}: on Paddle Lite {lite}, {named}: put a later library on the device, or "
            "replace these layers and export again"
        )
