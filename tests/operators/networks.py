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
        f.hardshrink(x, 0.4), f.tanhshrink(x), f.log_sigmoid(x * 20), paddle.stanh(x), f.silu(x),
        (x - 1).abs(), (x * x[:, :1]).abs(), (x + 1).abs() + (x + 1),
    ]  # fmt: skip


@network(_x)
def rounding(paddle: Any, x: Any) -> list[Any]:
    return [
        paddle.ceil(x),
        paddle.trunc(x),
        paddle.sign(x),
        paddle.sign(x * 0),
        paddle.round(x),
        paddle.round((x * 2).floor() / 2),
    ]


@network(_x)
def logarithms(paddle: Any, x: Any) -> list[Any]:
    y = x.abs() + 0.1
    return [paddle.log2(y), paddle.log10(y), paddle.log1p(y), paddle.expm1(x), paddle.tan(x * 0.3)]


@network(_x)
def hyperbolics(paddle: Any, x: Any) -> list[Any]:
    small = x * 0.12
    return [
        paddle.sinh(x), paddle.cosh(x), paddle.asinh(x), paddle.acosh(x.abs() + 1),
        paddle.atanh(small), paddle.sign((x * 3).astype("int64")).astype("float32"),
        paddle.sign((x * 3).astype("int32")),
    ]  # fmt: skip


@network(
    lambda: {"x": np.array([[1, np.nan, np.inf, 0], [np.nan, -np.inf, 3.4028234e38, 2]], "float32")}
)
def isnan(paddle: Any, x: Any) -> list[Any]:
    found = [paddle.isnan(x), paddle.isinf(x), paddle.isfinite(x)]
    return [y.astype("float32") for y in found]


def _pair() -> Inputs:
    return {"x": normal(2, 5, 8), "y": normal(2, 3, 8, seed=1)}


@network(_pair)
def einsums(paddle: Any, x: Any, y: Any) -> list[Any]:
    q, k = x.reshape([-1, 2, 5, 4]), y.reshape([-1, 2, 3, 4])
    w = paddle.to_tensor(normal(8, 6, seed=2))
    return [
        paddle.einsum("bhqd,bhkd->bhqk", q, k), paddle.einsum("bqd,bkd->bqk", x, y),
        paddle.einsum("bqd->bdq", x), paddle.einsum("bqd->bq", x),
        paddle.einsum("bqd,de->bqe", x, w), paddle.einsum("bqd,bkd->bdkq", x, y),
        paddle.einsum("bhqd,bhkd->bqhk", q, k), paddle.einsum("bqd,bkd->bd", x, y),
    ]  # fmt: skip


@network(_pair)
def products(paddle: Any, x: Any, y: Any) -> list[Any]:
    w, b = paddle.to_tensor(normal(8, 5, seed=2)), paddle.to_tensor(normal(5, seed=3))
    return [
        paddle.bmm(x, y.transpose([0, 2, 1])), paddle.addmm(b, x[0], w, beta=0.5, alpha=2.0),
        paddle.dot(x[:, 0], x[:, 1]), paddle.mv(x[0], w[:, 0]),
    ]  # fmt: skip


@network(lambda: {"x": normal(2, 4, 6)})
def stacks(paddle: Any, x: Any) -> list[Any]:
    z, w = x.transpose([0, 2, 1]), paddle.to_tensor(normal(3, 6, 4, seed=2))
    x3, z3 = x.unsqueeze(1).tile([1, 3, 1, 1]), z.unsqueeze(1).tile([1, 3, 1, 1])
    return [
        paddle.matmul(x[:1], z), paddle.matmul(x[0], z3), paddle.matmul(x[0, 0], z),
        paddle.matmul(x.unsqueeze(1), z3), paddle.matmul(x3, z.unsqueeze(1)), paddle.matmul(x3, z3),
        paddle.matmul(x.unsqueeze(1), w), paddle.matmul(w, x.unsqueeze(1)),
        paddle.matmul(x3, w[0]), paddle.matmul(x.unsqueeze(1), w, True, True),
        paddle.matmul(x3.transpose([1, 0, 2, 3]), z), paddle.matmul(x, z[0, :, 0]),
        paddle.matmul(x[0, 0], z3), paddle.matmul(x3[:, :, :, :4], z3[:, :1, :4], True, False),
    ]  # fmt: skip


