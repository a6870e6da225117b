"""Tiny Paddle models for the tests, written operator by operator as Paddle 2.6+ exports them.

`python tests/make_model.py FOLDER` writes the classifier; tests call the functions. Real exports
of real networks come from benchmarks/zoo.py; these are for what has to be small or odd.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from lite_opt.model.load import save as store
from lite_opt.model.program import Block, ModelFiles, Op, Program, Var

CLASSES = 10
SIDE = 16


class Builder:
    """Collects operators and parameters; `program()` closes them with feed and fetch."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.vars: dict[str, Var] = {}
        self.params: dict[str, np.ndarray[Any, Any]] = {}
        self.ops: list[Op] = []
        self.inputs: list[str] = []

    def input(self, name: str, shape: tuple[int, ...], dtype: str = "float32") -> str:
        self.vars[name] = Var(name, dtype, shape, need_check_feed=True)
        self.ops.append(Op("feed", {"X": ["feed"]}, {"Out": [name]}))
        self.ops[-1].set("col", len(self.inputs))
        self.inputs.append(name)
        return name

    def param(self, name: str, shape: tuple[int, ...], scale: float = 1.0) -> str:
        fan_in = int(np.prod(shape[1:])) or 1
        value = self.random.standard_normal(shape) * scale / np.sqrt(fan_in)
        self.params[name] = value.astype("float32")
        self.vars[name] = Var(name, "float32", shape, persistable=True, is_parameter=True)
        return name

    def op(
        self,
        type_: str,
        inputs: dict[str, list[str]],
        out: str,
        out_shape: tuple[int, ...],
        /,
        *,
        slot: str = "Out",
        out_dtype: str = "float32",
        **attrs: Any,
    ) -> str:
        self.vars[out] = Var(out, out_dtype, out_shape)
        op = Op(type_, inputs, {slot: [out]})
        for name, value in attrs.items():
            op.set(name, value)
        self.ops.append(op)
        return out

    def conv2d(
        self, x: str, weight: str, out: str, out_shape: tuple[int, ...], *, padding: int = 1
    ) -> str:
        """A plain convolution of stride 1 by the parameter `weight`."""
        return self.op(
            "conv2d",
            {"Input": [x], "Filter": [weight]},
            out,
            out_shape,
            slot="Output",
            strides=[1, 1],
            paddings=[padding, padding],
            dilations=[1, 1],
            groups=1,
            padding_algorithm="EXPLICIT",
            data_format="NCHW",
        )

    def program(self, *outputs: str, version: int = 3003001) -> Program:
        for column, name in enumerate(outputs):
            self.ops.append(Op("fetch", {"X": [name]}, {"Out": ["fetch"]}))
            self.ops[-1].set("col", column)
        # VarType of a feed or fetch list: one enum field.
        self.vars["feed"] = Var("feed", persistable=True, kind=9, other=b"\x08\x09")
        self.vars["fetch"] = Var("fetch", persistable=True, kind=10, other=b"\x08\x0a")
        return Program(
            [Block(0, -1, self.vars, self.ops)],
            self.params,
            files=ModelFiles(Path("made.pdmodel"), None),
            version=version,
        )


def classifier(*, seed: int = 0, transposed: bool = False, batch: int = -1) -> Program:
    """conv + bias + relu6, pool, mean, flatten, linear, softmax: [N,3,16,16] -> [N,10].

    It needs most repairs: a reshaped bias, relu6 without its threshold, a flatten without XShape,
    a matmul_v2 (with `transposed`, one that transposes) and a call stack.
    """
    b = Builder(seed)
    x = b.input("x", (batch, 3, SIDE, SIDE))
    conv = b.conv2d(x, b.param("conv.w", (8, 3, 3, 3), 2.0), "conv.out", (batch, 8, SIDE, SIDE))
    bias = b.op(
        "reshape2", {"X": [b.param("conv.b", (8,))]}, "conv.b4", (1, 8, 1, 1), shape=[1, 8, 1, 1]
    )
    added = b.op(
        "elementwise_add", {"X": [conv], "Y": [bias]}, "conv.add", b.vars[conv].shape, axis=-1
    )
    act = b.op("relu6", {"X": [added]}, "conv.relu6", b.vars[conv].shape)
    pooled = b.op(
        "pool2d",
        {"X": [act]},
        "pool.out",
        (batch, 8, 4, 4),
        pooling_type="avg",
        ksize=[4, 4],
        strides=[4, 4],
        paddings=[0, 0],
        global_pooling=False,
        ceil_mode=False,
        exclusive=True,
        adaptive=False,
        padding_algorithm="EXPLICIT",
        data_format="NCHW",
    )
    mean = b.op(
        "reduce_mean", {"X": [pooled]}, "mean.out", (batch, 8, 4), dim=[3], keep_dim=False,
        reduce_all=False,
    )  # fmt: skip
    flat = b.op(
        "flatten_contiguous_range", {"X": [mean]}, "flat.out", (batch, 32), start_axis=1,
        stop_axis=2,
    )  # fmt: skip
    shape = (CLASSES, 32) if transposed else (32, CLASSES)
    b.param("fc.w", shape)
    b.params["fc.w"] = (b.params["fc.w"] * 4).astype("float32")
    product = b.op(
        "matmul_v2", {"X": [flat], "Y": ["fc.w"]}, "fc.mul", (batch, CLASSES), trans_x=False,
        trans_y=transposed,
    )  # fmt: skip
    logits = b.op(
        "elementwise_add", {"X": [product], "Y": [b.param("fc.b", (CLASSES,))]}, "fc.out",
        (batch, CLASSES), axis=-1,
    )  # fmt: skip
    soft = b.op("softmax", {"X": [logits]}, "soft.out", (batch, CLASSES), axis=-1)
    for op in b.ops:
        op.set("op_callstack", ["  File somewhere.py, line 1"])
    return b.program(soft)


def save(program: Program, folder: Path, *, name: str = "inference") -> Path:
    """Write a program into a folder, which is made, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    store(program, folder, name=name)
    return folder


def pictures(folder: Path, count: int = 6, *, seed: int = 0, side: int = 24) -> Path:
    """A folder of small PNG images of coloured noise."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    for index in range(count):
        coarse = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
        image.save(folder / f"picture_{index}.png")
    return folder


if __name__ == "__main__":
    print(save(classifier(), Path(sys.argv[1])))
