"""Random programs through the graph optimizer: what the server answers must not change.

    python benchmarks/mutants.py [--count 2000] [--seed 0] [--constants]

Each program is a chain of random operators that fit each other (reshapes, transpositions, slices,
splits, products, convolutions, norms, sums with parameters, windows, dropouts ...) of random
attributes, some of them twice, some fetched in the middle. All repairs and passes are applied, and
the program is run by Paddle's static executor before and after, on batches of 1 and 3.
`--constants` also computes beforehand what depends on no input, which starts a child for every
program.

Exits with 1 where an answer changed or anything but our own errors was raised, and prints the seed
of each such program.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

os.environ["FLAGS_enable_pir_api"] = "0"  # noqa: SIM112  as Paddle calls it
os.environ.setdefault("GLOG_minloglevel", "3")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import make_model

from lite_opt.model.pdmodel import serialize
from lite_opt.model.program import Program, Var
from lite_opt.passes.repair import repair
from py_runner.errors import ConvertError, ModelError

_TOLERANCE = 2e-5  # of the largest answer: sums in another order


class Chain:
    """A program of random operators, each on a tensor of [N, ...] that came before."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.b = make_model.Builder(seed)
        shape = (-1, *(int(d) for d in self.random.choice([2, 3, 4, 6], self.pick(2, 4))))
        self.tensors = [self.b.input("x", shape)]
        self.count = 0

    def pick(self, low: int, high: int) -> int:
        return int(self.random.integers(low, high))

    def shape(self, name: str) -> tuple[int, ...]:
        return self.b.vars[name].shape

    def name(self, kind: str) -> str:
        self.count += 1
        return f"{kind}{self.count}"

    def param(self, shape: tuple[int, ...]) -> str:
        name = self.b.param(self.name("p"), shape)
        kind = self.pick(0, 8)
        if kind < 2:  # neutral numbers, which passes look for
            self.b.params[name] = np.full(shape, float(kind), "float32")
        return name

    def add(self, type_: str, x: str, to: tuple[int, ...], of: str = "X", /, **attrs: Any) -> str:
        out = self.b.op(type_, {of: [x]}, self.name(type_), to, **attrs)
        self.tensors.append(out)
        return out

    def reshape(self, x: str) -> None:
        factors = [f for d in self.shape(x)[1:] for f in _primes(d)]
        self.random.shuffle(factors)
        cut = [int(f) for f in factors]
        while len(cut) > 1 and (len(cut) > 4 or self.random.random() < 0.4):
            at = self.pick(0, len(cut) - 1)
            cut[at : at + 2] = [cut[at] * cut[at + 1]]
        self.add("reshape2", x, (-1, *cut), shape=[-1, *cut])

    def transpose(self, x: str) -> None:
        shape = self.shape(x)
        order = [0, *(1 + int(i) for i in self.random.permutation(len(shape) - 1))]
        self.add("transpose2", x, tuple(shape[i] for i in order), axis=order)

    def unary(self, x: str) -> None:
        type_ = str(self.random.choice(["relu", "sigmoid", "tanh", "hard_swish", "assign"]))
        attrs = {"threshold": 6.0, "scale": 6.0, "offset": 3.0} if type_ == "hard_swish" else {}
        self.add(type_, x, self.shape(x), **attrs)

    def scale(self, x: str) -> None:
        numbers = [0.0, 1.0, 0.5, -2.0]
        self.add("scale", x, self.shape(x), scale=float(self.random.choice(numbers)),
                 bias=float(self.random.choice(numbers[:3])),
                 bias_after_scale=bool(self.pick(0, 2)))  # fmt: skip

    def softmax(self, x: str) -> None:
        self.add("softmax", x, self.shape(x), axis=-1)

    def dropout(self, x: str) -> None:
        kind = str(self.random.choice(["upscale_in_train", "downgrade_in_infer"]))
        out = self.add("dropout", x, self.shape(x), dropout_prob=0.25, is_test=True,
                       dropout_implementation=kind)  # fmt: skip
        mask = f"{out}.mask"
        self.b.ops[-1].outputs["Mask"] = [mask]
        self.b.vars[mask] = Var(mask, "uint8", self.shape(x))

    def slice(self, x: str) -> None:
        axis = self.pick(1, len(self.shape(x)))
        size = self.shape(x)[axis]
        for _ in range(self.pick(1, 4)):
            start = self.pick(0, size)
            end = self.pick(start + 1, size + 1)
            gone = end == start + 1 and len(self.shape(x)) > 2 and self.pick(0, 2) == 1
            shape = list(self.shape(x))
            shape[axis] = end - start
            if gone:
                del shape[axis]
            self.add("slice", x, tuple(shape), "Input", axes=[axis], starts=[start],
                     ends=[end if end < size else 2**31 - 1], infer_flags=[1],
                     decrease_axis=[axis] if gone else [])  # fmt: skip

    def split(self, x: str) -> None:
        axis = self.pick(1, len(self.shape(x)))
        size = self.shape(x)[axis]
        first = self.pick(1, size) if size > 1 else 1
        sections = [first, size - first] if size > 1 else [1]
        outs = []
        for section in sections:
            shape = list(self.shape(x))
            shape[axis] = section
            name = self.name("part")
            self.b.vars[name] = Var(name, "float32", tuple(shape))
            outs.append(name)
        self.add("split", x, self.shape(x), axis=axis, num=0, sections=sections)
        del self.b.vars[self.tensors.pop()]
        self.b.ops[-1].outputs["Out"] = outs
        self.tensors += outs

    def linear(self, x: str) -> None:
        shape = self.shape(x)
        width = int(self.random.choice([4, 6, 12]))
        weight = self.b.param(self.name("w"), (shape[-1], width))
        out = self.b.op("matmul_v2", {"X": [x], "Y": [weight]}, self.name("matmul"),
                        (*shape[:-1], width), trans_x=False, trans_y=False)  # fmt: skip
        self.tensors.append(out)
        if self.pick(0, 2):
            self.elementwise(out, "elementwise_add", (width,))

    def elementwise(
        self, x: str, type_: str | None = None, shape: tuple[int, ...] | None = None
    ) -> None:
        kinds = ["elementwise_add", "elementwise_sub", "elementwise_mul"]
        whole = self.shape(x)
        if shape is None:
            shape = whole[self.pick(1, len(whole)) :]
        out = self.b.op(
            type_ or str(self.random.choice(kinds)), {"X": [x], "Y": [self.param(shape)]},
            self.name("e"), whole, axis=-1,
        )  # fmt: skip
        self.tensors.append(out)

    def convolve(self, x: str) -> str:
        """A convolution of [N,C,H,W] that keeps the sides, depthwise or not, with a bias or not."""
        n, c, *sides = self.shape(x)
        if len(sides) != 2:
            return x
        side, groups = int(self.random.choice([1, 3, 5])), int(self.random.choice([1, c]))
        channels = c if groups == c else int(self.random.choice([c, 4, 8]))
        weight = self.b.param(self.name("w"), (channels, c // groups, side, side))
        out = self.b.op(
            "conv2d" if groups == 1 else "depthwise_conv2d", {"Input": [x], "Filter": [weight]},
            self.name("conv"), (n, channels, *sides), slot="Output", strides=[1, 1],
            paddings=[side // 2] * 2, dilations=[1, 1], groups=groups,
            padding_algorithm="EXPLICIT", data_format="NCHW",
        )  # fmt: skip
        self.tensors.append(out)
        if self.pick(0, 2):
            wide = self.pick(0, 2)  # as the legacy exporter writes it
            bias, shape = self.param((1, channels, 1, 1) if wide else (channels,)), self.shape(out)
            out = self.b.op("elementwise_add", {"X": [out], "Y": [bias]}, self.name("e"), shape,
                            axis=-1 if wide else 1)  # fmt: skip
            self.tensors.append(out)
        return out

    def normalise(self, x: str) -> str:
        """A batch_norm, of factors that are mostly positive."""
        if len(self.shape(x)) != 4:
            return x
        channels = (self.shape(x)[1],)
        names = {slot: self.param(channels) for slot in ("Scale", "Bias", "Mean", "Variance")}
        for slot, least in (("Scale", -0.1), ("Variance", 0.5)):
            value = np.abs(self.b.params[names[slot]]) + np.float32(least)
            self.b.params[names[slot]] = value.astype("float32")
        out = self.b.op(
            "batch_norm", {"X": [x], **{slot: [name] for slot, name in names.items()}},
            self.name("bn"), self.shape(x), slot="Y", epsilon=1e-3, is_test=True,
            data_layout="NCHW",
        )  # fmt: skip
        outputs = self.b.ops[-1].outputs
        outputs |= {"MeanOut": [names["Mean"]], "VarianceOut": [names["Variance"]]}
        for slot in ("SavedMean", "SavedVariance"):
            outputs[slot] = [self.name(slot)]
            self.b.vars[outputs[slot][0]] = Var(outputs[slot][0], "float32", channels)
        self.tensors.append(out)
        return out

    def branches(self, x: str) -> None:
        """The sum of two of: a convolution, the same with a norm, the tensor itself."""
        pair = [self.convolve(x), self.normalise(self.convolve(x)), self.normalise(x), x]
        first, second = (pair[int(i)] for i in self.random.permutation(len(pair))[:2])
        if self.shape(first) == self.shape(second):
            out = self.b.op("elementwise_add", {"X": [first], "Y": [second]}, self.name("sum"),
                            self.shape(first), axis=-1)  # fmt: skip
            self.tensors.append(out)

    def before_a_convolution(self, x: str) -> None:
        """A factor, a gate or a norm whose numbers the convolution behind it may take."""
        kind = self.pick(0, 3)
        if kind == 0:
            self.scale(x)
        elif kind == 1:
            x = self.convolve(x)
            gate = self.add("hard_sigmoid", x, self.shape(x), slope=0.2, offset=0.5)
            of = self.random.choice([t for t in self.tensors if self.shape(t) == self.shape(x)])
            out = self.b.op("elementwise_mul", {"X": [gate], "Y": [str(of)]}, self.name("e"),
                            self.shape(gate), axis=-1)  # fmt: skip
            self.tensors.append(out)
        else:
            self.add("relu", self.normalise(x), self.shape(x))
        self.convolve(self.tensors[-1])

    def mean(self, x: str) -> None:
        """The mean over the sides, which stay."""
        if len(self.shape(x)) == 4:
            self.add("reduce_mean", x, (*self.shape(x)[:2], 1, 1), dim=[2, 3], keep_dim=True,
                     reduce_all=False)  # fmt: skip

    def twice(self, x: str) -> None:
        """The same operator again, and the sum of both."""
        one, two = (self.add("relu", x, self.shape(x)) for _ in range(2))
        out = self.b.op("elementwise_add", {"X": [one], "Y": [two]}, self.name("sum"),
                        self.shape(x), axis=-1)  # fmt: skip
        self.tensors.append(out)

    def table(self, x: str) -> None:
        """A sum with rows of a table, which depends on no input."""
        shape = self.shape(x)
        rows = self.b.param(self.name("table"), (7, shape[-1]))
        index = self.name("index")
        self.b.op("assign_value", {}, index, (1,), out_dtype="int32", shape=[1], dtype=2,
                  int32_values=[self.pick(0, 7)])  # fmt: skip
        row = self.b.op("gather", {"X": [rows], "Index": [index]}, self.name("row"),
                        (1, shape[-1]), axis=0)  # fmt: skip
        out = self.b.op("elementwise_add", {"X": [x], "Y": [row]}, self.name("e"), shape, axis=-1)
        self.tensors.append(out)

    def places(self, x: str) -> str:
        """A tensor as [N, places, channels]."""
        shape = self.shape(x)
        if len(shape) == 3:
            return x
        to = (-1, int(np.prod(shape[1:-1])) or 1, shape[-1])
        return self.add("reshape2", x, to, shape=list(to))

    def moved(self, x: str, order: list[int]) -> str:
        shape = self.shape(x)
        return self.add("transpose2", x, tuple(shape[i] for i in order), axis=order)

    def product(self, x: str, y: str, shape: tuple[int, ...], *, transposed: bool = False) -> str:
        name = self.b.op("matmul_v2", {"X": [x], "Y": [y]}, self.name("matmul"), shape,
                         trans_x=False, trans_y=transposed)  # fmt: skip
        self.tensors.append(name)
        return name

    def attention(self, x: str) -> None:
        """Queries, keys and values from one layer, split before or after they are rearranged, and
        what is computed of the values beside them."""
        x = self.places(x)
        _, rows, width = self.shape(x)
        heads, deep, wide = self.pick(1, 4), self.pick(1, 4), self.pick(1, 4)
        if self.pick(0, 2):
            wide = deep
        sizes = [deep, deep, wide]
        weight = self.b.param(self.name("w"), (width, heads * sum(sizes)))
        layer = self.product(x, weight, (-1, rows, heads * sum(sizes)))
        self.elementwise(layer, "elementwise_add", (heads * sum(sizes),))
        each: list[str] = []
        if wide == deep and self.pick(0, 2):  # by number, head and channel
            parts = self.add("reshape2", self.tensors[-1], (-1, rows, 3, heads, deep),
                             shape=[-1, rows, 3, heads, deep])  # fmt: skip
            parts = self.moved(parts, [2, 0, 3, 1, 4])
            for n in range(3):
                each.append(self.add("slice", parts, (-1, heads, rows, deep), "Input", axes=[0],
                                     starts=[n], ends=[n + 1], infer_flags=[1],
                                     decrease_axis=[0]))  # fmt: skip
        else:
            last = self.tensors[-1]
            apart = bool(self.pick(0, 2))  # by head, and its parts
            if apart:
                last = self.add("reshape2", last, (-1, rows, heads, sum(sizes)),
                                shape=[-1, rows, heads, sum(sizes)])  # fmt: skip
            lead = (-1, rows, heads) if apart else (-1, rows)
            sections = sizes if apart else [heads * size for size in sizes]
            names = [self.name("part") for _ in sizes]
            for name, section in zip(names, sections):
                self.b.vars[name] = Var(name, "float32", (*lead, section))
            self.add("split", last, (1,), axis=len(lead), num=0, sections=sections)
            del self.b.vars[self.tensors.pop()]
            self.b.ops[-1].outputs["Out"] = names
            for name, size in zip(names, sizes):
                if not apart:
                    name = self.add("reshape2", name, (-1, rows, heads, size),
                                    shape=[-1, rows, heads, size])  # fmt: skip
                each.append(self.moved(name, [0, 2, 1, 3]))
        query, key, value = each
        if flip := bool(self.pick(0, 2)):
            key = self.moved(key, [0, 1, 3, 2])
        maps = self.product(query, key, (-1, heads, rows, rows), transposed=not flip)
        maps = self.add("softmax", maps, (-1, heads, rows, rows), axis=-1)
        out = self.product(maps, value, (-1, heads, rows, wide))
        if self.pick(0, 2):
            beside = self.moved(value, [0, 1, 3, 2])
            beside = self.add("relu", beside, (-1, heads, wide, rows))
            beside = self.moved(beside, [0, 1, 3, 2])
            out = self.b.op("elementwise_add", {"X": [out], "Y": [beside]}, self.name("sum"),
                            (-1, heads, rows, wide), axis=-1)  # fmt: skip
            self.tensors.append(out)
        out = self.moved(out, [0, 2, 1, 3])
        to = (-1, rows, heads * wide)
        self.linear(self.add("reshape2", out, to, shape=list(to)))

    def windows(self, x: str) -> None:
        """Channels of places between two layers, taken apart by windows and put back."""
        x = self.places(x)
        self.linear(x)
        x = self.tensors[-1]
        _, rows, width = self.shape(x)
        for factor in _primes(rows)[:1]:
            parts = (-1, factor, rows // factor, width)
            y = self.moved(self.add("reshape2", x, parts, shape=list(parts)), [0, 2, 1, 3])
            y = self.moved(self.add("relu", y, self.shape(y)), [0, 2, 1, 3])
            y = self.add("reshape2", y, (-1, rows, width), shape=[-1, rows, width])
            y = self.b.op("elementwise_add", {"X": [x], "Y": [y]}, self.name("sum"),
                          (-1, rows, width), axis=-1)  # fmt: skip
            self.tensors.append(y)
            self.linear(y)

    def number(self, x: str) -> None:
        """A sum or a product with a single number or a vector, on either side, and another."""
        for _ in range(self.pick(1, 3)):
            shape = self.shape(x)
            number = self.param((1,) if self.pick(0, 2) else shape[-1:])
            kind = str(self.random.choice(["elementwise_add", "elementwise_sub",
                                           "elementwise_mul"]))  # fmt: skip
            sides = {"X": [number], "Y": [x]} if self.pick(0, 2) else {"X": [x], "Y": [number]}
            x = self.b.op(kind, sides, self.name("e"), shape, axis=-1)
            self.tensors.append(x)

    def activated(self, x: str) -> None:
        """A convolution, its activation and a scale."""
        out = self.convolve(x)
        if out != x:
            self.unary(out)
            self.scale(self.tensors[-1])

    def replaced(self, x: str) -> None:
        """Some places of one axis by what is computed of them."""
        axis = self.pick(1, len(self.shape(x)))
        size = self.shape(x)[axis]
        start = self.pick(0, size)
        end = self.pick(start + 1, size + 1)
        shape = list(self.shape(x))
        shape[axis] = end - start
        part = self.add("slice", x, tuple(shape), "Input", axes=[axis], starts=[start], ends=[end],
                        infer_flags=[1], decrease_axis=[])  # fmt: skip
        part = self.add("relu", part, tuple(shape))
        out = self.b.op("set_value", {"Input": [x], "ValueTensor": [part]}, self.name("set"),
                        self.shape(x), axes=[axis], starts=[start], ends=[end], steps=[1],
                        dtype=5)  # fmt: skip
        for name in ("decrease_axes", "none_axes", "shape"):
            self.b.ops[-1].set(name, [], "LONGS")
        self.tensors.append(out)

    def neighbours(self, x: str) -> None:
        """The largest of 2x2, or all of a window."""
        if len(self.shape(x)) != 4:
            return
        n, c, high, wide = self.shape(x)
        if self.pick(0, 2):
            self.add("pool2d", x, (n, c, high, wide), ksize=[2, 2], strides=[1, 1],
                     paddings=[0, 0], pooling_type="max", padding_algorithm="SAME",
                     global_pooling=False, adaptive=False, ceil_mode=False, exclusive=True,
                     data_format="NCHW")  # fmt: skip
            return
        top, left = self.pick(0, 3), self.pick(0, 3)
        out = self.b.op("unfold", {"X": [x]}, self.name("unfold"), (n, 9 * c, high * wide),
                        slot="Y", kernel_sizes=[3, 3], strides=[1, 1], dilations=[1, 1],
                        paddings=[top, left, 2 - top, 2 - left])  # fmt: skip
        self.tensors.append(out)

    def program(self) -> Program:
        makers = [
            self.reshape, self.reshape, self.transpose, self.transpose, self.unary, self.scale,
            self.softmax, self.dropout, self.slice, self.split, self.linear, self.linear,
            self.elementwise, self.twice, self.table, self.attention, self.attention, self.windows,
            self.convolve, self.convolve, self.normalise, self.branches,
            self.before_a_convolution, self.mean, self.number, self.activated, self.replaced,
            self.neighbours,
        ]  # fmt: skip
        for _ in range(self.pick(4, 16)):
            x = self.tensors[-1 - min(int(self.random.exponential(0.7)), len(self.tensors) - 1)]
            makers[self.pick(0, len(makers))](x)
        made = [t for t in self.tensors if t != "x"]
        ends = {made[-1], *(str(t) for t in self.random.choice(made, self.pick(0, 3)))}
        return self.b.program(*sorted(ends))


def _primes(n: int) -> list[int]:
    found = []
    for p in (2, 3):
        while n % p == 0:
            found.append(p)
            n //= p
    return [*found, *([n] if n > 1 else [])] or [1]


def answers(paddle: Any, program: Program, feeds: list[dict[str, Any]]) -> list[Any]:
    """What Paddle's static executor answers, parameters in a scope of their own."""
    scope = paddle.static.Scope()
    place = paddle.CPUPlace()
    with paddle.static.scope_guard(scope):
        for name, value in program.params.items():
            scope.var(name).get_tensor().set(np.ascontiguousarray(value), place)
        loaded = paddle.static.deserialize_program(serialize(program))
        names = [spec.name for spec in program.outputs]
        executor = paddle.static.Executor(place)
        return [executor.run(loaded, feed=feed, fetch_list=names) for feed in feeds]


def trial(paddle: Any, seed: int, without: list[str]) -> tuple[str, str]:
    """How one program came out: a word, and what to say of it."""
    program = Chain(seed).program()
    random = np.random.default_rng(seed)
    (spec,) = program.inputs
    feeds = [
        {spec.name: random.standard_normal((n, *spec.shape[1:])).astype("float32")} for n in (1, 3)
    ]
    try:
        before = answers(paddle, program, feeds)
    except Exception:
        return "not run by Paddle", ""
    size = len(program.ops)
    try:
        repair(program, without=without)
    except (ConvertError, ModelError) as error:
        return "refused", str(error)
    except Exception:
        return "RAISED", traceback.format_exc(limit=-3)
    after = answers(paddle, program, feeds)
    for batch, (left, right) in enumerate(zip(before, after)):
        for one, two in zip(left, right):
            close = one.shape == two.shape and np.allclose(
                one, two, rtol=0, atol=_TOLERANCE * max(float(np.abs(one).max()), 1e-3)
            )
            if not close:
                return "CHANGED", f"batch {batch}: {one.shape} {two.shape}"
    return ("smaller" if len(program.ops) < size else "as large"), ""


def main() -> int:
    """Try programs, and say how many came out how."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--constants", action="store_true")
    options = parser.parse_args()
    import paddle

    paddle.enable_static()
    without = [] if options.constants else ["evaluate"]
    found: Counter[str] = Counter()
    for seed in track(range(options.seed, options.seed + options.count)):
        word, told = trial(paddle, seed, without)
        found[word] += 1
        if word.isupper():
            print(f"seed {seed}: {word} {told}")
    print(", ".join(f"{count} {word}" for word, count in found.most_common()))
    return int(any(word.isupper() for word in found))


if __name__ == "__main__":
    sys.exit(main())
