"""Products that have no kernel of their own: by matmul_v2, or by elementwise operators."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from lite_opt.model.program import Op
from lite_opt.passes.chain import Chain
from lite_opt.passes.rule import Site, rule
from py_runner.tensors import DTYPE_NUMBERS

__all__ = ["broadcast_stacks", "einsum_to_matmul", "products_to_matmul", "stack_to_matmul"]


def _matmul(chain: Chain, x: str, y: str, shape: tuple[int, ...]) -> str:
    return chain("matmul_v2", x, y, shape=shape, trans_x=False, trans_y=False)


def _addmm(chain: Chain, op: Op) -> None:
    product = _matmul(chain, op.inputs["X"][0], op.inputs["Y"][0], chain.out.shape)
    alpha, beta = op.get("Alpha", 1.0), op.get("Beta", 1.0)
    scaled = product if alpha == 1 else chain.scale(product, alpha)
    added = op.inputs["Input"][0]
    if beta != 1:
        added = chain.scale(added, beta, shape=chain.var("Input").shape)
    chain("elementwise_add", scaled, added)


def _dot(chain: Chain, op: Op) -> None:
    x = chain.var()
    both = chain("elementwise_mul", x.name, op.inputs["Y"][0], shape=x.shape)
    last = len(x.shape) - 1
    chain("reduce_sum", both, dim=[last], keep_dim=False, reduce_all=last == 0)


def _mv(chain: Chain, op: Op) -> None:
    rows, columns = chain.var().shape
    vector = chain.reshape(op.inputs["Vec"][0], (columns, 1))
    chain.reshape(_matmul(chain, chain.var().name, vector, (rows, 1)), (rows,))


@rule(
    ops=("bmm", "addmm", "baddbmm", "dot", "mv"),
    because="lite/kernels has none for them (bmm and mv are known by name only)",
)
def products_to_matmul(op: Op, site: Site) -> Iterator[str]:
    """bmm, addmm and mv -> matmul_v2; dot -> a product of elements and its sum."""
    chain = Chain(op, site)
    if op.type == "bmm":
        _matmul(chain, op.inputs["X"][0], op.inputs["Y"][0], chain.out.shape)
    else:
        {"addmm": _addmm, "baddbmm": _addmm, "dot": _dot, "mv": _mv}[op.type](chain, op)
    chain.end()
    yield f"became {' '.join(made.type for made in chain.ops)}"


@rule(ops=("einsum",), because="lite/kernels has none for einsum")
def einsum_to_matmul(op: Op, site: Site) -> Iterator[str]:
    """einsum of one or two tensors, without an ellipsis or a letter twice in one of them -> sums,
    transpositions and one matmul_v2."""
    chain = Chain(op, site)
    terms, _, result = op.get("equation").replace(" ", "").partition("->")
    operands = list(zip(op.inputs["Operands"], terms.split(",")))
    if "." in terms or not 1 <= len(operands) <= 2:
        return
    if any(len(set(letters)) < len(letters) for letters in (result, *terms.split(","))):
        return
    kept = [set(result).union(*(t for n, (_, t) in enumerate(operands) if n != i))
            for i in range(len(operands))]  # fmt: skip
    summed = [_sum_out(chain, x, t, k) for (x, t), k in zip(operands, kept)]
    x, letters = summed[0]
    if len(summed) > 1:
        x, letters = _contract(chain, summed[0], summed[1], result)
    if not x:
        return
    if letters != result or not chain.ops:
        chain.transpose(x, [letters.index(c) for c in result])
    chain.end()
    yield f"became {' '.join(made.type for made in chain.ops)}"


def _sum_out(chain: Chain, x: str, letters: str, kept: set[str]) -> tuple[str, str]:
    """The sum over the letters that nobody else needs."""
    for letter in [c for c in letters if c not in kept]:
        axis = letters.index(letter)
        shape = list(chain.site.program.var(x).shape)
        del shape[axis]
        x = chain(
            "reduce_sum", x, shape=tuple(shape), dim=[axis], keep_dim=False,
            reduce_all=not shape,
        )  # fmt: skip
        letters = letters.replace(letter, "")
    return x, letters


def _contract(
    chain: Chain, left: tuple[str, str], right: tuple[str, str], result: str
) -> tuple[str, str]:
    """The product over the letters that both have and the result has not; "" where its shapes
    are not known well enough to flatten them."""
    (x, a), (y, b) = left, right
    program = chain.site.program
    sizes = {**dict(zip(b, program.var(y).shape)), **dict(zip(a, program.var(x).shape))}
    batch = [c for c in result if c in a and c in b]
    over = [c for c in a if c in b and c not in result]
    rows, columns = [c for c in a if c not in b], [c for c in b if c not in a]

    def flat(letters: list[str]) -> int:
        found = [sizes[c] for c in letters]
        return -1 if -1 in found else math.prod(found)

    groups = [flat(letters) for letters in (batch, rows, over, columns)]
    if sum(size < 0 for size in groups[:3]) > 1 or sum(groups[i] < 0 for i in (0, 2, 3)) > 1:
        return "", ""
    if sum(groups[i] < 0 for i in (0, 1, 3)) > 1:
        return "", ""
    n, m, k, p = groups
    x = _ordered(chain, x, a, [*batch, *rows, *over], (n, m, k))
    y = _ordered(chain, y, b, [*batch, *over, *columns], (n, k, p))
    out = _matmul(chain, x, y, (n, m, p))
    letters = "".join([*batch, *rows, *columns])
    shape = tuple(sizes[c] for c in letters)
    return (out if shape == (n, m, p) else chain.reshape(out, shape)), letters


def _ordered(
    chain: Chain, x: str, letters: str, order: list[str], shape: tuple[int, int, int]
) -> str:
    axes = [letters.index(c) for c in order]
    if axes != sorted(axes):
        x = chain.transpose(x, axes)
    return x if chain.site.program.var(x).shape == shape else chain.reshape(x, shape)


@rule(
    ops=("matmul_v2",),
    because="lite/kernels/{arm,x86}/matmul_v2_compute.cc do not broadcast a stack of matrices",
)
def stack_to_matmul(op: Op, site: Site) -> Iterator[str]:
    """matmul_v2 of [N,M,K] with a parameter [P,1,K,Q] -> with [K,P*Q], and a transposition."""
    chain = Chain(op, site)
    x, y = chain.var(), op.inputs["Y"][0]
    weight = site.program.params.get(y)
    if weight is None or weight.ndim != 4 or len(x.shape) != 3 or weight.shape[1] != 1:
        return
    if op.get("trans_x", False) or op.get("trans_y", False) or -1 in x.shape[1:]:
        return
    p, _, k, q = weight.shape
    n, m, _ = x.shape
    name = site.program.new_name(f"{y}.stacked")
    flat = np.ascontiguousarray(weight[:, 0].transpose(1, 0, 2).reshape(k, p * q))
    site.program.set_param(name, flat)
    product = _matmul(chain, x.name, name, (n, m, p * q))
    chain.transpose(chain.reshape(product, (n, m, p, q)), [2, 0, 1, 3])
    chain.end()
    yield f"{p} matrices became one"


@rule(
    ops=("matmul_v2",),
    because="lite/kernels/{arm,x86}/matmul_v2_compute.cc pair stacks of matrices one by one, and "
    "take a vector on the left of a stack for one on the left of a matrix",
)
def broadcast_stacks(op: Op, site: Site) -> Iterator[str]:
    """Stacks of matrices of unlike shapes: one that is a single matrix becomes that, others are
    spread by adding zeros of the other's shape."""
    chain = Chain(op, site)
    x, y = chain.var().shape, chain.var("Y").shape
    if len(x) == 1 and len(y) > 2:
        yield from _vector_times_stack(chain, op)
        return
    if min(len(x), len(y)) <= 2 or _stack(x) == _stack(y):
        return
    for slot, shape, other in (("X", x, y), ("Y", y, x)):
        if set(shape[:-2]) == {1} and len(shape) <= len(other) and min(shape) > 0:
            op.inputs[slot] = [chain.reshape(chain.var(slot).name, shape[-2:])]
            site.replace(*chain.ops, op)
            yield f"{slot} became one matrix"
            return
    rank = max(len(x), len(y))
    aligned = {slot: _aligned(chain, slot, rank) for slot in ("X", "Y")}
    # Paddle writes the stack of the operand of more dimensions, even where that is 1.
    pairs = zip(*(site.program.var(aligned[slot]).shape[:-2] for slot in ("X", "Y")))
    batch = tuple(b if a == 1 else a if b == 1 else max(a, b) for a, b in pairs)
    chain.out.shape = (*batch, *chain.out.shape[-2:])
    for slot, partner in (("X", "Y"), ("Y", "X")):
        own = site.program.var(aligned[slot]).shape
        if own[:-2] != batch:
            zeros = _zeros(chain, aligned[partner])
            whole = (*batch, *own[-2:])
            op.inputs[slot] = [chain("elementwise_add", aligned[slot], zeros, shape=whole)]
        else:
            op.inputs[slot] = [aligned[slot]]
    site.replace(*chain.ops, op)
    yield f"its stacks became {list(batch)}"