@network(lambda: {"x": normal(2, 4, 6), "y": np.random.default_rng(0).integers(0, 4, (2, 4, 3))})
def picks(paddle: Any, x: Any, y: Any) -> list[Any]:
    return [
        paddle.take_along_axis(x, y, axis=2), paddle.index_sample(x[0], y[0]),
        paddle.take_along_axis(x[:, :, :3], y, axis=1),
        paddle.put_along_axis(x, y[:, :, :1], x[:, :, 5:], axis=2, broadcast=False),
    ]  # fmt: skip


@network(lambda: {"x": normal(2, 4, 6), "y": np.array([[3, 1, 1], [0, 2, 0]])})
def scatters(paddle: Any, x: Any, y: Any) -> list[Any]:
    rows = paddle.to_tensor(normal(3, 6, seed=4))
    zeros = paddle.zeros([1, 4, 1], dtype="int64")
    return [
        paddle.scatter(x[0], y[0], rows), paddle.scatter(x[0], y[0], x[0, :3], overwrite=False),
        paddle.scatter(x[0].reshape([4, 2, 3]), y[0, :2], rows[:2].reshape([2, 2, 3])),
        paddle.put_along_axis(x, zeros, 9.0, axis=2),
        paddle.put_along_axis(x, zeros + 3, 9.0, axis=2, reduce="add"),
        paddle.put_along_axis(x, paddle.ones([1, 1, 6], dtype="int64"), -2.0, axis=1),
    ]  # fmt: skip


@network(lambda: {"x": normal(2, 4, 6)})
def selections(paddle: Any, x: Any) -> list[Any]:
    return [
        paddle.repeat_interleave(x, 2, axis=1), paddle.diagonal(x, axis1=1, axis2=2),
        paddle.diagonal(x, offset=-1, axis1=2, axis2=1), paddle.argmin(x, axis=1),
        paddle.argmin(x, axis=-1, keepdim=True, dtype="int32"),
        paddle.argmin((x * 64).astype("int64"), axis=1),
        paddle.argmin((x * 64).astype("int32"), axis=2),
    ]  # fmt: skip


@network(lambda: {"x": normal(2, 5, 6)})
def backwards(paddle: Any, x: Any) -> list[Any]:
    i = (x * 10).astype("int64")
    return [
        x[:, ::-1], x[:, ::-2, 1:5:2], x[:, 3:0:-1, ::-1], x[:, -2:-5:-2], x[:, :, 4::-3],
        x[::-1], i[:, ::-1], i.astype("int32")[:, ::-1, ::2],
    ]  # fmt: skip


@network(lambda: {"x": normal(2, 4, 6)})
def truths(paddle: Any, x: Any) -> list[Any]:
    m, n = x > 0, x < 0.5
    moved = [
        m[:, 1:3], m[:, ::2], m[:, ::-1], paddle.concat([m, n], axis=1), m.transpose([0, 2, 1]),
        m.reshape([-1, 24]), m.unsqueeze(1), paddle.any(m, axis=1), paddle.all(n, axis=[1, 2]),
        m[:, :1].expand([-1, 4, 6]), paddle.stack([m, n], axis=1), m.tile([1, 2, 1]),
        paddle.roll(m, 1, axis=1), *paddle.split(m, 2, axis=1), paddle.where(m, n, m), m[:, 0],
        paddle.index_select(m, paddle.to_tensor([2, 0]), axis=1), paddle.flip(m, [2]), *m.unbind(2),
    ]  # fmt: skip
    return [y.astype("float32") for y in moved]


@network(lambda: {"x": normal(2, 4, 6)})
def logic(paddle: Any, x: Any) -> list[Any]:
    m, row, column = x > 0, x[0, :1] > 0, x[:, :, :1] < 1
    made = [
        m & row, row & m, m | column, column | m, row ^ column, ~row & m,
        paddle.logical_and(m, m[:, 0].unsqueeze(1)), x > x[0, 0], x[0, 0] < x, x == x[:, :1],
        x[:, :1] != x, x[:, :, :1] >= x[0, :1], x[0, 0, 0] < x, x[0, 0] <= x[:, :, :1],
        x[:, :, :4][:, :, :, None] > x[:, 0, :4][:, None, None, :], x[0, :, :1] >= x[0, :1, :4],
    ]  # fmt: skip
    return [y.astype("float32") for y in made]


