"""Networks of one operator each, or of one kind: exported by Paddle, with its own eager answers.

`python tests/operators/networks.py FOLDER NAME...` writes FOLDER/NAME/inference.json (or .pdmodel
with FLAGS_enable_pir_api=0), the inputs x.npz (samples on axis 0) and the answers y_0.npy ...
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Inputs = dict[str, np.ndarray]
NETWORKS: dict[str, tuple[Callable[..., Any], Callable[[], Inputs]]] = {}


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Random numbers of both signs, some of them large."""
    values = np.random.default_rng(seed).standard_normal(shape) * 2
    return values.astype("float32")


def network(inputs: Callable[[], Inputs]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add a function of (paddle, tensors...) by its name."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        NETWORKS[function.__name__] = (function, inputs)
        return function

    return add


def _x() -> Inputs:
    return {"x": normal(2, 4, 6, 3)}


@network(_x)
def activations(paddle: Any, x: Any) -> list[Any]:
    f = paddle.nn.functional
    return [
        f.hardtanh(x, -0.3, 0.4), f.celu(x, 0.7), f.selu(x), f.softsign(x), f.softshrink(x, 0.3),
        f.hardshrink(x, 0.4), f.tanhshrink(x), f.log_sigmoid(x * 20), paddle.stanh(x),
    ]  # fmt: skip


@network(_x)
def rounding(paddle: Any, x: Any) -> list[Any]:
    return [paddle.ceil(x), paddle.trunc(x), paddle.sign(x), paddle.sign(x * 0)]


@network(_x)
def logarithms(paddle: Any, x: Any) -> list[Any]:
    y = x.abs() + 0.1
    return [paddle.log2(y), paddle.log10(y), paddle.log1p(y), paddle.expm1(x), paddle.tan(x * 0.3)]


@network(lambda: {"x": np.array([[1, np.nan, np.inf, 0], [np.nan, 0, 1, 2]], "float32")})
def isnan(paddle: Any, x: Any) -> list[Any]:
    return [paddle.isnan(x).astype("float32")]


def export(name: str, folder: Path) -> None:
    """Export a network, and write its inputs and answers."""
    import paddle

    function, make = NETWORKS[name]

    class One(paddle.nn.Layer):
        def forward(self, x: Any) -> Any:
            return function(paddle, x)

    class Two(paddle.nn.Layer):
        def forward(self, x: Any, y: Any) -> Any:
            return function(paddle, x, y)

    inputs = make()
    net = One() if len(inputs) == 1 else Two()
    net.eval()
    specs = [
        paddle.static.InputSpec([None, *value.shape[1:]], str(value.dtype), key)
        for key, value in inputs.items()
    ]
    count = len(next(iter(inputs.values())))
    answers = [
        [y.numpy() for y in net(*(paddle.to_tensor(v[i : i + 1]) for v in inputs.values()))]
        for i in range(count)
    ]
    static = paddle.jit.to_static(net, input_spec=specs, full_graph=True)
    paddle.jit.save(static, str(folder / "inference"))
    np.savez(folder / "x.npz", **inputs)
    for index, values in enumerate(zip(*answers)):
        np.save(folder / f"y_{index}.npy", np.stack(values))


if __name__ == "__main__":
    for wanted in sys.argv[2:]:
        target = Path(sys.argv[1], wanted)
        target.mkdir(parents=True, exist_ok=True)
        export(wanted, target)