def _stack(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The dimensions before a matrix, without leading ones."""
    batch = list(shape[:-2])
    while batch and batch[0] == 1:
        del batch[0]
    return tuple(batch)


def _vector_times_stack(chain: Chain, op: Op) -> Iterator[str]:
    """[K] times [..., K, N] -> [1, K] times it, without the axis of 1."""
    out = chain.out.shape
    row = chain.reshape(chain.var().name, (1, chain.var().shape[0]))
    made = chain("matmul_v2", row, op.inputs["Y"][0], shape=(*out[:-1], 1, out[-1]),
                 trans_x=False, trans_y=op.get("trans_y", False))  # fmt: skip
    chain("squeeze2", made, axes=[len(out) - 1])
    chain.end()
    yield "its vector became a matrix of one row"


def _aligned(chain: Chain, slot: str, rank: int) -> str:
    var = chain.var(slot)
    more = rank - len(var.shape)
    if not more:
        return var.name
    shape = (*[1] * more, *var.shape)
    return chain("unsqueeze2", var.name, shape=shape, axes=list(range(more)))


def _zeros(chain: Chain, x: str) -> str:
    """Zeros of [..., 1, 1] for x of [..., M, N]."""
    shape = chain.site.program.var(x).shape
    rank = len(shape)
    one = chain(
        "slice", x, slots=("Input", "", "Out"), shape=(*shape[:-2], 1, 1),
        axes=[rank - 2, rank - 1], starts=[0, 0], ends=[1, 1], infer_flags=[1, 1],
    )  # fmt: skip
    chain.ops[-1].set("decrease_axis", [], "INTS")
    zeros = chain("fill_any_like", one, shape=(*shape[:-2], 1, 1), value=0.0)
    chain.ops[-1].set("dtype", DTYPE_NUMBERS["float32"])
    return zeros