@network(lambda: {"x": np.abs(normal(2, 4, 6))})
def masks(paddle: Any, x: Any) -> list[Any]:
    y = x.clone()
    y[x > 1] = -0.5
    whole = (x * 10).astype("int64")
    return [x[x >= 0] * 2, paddle.masked_select(whole, x >= 0).astype("float32"), y]


@network(lambda: {"x": normal(2, 8, 6, 4)})
def shuffles(paddle: Any, x: Any) -> list[Any]:
    f = paddle.nn.functional
    return [f.pixel_unshuffle(x, 2), f.channel_shuffle(x, 4)]


@network(lambda: {"x": normal(2, 4, 6)})
def folds(paddle: Any, x: Any) -> list[Any]:
    return [
        paddle.logsumexp(x * 30, axis=[1, 2]), paddle.logsumexp(x, axis=-1, keepdim=True),
        x.norm(p=1, axis=1), x.norm(p=float("inf"), axis=1), x.norm(p=float("-inf"), axis=2),
        paddle.amax(x, axis=-1), paddle.amin(x, axis=1, keepdim=True), x.norm(p=3, axis=2),
        x.norm(p="fro", axis=[1, 2]),
    ]  # fmt: skip


@network(lambda: {"x": normal(2, 5, 6)})
def scans(paddle: Any, x: Any) -> list[Any]:
    return [
        paddle.cumprod(x, dim=1), paddle.cumprod(x, dim=-1), paddle.cummax(x, axis=2)[0],
        paddle.cummin(x, axis=1)[0], paddle.logcumsumexp(x * 40, axis=1),
        paddle.logcumsumexp(x, axis=-1), paddle.cummax(x[:, :1], axis=1)[0] * 2,
    ]  # fmt: skip


@network(lambda: {"x": normal(2, 5, 5)})
def triangles(paddle: Any, x: Any) -> list[Any]:
    mask = paddle.tril(paddle.ones([5, 5], dtype="bool"))
    return [
        paddle.where(mask, x[0], x[0] * 0), paddle.triu(x > 0, 1).astype("float32"),
        paddle.tril((x * 4).astype("int64"), -1),
    ]  # fmt: skip


@network(lambda: {"x": normal(2, 3, 6, 7)})
def circles(paddle: Any, x: Any) -> list[Any]:
    f = paddle.nn.functional
    deep = x.unsqueeze(2).expand([-1, -1, 2, -1, -1]) * 1.0
    return [
        f.pad(x, [1, 2, 2, 1], mode="circular"), f.pad(x, [0, 3, 0, 0], mode="circular"),
        f.pad(deep, [1, 0, 0, 2, 1, 1], mode="circular"),
        f.pad(x[:, :, 0], [2, 1], mode="circular", data_format="NCL"),
        f.pad(x, [2, 1, 0, 0], mode="replicate"), f.pad(x, [2, 1, 0, 0], mode="reflect"),
        f.pad(x, [0, 0, 2, 1], mode="replicate"),
        f.pad(x, [1, 1, 0, 0], mode="circular", data_format="NHWC"),
    ]  # fmt: skip


@network(lambda: {"x": normal(2, 4, 6), "y": normal(2, 4, 6, seed=1)})
def nothing(paddle: Any, x: Any, y: Any) -> list[Any]:
    """Parts that are empty, and sums and comparisons of truth values."""
    return [
        paddle.concat([x[:, 3:3], y], 1), paddle.concat([x, y[:, :, 6:], y], 2) + 1,
        paddle.nanmean(x, 1), (x > y).sum(1), (x > 0).sum(),
        paddle.equal_all(x, y).astype("int32"), paddle.equal_all(x, x * 1).astype("int32"),
    ]  # fmt: skip


