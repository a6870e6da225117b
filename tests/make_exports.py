"""Exports small networks by Paddle itself, each of which a repair rule is for.

`FLAGS_enable_pir_api=0 python tests/make_exports.py FOLDER` uses the older exporter.
"""

from __future__ import annotations

import sys
from typing import Any

import paddle
from paddle import nn


class Norms(nn.Layer):  # type: ignore[misc]
    """Batch norms that lack a scale, a bias, and both."""

    def __init__(self) -> None:
        super().__init__()
        kinds: list[dict[str, Any]] = [{"weight_attr": False}, {"bias_attr": False}]
        kinds.append({**kinds[0], **kinds[1]})
        self.norms = nn.Sequential(*(nn.BatchNorm2D(4, **kind) for kind in kinds))
        for norm in self.norms:
            norm._mean.set_value(paddle.linspace(-1, 1, 4))
            norm._variance.set_value(paddle.linspace(0.5, 2, 4))

    def forward(self, x: Any) -> Any:
        return self.norms(x)


class Heads(nn.Layer):  # type: ignore[misc]
    """A product with one matrix for all heads."""

    def forward(self, x: Any) -> Any:
        return paddle.matmul(x, x[:, 1:2, :, :].transpose([0, 1, 3, 2]))


class HeadsTransposed(nn.Layer):  # type: ignore[misc]
    """The same, transposed by matmul."""

    def forward(self, x: Any) -> Any:
        return paddle.matmul(x, x[:, 1:2, :5, :], transpose_y=True)


class Patches(nn.Layer):  # type: ignore[misc]
    """An image put together of patches that do not overlap."""

    def forward(self, x: Any) -> Any:
        return nn.functional.fold(x.reshape([1, 30, 12]), [8, 9], [2, 3], strides=[2, 3])


class ByTensor(nn.Layer):  # type: ignore[misc]
    """Reshapes to a scalar, and by a shape that is a tensor."""

    def forward(self, x: Any) -> Any:
        shape = paddle.cast(x[0, 0, 0, :2], "int32")
        return x[:, 0, 0, :1].reshape([]), x[0, 0].reshape(shape)


class Branch(nn.Layer):  # type: ignore[misc]
    """A branch on a parameter, as RepVggBlock of PP-YOLOE+ has one."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha = self.create_parameter([1], default_initializer=nn.initializer.Constant(1.0))

    def forward(self, x: Any) -> Any:
        if self.alpha:
            return x * self.alpha
        return x + 1


NETWORKS: dict[type[nn.Layer], list[int]] = {Norms: [1, 4, 8, 8], Patches: [1, 3, 10, 12]}
# The older exporter of Paddle 3.3 cannot trace these.
PIR_ONLY = {Heads: [1, 4, 8, 6], HeadsTransposed: [1, 4, 8, 6]}
PIR_ONLY |= {ByTensor: [1, 1, 4, 6], Branch: [1, 1, 4, 6]}

if __name__ == "__main__":
    is_pir = paddle.get_flags("FLAGS_enable_pir_api")["FLAGS_enable_pir_api"]
    for kind, shape in {**NETWORKS, **(PIR_ONLY if is_pir else {})}.items():
        network = kind()
        network.eval()
        spec = [paddle.static.InputSpec(shape, "float32", "x")]
        static = paddle.jit.to_static(network, input_spec=spec, full_graph=True)
        paddle.jit.save(static, f"{sys.argv[1]}/{kind.__name__}/inference")