@network(lambda: {"x": normal(2, 3, 6, 7)})
def borders(paddle: Any, x: Any) -> list[Any]:
    f = paddle.nn.functional
    whole = (x * 3).astype("int64")
    return [
        f.pad(x, [0, 0, 1, 1, 0, 0, 2, 0], value=-1.0), f.pad(x, [0, 0, 1, 2, 3, 0, 0, 4]),
        f.pad(whole, [0, 0, 0, 0, 0, 0, 9, 1], value=7), f.pad(x, [1, 0, 0, 2], value=3.5),
    ]  # fmt: skip


@network(lambda: {"x": normal(2, 4, 6), "y": normal(2, 4, 6, seed=1)})
def choices(paddle: Any, x: Any, y: Any) -> list[Any]:
    both = (x > 0) & (y > 0)
    return [
        x.masked_fill(x < 0, -5.0), x.masked_fill(x[:, :1] > 0, float("-inf")).clip(-9, 9),
        paddle.where(both, paddle.to_tensor(1), paddle.to_tensor(0)),
        paddle.where(x > y, x, y[:, :1]), paddle.where(x[:, :, :1] > 0, x, y),
        x.masked_fill(~(x < 0) | (y > 1), y[0, 0, 0]), x.masked_fill((x < 0) ^ (y < 0), 2.0),
    ]  # fmt: skip


@network(lambda: {"x": normal(2, 8, 6, 3)})
def elements(paddle: Any, x: Any) -> list[Any]:
    f = paddle.nn.functional
    third = paddle.full_like(x, 0.7)
    return [
        f.maxout(x, 2), f.gelu(x, approximate=True), paddle.floor_divide(x, third),
        paddle.mod(x, third), paddle.mod(-x, third), x.median(axis=1), x.median(axis=-1),
        x.median(axis=2, keepdim=True), x.astype("int64").astype("bool").astype("float32"),
    ]  # fmt: skip


@network(lambda: {"x": normal(2, 6, 5, 4)})
def responses(paddle: Any, x: Any) -> list[Any]:
    return [paddle.nn.functional.local_response_norm(x, 5, alpha=0.1)]


def _places() -> Inputs:
    return {"x": normal(2, 3, 4, 5), "y": normal(2, 7, 6, 2, seed=1) / 2}


@network(_places)
def places(paddle: Any, x: Any, y: Any) -> list[Any]:
    f = paddle.nn.functional
    return [
        f.grid_sample(x, y), f.grid_sample(x, y[:, :3], mode="nearest", align_corners=False),
        f.grid_sample(x, y[:, :4, :5], padding_mode="border"),
        f.grid_sample(x, y, padding_mode="reflection", align_corners=False),
    ]  # fmt: skip


@network(lambda: {"x": normal(2, 4, 6, 5)})
def deformed(paddle: Any, x: Any) -> list[Any]:
    weight = paddle.to_tensor(normal(6, 4, 3, 3, seed=1))
    offset = paddle.concat([x, x, x, x, x[:, :2]], axis=1) / 4
    deform = paddle.vision.ops.deform_conv2d
    mask = paddle.nn.functional.sigmoid(offset[:, :9])
    return [
        deform(x, offset, weight, padding=1),
        deform(x, offset, weight, padding=1, mask=mask),
        deform(
            x,
            paddle.concat([offset, offset * 2], 1),
            weight,
            padding=1,
            deformable_groups=2,
            mask=paddle.concat([mask, 1 - mask], 1),
        ),
    ]


@network(lambda: {"x": normal(2, 3, 6, 5)})
def resizes(paddle: Any, x: Any) -> list[Any]:
    f = paddle.nn.functional.interpolate
    line, deep = x[:, :, 0], x.unsqueeze(2).expand([-1, -1, 2, -1, -1]) * 1.0
    return [
        f(x, size=[10, 3], mode="bicubic"), f(x, size=[7, 9], mode="bicubic", align_corners=True),
        f(x, scale_factor=[1.5, 2.3], mode="bicubic"),
        f(line, size=[8], mode="linear", data_format="NCW"),
        f(line, scale_factor=1.7, mode="linear", data_format="NCW"),
        f(line, size=[8], mode="linear", align_mode=1, data_format="NCW"),
        f(line, size=[3], mode="linear", align_corners=True, data_format="NCW"),
        f(deep, size=[3, 4, 8], mode="trilinear", data_format="NCDHW"),
    ]  # fmt: skip


@network(lambda: {"x": normal(2, 6, 5, 4)})
def offsets(paddle: Any, x: Any) -> list[Any]:
    """Of which test_norms.py computes the answers: Paddle's group_norm itself cancels."""
    f = paddle.nn.functional
    high = (x * 4).floor() / 4 + 1000
    norms = [f.group_norm(high, groups) for groups in (3, 1, 6)]
    flat = [f.group_norm(high[:, :, 0], 3), f.instance_norm(high[:, :, 0])]
    return [*norms, f.instance_norm(high), *flat]


@network(lambda: {"x": normal(2, 6, 5, 4)})
def norms(paddle: Any, x: Any) -> list[Any]:
    f = paddle.nn.functional
    size, add = (paddle.to_tensor(normal(6, seed=n)) for n in (1, 2))
    return [
        f.group_norm(x, 3, weight=size, bias=add), f.instance_norm(x, weight=size, bias=add),
        f.group_norm(x[:, :, 0], 2, weight=size), f.instance_norm(x[:, :, 0] * 0.1),
        f.layer_norm(x, [5, 4]), f.layer_norm(x, [4], weight=size[:4]),
    ]  # fmt: skip


@network(lambda: {"x": normal(2, 4, 6)})
def deviations(paddle: Any, x: Any) -> list[Any]:
    return [x.std(axis=1), x.var(axis=2), paddle.numel(x).astype("float32") * 0.5]


@network(lambda: {"x": np.stack([normal(4, 6) + 1, -np.abs(normal(4, 6))])})
def branches(paddle: Any, x: Any) -> list[Any]:
    total = x.sum()
    count = paddle.full([1], 1, "int64")
    flag = paddle.full([1], False)
    fixed = paddle.full([1], 3.0)
    same = x[:, :, 0] * 2
    mask = x > 1
    if total > 0:
        y = x * 2
        mask = x < 0.5
        count = count + 3
        flag = x[0, 0, :1] > -9
        if x[0, 0, 0] > 0:
            y = y - 1
    else:
        y = (0 - x).sqrt()
    same = same + 1 if fixed > 2 else same - 1
    return [y, count, flag.astype("int32"), same, mask.astype("float32")]


@network(lambda: {"x": normal(2, 4, 6)})
def loops(paddle: Any, x: Any) -> list[Any]:
    i = paddle.zeros([1], "int64")
    y = x
    while i < 3:
        y = paddle.nn.functional.relu(y) + x[:, i.astype("int32")[0]].unsqueeze(1)
        j = paddle.full([], 0.5)
        while j < 1:
            y = y * j
            j = j + 0.25
        if x.sum() > 0:
            y = y + 1
        i += 1
    rows = []
    for n in range(paddle.full([1], 4, "int32")):
        rows.append(x[:, n] * 2)
    return [y, i.astype("float32"), paddle.concat(rows, axis=-1)]


@network(lambda: {"x": normal(2, 4, 6)})
def endless(paddle: Any, x: Any) -> list[Any]:
    while x.sum() < 5:
        x = x + 1
    return [x]


@network(lambda: {"x": normal(1, 4, 6)})
def unlike(paddle: Any, x: Any) -> list[Any]:
    return [x[:, 1:] if x.sum() > 0 else x]


@network(lambda: {"x": normal(2, 4, 9)})
def spectra(paddle: Any, x: Any) -> list[Any]:
    last, first = paddle.fft.rfft(x), paddle.fft.rfft(x, axis=1, norm="ortho")
    return [
        last.abs(), last.real(), first.imag(), paddle.as_real(last.transpose([0, 2, 1])[:, 1:]),
        paddle.fft.rfft(x[:, :, :8], n=6, norm="forward").abs(), x.abs(),
    ]  # fmt: skip


@network(lambda: {"x": normal(2, 4, 9)})
def phases(paddle: Any, x: Any) -> list[Any]:
    return [paddle.fft.rfft(x) * 2]


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
