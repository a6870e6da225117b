"""Reading Paddle 3's inference.json: real exports of small networks that together use most
operators of the table, compared with Paddle's own answers and with its older exporter.

Run as a script this file is the part that needs paddle, in processes of its own:
`test_pir.py export DIR` writes the models (the older export with FLAGS_enable_pir_api=0),
`test_pir.py run DIR` runs them before and after translation.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import need

from lite_opt.model.load import load, save
from lite_opt.model.pir import read_pir
from lite_opt.model.program import Op, Program
from lite_opt.passes.attributes import drop_callstack
from lite_opt.passes.repair import repair
from py_runner.errors import ConvertError, ModelError, PaddleEdgeError

IMAGE = ([None, 4, 8, 8], "float32")
# Name -> inputs (shape, dtype) of each network; `_networks` has their layers.
NETWORKS: dict[str, list[tuple[list[int | None], str]]] = {
    "conv": [IMAGE],
    "pool": [IMAGE],
    "norm": [IMAGE],
    "linear": [IMAGE],
    "activation": [IMAGE],
    "math": [IMAGE],
    "elementwise": [IMAGE, ([None, 1, 8, 8], "float32")],
    "integers": [([3, 4], "int64"), ([3, 4], "int32")],
    "logic": [IMAGE],
    "reshape": [IMAGE],
    "dynamic": [([None, None, 8], "float32")],
    "join": [IMAGE],
    "slices": [IMAGE],
    "index": [([6, 5], "float32"), ([3], "int64")],
    "reduce": [IMAGE],
    "search": [([6, 5], "float32")],
    "constants": [([2, 3], "float32")],
    "interpolate": [IMAGE],
    "pad": [IMAGE],
    "rearrange": [IMAGE],
    "attention": [([None, 6, 8], "float32")],
    "recurrent": [([None, 5, 4], "float32")],
    "embedding": [([None, 5], "int64")],
    "assign": [([3, 4, 5], "float32")],
    "detection": [([1, 3, 6, 4], "float32")],
    "unnamed": [IMAGE],
}
# Those that Paddle 3.3's older exporter can still write without constants of its own.
BOTH_WAYS = ("conv", "pool", "pad", "rearrange", "slices", "embedding", "assign", "unnamed")


def _networks(paddle: Any) -> dict[str, Callable[..., Any]]:
    """The forward functions; layers with parameters are made here."""
    nn, F = paddle.nn, paddle.nn.functional  # noqa: N806
    P = paddle  # noqa: N806
    conv = nn.Conv2D(4, 8, 3, stride=2, padding=1)
    depthwise = nn.Conv2D(8, 8, 3, padding="SAME", groups=8, bias_attr=False)
    up = nn.Conv2DTranspose(8, 4, 2, stride=2, output_padding=0)
    up_size = nn.Conv2DTranspose(4, 4, 3, stride=2, padding=1)
    bn, bn2 = nn.BatchNorm2D(4), nn.BatchNorm2D(8)
    gn, inorm, ln = nn.GroupNorm(2, 4), nn.InstanceNorm2D(4), nn.LayerNorm([8, 8])
    plain = nn.LayerNorm(8, weight_attr=False, bias_attr=False)
    fc = nn.Linear(8, 5)
    prelu = nn.PReLU(4)
    q, k, v, out = (nn.Linear(8, 8) for _ in range(4))
    token = P.create_parameter([1, 1, 8], "float32")
    lstm, gru = nn.LSTM(4, 3, direction="bidirect"), nn.GRU(4, 3, num_layers=2)
    table = nn.Embedding(11, 6, padding_idx=0)
    bn_params = [bn.weight, bn2.weight]
    for p in bn_params:
        p.set_value(P.uniform(p.shape, min=0.5, max=1.5))

    def activation(x: Any) -> Any:
        functions = [
            F.relu, F.relu6, F.leaky_relu, F.elu, F.celu, F.selu, F.gelu, F.sigmoid, F.silu,
            F.swish, F.mish, F.hardswish, F.hardsigmoid, F.hardtanh, F.hardshrink, F.softshrink,
            F.tanhshrink, F.thresholded_relu, F.softplus, F.softsign, F.log_sigmoid, F.tanh,
            F.softmax, F.log_softmax, P.stanh, prelu,
        ]  # fmt: skip
        gelu = F.gelu(x, approximate=True)
        softmax = F.softmax(x, axis=1)
        return [f(x) for f in functions] + [gelu, softmax, F.maxout(x, 2), F.dropout(x, 0.5)]

    def math(x: Any) -> Any:
        positive = x.abs() + 0.1
        small = P.clip(x, -0.9, 0.9)
        functions = [P.exp, P.expm1, P.sin, P.cos, P.tan, P.sinh, P.cosh, P.erf, P.floor, P.ceil,
                     P.round, P.sign, P.square, P.trunc, P.atan, P.asinh]  # fmt: skip
        roots = [P.log, P.log2, P.log10, P.log1p, P.sqrt, P.rsqrt, P.reciprocal]
        arcs = [P.asin, P.acos, P.atanh]
        return (
            [f(x) for f in functions]
            + [f(positive) for f in roots]
            + [f(small) for f in arcs]
            + [P.pow(positive, 1.5), x * 2 + 1, 3 - x, x / 4, P.acosh(positive + 1)]
            + [P.isnan(x), P.isinf(x), P.isfinite(x)]
        )

    def elementwise(x: Any, y: Any) -> Any:
        positive = y.abs() + 0.5
        scalar = P.to_tensor(0.25)
        return [
            x + y, x - y, x * y, x / positive, P.maximum(x, y), P.minimum(x, y), x % positive,
            P.fmax(x, y), P.fmin(x, y), positive**y, P.atan2(x, y), x * scalar, scalar - x,
            P.maximum(x, P.zeros([1])), P.add_n([x, x]), x * P.to_tensor([[[[2.0]]]]),
        ]  # fmt: skip

    def integers(x: Any, y: Any) -> Any:
        return [
            (x + 3) * 2, x * x, x // 3, x % 4, x & (x + 6), x | (x * 2), x ^ (x + 5), ~x,
            P.cast(x, "float32"), y + y, y // 2, P.cast(y, "int64") + x, P.max(x), P.sum(x, axis=1),
            P.cumsum(x, 1), P.full([2], 2**40, "int64") + x[0, :1], P.abs(x),
        ]  # fmt: skip

    def logic(x: Any) -> Any:
        a, b = x > 0.2, x <= 0.6
        return [
            a & b, a | b, a ^ b, ~a, x < 0.5, x >= 0.5, x == 0.5, x != x, P.any(a, axis=1),
            P.all(b), P.where(a, x, P.full_like(x, float("-inf"))), P.equal_all(x, x),
            P.nonzero(a), P.masked_select(x, a),
        ]  # fmt: skip

    def reshape(x: Any) -> Any:
        return [
            x.reshape([-1, 32, 8]), x.reshape([0, 4, 64]), x.transpose([0, 2, 3, 1]), x.flatten(1),
            x.flatten(2, 3), x.unsqueeze(1), x.unsqueeze([0, 3]), x.unsqueeze(2).squeeze(2),
            x.reshape([P.shape(x)[0], -1]), P.expand(x[:1, :1], [2, 4, 8, 8]),
            P.tile(x, [1, 2, 1, 1]),
            P.expand_as(x[:, :1], x), P.broadcast_to(x[:1], [3, 4, 8, 8]),
        ]  # fmt: skip

    def dynamic(x: Any) -> Any:
        b, n, c = P.shape(x)[0], P.shape(x)[1], x.shape[2]
        tokens = P.expand(token, [b, -1, -1])
        joined = P.concat([tokens, x], axis=1)
        heads = joined.reshape([b, n + 1, 2, c // 2]).transpose([0, 2, 1, 3])
        return [
            heads, x.reshape([b * n, c]), P.zeros([b, n]) + x[:, :, 0], P.arange(n), P.numel(x),
            x[:, : n - 1], P.full([b, 1], 2.0) * x[:, 0], P.tile(token, [b, n, 1]), P.shape(x),
            heads.transpose([0, 2, 1, 3]).reshape([P.shape(heads)[0], -1, c]),
        ]  # fmt: skip

    def join(x: Any) -> Any:
        a, b = P.split(x, 2, axis=1)
        c, d, e = P.split(x, [1, 2, 1], axis=1)
        f, g = P.chunk(x, 2, axis=-1)
        rows, columns = P.meshgrid(P.arange(3), P.arange(4))
        return [
            P.concat([b, a], axis=1), c, d, e, P.stack([f, g], axis=1), *P.unbind(a, axis=1),
            *P.unstack(b, axis=1), rows, columns, P.concat([x, x * 2], axis=-1),
            *P.broadcast_tensors([x, x[:, :1]]),
        ]  # fmt: skip

    def slices(x: Any) -> Any:
        return [
            x[:, 1:3], x[..., 0], x[:, -1], x[:, :, ::2, 1::3], x[:, :, 6:1:-2], x[0],
            x[0, 1, 2, 3],
            P.strided_slice(x, [2, 3], [0, 1], [8, 7], [2, 2]), x[:, None, 1],
            P.crop(x, [-1, 2, 3, 3], [0, 1, 2, 2]),
        ]  # fmt: skip

    def index(x: Any, i: Any) -> Any:
        pairs = P.stack([i, i % 5], axis=1)
        row = P.tile(i.unsqueeze(0), [6, 1])
        return [
            P.gather(x, i), P.gather(x, i % 5, axis=1), P.index_select(x, i, axis=0),
            P.gather_nd(x, pairs), P.take_along_axis(x, row % 5, 1), P.index_sample(x, row % 5),
            P.put_along_axis(x, row % 5, 1.0, 1), P.scatter(x, i, x[:3]), x[i], P.roll(x, 2, 0),
            P.scatter_nd_add(x, pairs, x[:3, 0]), P.flip(x, [0, 1]), P.tril(x), P.triu(x, 1),
            P.diagonal(x), F.one_hot(i, 7), P.repeat_interleave(x, 2, 1),
            P.roll(x, [1, -2], [0, 1]),
        ]  # fmt: skip

    def reduce(x: Any) -> Any:
        return [
            x.mean(), x.mean([2, 3]), x.mean(1, keepdim=True), x.sum(), x.sum(-1), x.max([1, 2]),
            x.min(2, keepdim=True), P.prod(x, 1), P.amax(x, 1), P.amin(x, [2, 3]),
            P.logsumexp(x, 1), P.norm(x, p=2, axis=1), P.norm(x, p=1, axis=1),
            P.cumsum(x, 1), P.cumprod(x, 1), x.sum(1, dtype="float64"),
            P.linalg.norm(x, p="fro", axis=[2, 3]), F.normalize(x, axis=1),
            P.std(x, axis=1), P.cumsum(x),
        ]  # fmt: skip

    def search(x: Any) -> Any:
        values, indices = P.topk(x, 2, axis=1)
        return [
            values, indices, P.argmax(x, 1), P.argmin(x, 0, keepdim=True), P.argmax(x),
            P.argsort(x, 1, descending=True), P.sort(x, 0), P.argmax(x, 1, dtype="int32"),
            *P.topk(x, 3, axis=0, largest=False),
        ]  # fmt: skip

    def constants(x: Any) -> Any:
        ramp = P.to_tensor(np.arange(6, dtype="float32").reshape(2, 3))
        return [
            x + ramp, x * P.full([2, 3], 0.1), x + P.to_tensor([1.5, -2.5, 1e30]), ramp,
            P.arange(0, 10, 3), P.arange(0.0, 1.0, 0.25), P.linspace(0, 1, 5), x * float("inf"),
            P.zeros([2, 2], "int32"), P.ones_like(x), P.to_tensor([True, False]),
            P.to_tensor([2**40, -3]), P.to_tensor(7), P.zeros([0, 2]), P.eye(3),
            P.to_tensor([0.1, 0.2], "float64"), P.to_tensor([1, 200], "uint8"), x.astype("float64"),
        ]  # fmt: skip

    def interpolate(x: Any) -> Any:
        def resize(mode: str, **options: Any) -> Any:
            return F.interpolate(x, mode=mode, **options)

        return [
            resize("nearest", scale_factor=2), resize("nearest", size=[5, 7]),
            resize("bilinear", size=[16, 12]), resize("bilinear", scale_factor=[2.0, 1.5]),
            resize("bilinear", size=[15, 15], align_corners=True),
            resize("bilinear", size=[3, 4], align_mode=1), resize("bicubic", size=[10, 10]),
            F.interpolate(x, size=P.shape(x)[2:] * 2, mode="nearest"),
            F.interpolate(x.flatten(2), scale_factor=2, mode="linear", data_format="NCW"),
            F.grid_sample(x, P.clip(x.transpose([0, 2, 3, 1])[..., :2], -1, 1)),
        ]  # fmt: skip

    def pad(x: Any) -> Any:
        return [
            F.pad(x, [1, 2, 0, 1]), F.pad(x, [1, 1, 1, 1], mode="reflect"),
            F.pad(x, [1, 0, 0, 1], mode="replicate"), F.pad(x, [2, 1, 1, 2], value=0.5),
            F.pad(x, [0, 0, 1, 1, 1, 1, 0, 0], value=-1.0), nn.ZeroPad2D(1)(x),
            F.pad(x.unsqueeze(2), [1, 1, 1, 1, 0, 1]),
        ]  # fmt: skip

    def rearrange(x: Any) -> Any:
        return [
            F.pixel_shuffle(x, 2), F.pixel_unshuffle(x, 2), F.channel_shuffle(x, 2),
            F.unfold(x, 3, paddings=1), F.temporal_shift(P.concat([x, x]), 2, 0.25),
        ]  # fmt: skip

    def attention(x: Any) -> Any:
        b = P.shape(x)[0]
        split = [f(x).reshape([b, 6, 2, 4]).transpose([0, 2, 1, 3]) for f in (q, k, v)]
        scores = P.matmul(split[0] * 0.5, split[1], transpose_y=True)
        mixed = P.matmul(F.softmax(scores, axis=-1), split[2])
        joined = mixed.transpose([0, 2, 1, 3]).reshape([b, 6, 8])
        return [
            plain(x + out(joined)),
            P.einsum("bnc,bmc->bnm", x, x),
            P.bmm(x, x.transpose([0, 2, 1])),
        ]

    def recurrent(x: Any) -> Any:
        y, (h, c) = lstm(x)
        z, g = gru(x)
        return [y, h, c, z, g]

    def assign(x: Any) -> Any:
        y = x * 1.5
        y[:, 1] = 0.5
        z = F.relu(x)
        z[0, 1:3] = x[1, 1:3] * 2
        return [y + 0.5, z * 2]

    def detection(x: Any) -> Any:
        image = P.zeros([1, 3, 16, 16])
        prior, variance = P.vision.ops.prior_box(x, image, [2.0], [4.0], [1.0, 2.0], flip=True)
        yolo, scores = P.vision.ops.yolo_box(
            P.tile(x, [1, 5, 1, 1])[:, :14], P.to_tensor([[16, 16]], "int32"),
            [2, 3, 4, 5], 2, 0.01, 8)  # fmt: skip
        rois = P.to_tensor([[0.0, 0.0, 3.0, 3.0]])
        count = P.to_tensor([1], "int32")
        align = P.vision.ops.roi_align(x, rois, count, 2)
        return [prior, variance, yolo, scores, align]

    return {
        "conv": lambda x: [up(F.relu(depthwise(conv(x)))), up_size(x, output_size=[16, 16])],
        "pool": lambda x: [
            F.max_pool2d(x, 2), F.avg_pool2d(x, 3, stride=2, padding=1, exclusive=False),
            F.adaptive_avg_pool2d(x, 1), F.adaptive_avg_pool2d(x, [2, 4]),
            F.adaptive_max_pool2d(x, 2), F.max_pool2d(x, 3, stride=2, ceil_mode=True),
            F.avg_pool2d(x, 2, padding="SAME"),
        ],
        "norm": lambda x: [bn(x), bn2(F.relu(conv(x))), gn(x), inorm(x), ln(x), plain(x),
                           F.local_response_norm(x, 3)],
        "linear": lambda x: [
            fc(x), P.addmm(P.ones([8, 8]), x[0, 0], x[0, 1], beta=0.5, alpha=2.0),
            P.matmul(x, x, transpose_x=True), P.dot(x[0, 0, 0], x[0, 0, 1]),
            P.mv(x[0, 0], x[0, 1, 0]),
        ],
        "activation": activation, "math": math, "elementwise": elementwise, "integers": integers,
        "logic": logic, "reshape": reshape, "dynamic": dynamic, "join": join, "slices": slices,
        "index": index, "reduce": reduce, "search": search, "constants": constants,
        "interpolate": interpolate, "pad": pad, "rearrange": rearrange, "attention": attention,
        "recurrent": recurrent, "embedding": lambda i: [table(i), F.one_hot(i, 11)],
        "assign": assign, "detection": detection, "unnamed": lambda x: F.relu(conv(x)),
    }  # fmt: skip


def _export(folder: Path) -> None:
    """Write every network to folder/<name>, or to folder/<name>-old with the older exporter."""
    import paddle

    paddle.seed(1)
    networks = _networks(paddle)
    old = os.environ.get("FLAGS_enable_pir_api") == "0"  # noqa: SIM112  Paddle's name
    for name in BOTH_WAYS if old else NETWORKS:
        forward = networks[name]

        class Network(paddle.nn.Layer):  # type: ignore[misc]
            """Owns the layers that the forward function refers to."""

            def __init__(self, forward: Callable[..., Any] = forward) -> None:
                super().__init__()
                self.run = forward
                for i, cell in enumerate(forward.__closure__ or ()):
                    setattr(self, f"part{i}", cell.cell_contents)

        class One(Network):
            def forward(self, x: Any) -> Any:
                return self.run(x)

        class Two(Network):
            def forward(self, x: Any, x1: Any) -> Any:
                return self.run(x, x1)

        specs = [
            paddle.static.InputSpec(shape, dtype, "x1" if i else "x")
            for i, (shape, dtype) in enumerate(NETWORKS[name])
        ]
        network = Two() if len(specs) == 2 else One()
        network.eval()
        static = paddle.jit.to_static(network, input_spec=specs, full_graph=True)
        paddle.jit.save(static, str(folder / (f"{name}-old" if old else name) / "inference"))


def _feeds(name: str, batch: int) -> dict[str, np.ndarray[Any, Any]]:
    generator = np.random.default_rng(3)
    feeds = {}
    for i, (shape, dtype) in enumerate(NETWORKS[name]):
        dims = [batch if d is None else d for d in shape]
        floats, integers = generator.random(dims) * 2 - 1, generator.integers(0, 5, dims)
        feeds["x1" if i else "x"] = (floats if dtype == "float32" else integers).astype(dtype)
    return feeds


def _run(folder: Path) -> None:
    """Print as JSON how Paddle's answers differ between each network and its translation."""
    import paddle.inference

    def answers(model: Path, feeds: dict[str, np.ndarray[Any, Any]]) -> dict[str, Any]:
        config = paddle.inference.Config(str(model), str(model.with_suffix(".pdiparams")))
        config.disable_glog_info()
        config.disable_mkldnn()
        config.switch_ir_optim(False)
        predictor = paddle.inference.create_predictor(config)
        for name in predictor.get_input_names():
            handle = predictor.get_input_handle(name)
            handle.reshape(feeds[name].shape)
            handle.copy_from_cpu(feeds[name])
        predictor.run()
        names = predictor.get_output_names()
        return {name: predictor.get_output_handle(name).copy_to_cpu() for name in names}

    result: dict[str, list[str]] = {}
    for name in NETWORKS:
        result[name] = wrong = []
        for batch in (1, 2):
            feeds = _feeds(name, batch)
            want = answers(folder / name / "inference.json", feeds)
            got = answers(folder / name / "translated" / "inference.pdmodel", feeds)
            if list(want) != list(got):
                wrong.append(f"outputs {list(want)}, translated {list(got)}")
                continue
            for key, value in want.items():
                other = got[key]
                floats = value.dtype.kind == "f"
                if value.dtype != other.dtype or not np.array_equal(value, other, equal_nan=floats):
                    wrong.append(
                        f"{key}: {value.dtype}{list(value.shape)}, "
                        f"translated {other.dtype}{list(other.shape)}, batch {batch}"
                    )
    print(json.dumps(result))


def _script(verb: str, folder: Path, *, pir: str = "1") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(Path(__file__)), verb, str(folder)],
        env={**os.environ, "FLAGS_enable_pir_api": pir, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _finish(process: subprocess.Popen[str]) -> str:
    out, errors = process.communicate(timeout=1800)
    assert process.returncode == 0, errors[-3000:]
    return out


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all networks, in both exports."""
    need(importlib.util.find_spec("paddle") is not None, "paddlepaddle, which exports the models")
    folder = tmp_path_factory.mktemp("pir")
    for process in [_script("export", folder, pir=pir) for pir in "10"]:
        _finish(process)
    return folder


@pytest.fixture(scope="session")
def differences(models: Path) -> dict[str, list[str]]:
    """Name -> how Paddle's answers on the translation differ from those on the export."""
    for name in NETWORKS:
        folder = models / name / "translated"
        folder.mkdir()
        save(load(models / name), folder)
    result: dict[str, list[str]] = json.loads(_finish(_script("run", models)).splitlines()[-1])
    return result


@pytest.mark.parametrize("name", NETWORKS)
def test_paddle_gives_the_same_answers(name: str, differences: dict[str, list[str]]) -> None:
    assert differences[name] == []


# What exporters write for Paddle itself, and outputs that newer ones leave out.
IGNORED = {"op_callstack", "op_device", "op_namescope", "op_role", "op_role_var", "with_quant_attr",
           "use_cudnn", "use_mkldnn", "use_quantizer", "mkldnn_data_type", "XShape"}  # fmt: skip


def _canonical(program: Program) -> list[Any]:
    """The operators with variables numbered as they appear, so that names do not matter."""
    numbers: dict[str, int] = {}

    def slots(names: dict[str, list[str]]) -> dict[str, list[int]]:
        return {
            slot: [numbers.setdefault(n, len(numbers)) for n in names[slot]]
            for slot in sorted(names)
            if names[slot] and slot not in IGNORED
        }

    return [
        (
            op.type,
            slots(op.inputs),
            slots(op.outputs),
            {
                name: (attr.type, np.float32(attr.value) if attr.type == "FLOAT" else attr.value)
                for name, attr in sorted(op.attrs.items())
                if name not in IGNORED
            },
        )
        for op in program.ops
    ]


@pytest.mark.parametrize("name", BOTH_WAYS)
def test_same_program_as_the_older_exporter(name: str, models: Path) -> None:
    new, old = load(models / name), load(models / f"{name}-old")
    # The bias of a convolution: [1, -1, 1, 1] here, with the number of channels there.
    for program in (new, old):
        for op in program.ops:
            if op.type == "reshape2" and op.input("X") in program.params:
                op.set("shape", list(program.var(op.output("Out") or "").shape))
    for ours, theirs in zip(_canonical(new), _canonical(old)):
        kind, inputs, outputs, attrs = theirs
        assert ours[:3] == (kind, inputs, outputs)
        assert {key: ours[3].get(key) for key in attrs} == attrs
        # More are written only at their default, which newer exporters leave out.
        assert ours[3].keys() - attrs.keys() <= {"axis", "beta", "fix_seed", "seed", "threshold"}
    assert len(new.ops) == len(old.ops)
    assert [(i.dtype, i.shape) for i in new.inputs] == [(i.dtype, i.shape) for i in old.inputs]
    assert [(o.dtype, o.shape) for o in new.outputs] == [(o.dtype, o.shape) for o in old.outputs]
    for mine, other in zip(new.params.values(), old.params.values()):
        np.testing.assert_array_equal(mine, other)
    repair(new), repair(old)
    assert [op.type for op in new.ops] == [op.type for op in old.ops]


def test_inputs_outputs_and_parameters(models: Path) -> None:
    program = load(models / "unnamed" / "inference.json")
    assert [(i.name, i.dtype, i.shape) for i in program.inputs] == [("x", "float32", (-1, 4, 8, 8))]
    assert [(o.name, o.shape) for o in program.outputs] == [("fetch_name_0", (-1, 8, 4, 4))]
    assert program.files.ir == "pir" and program.paddle_version == "unknown"
    assert [op.type for op in program.ops] == [
        "feed", "conv2d", "reshape2", "elementwise_add", "relu", "fetch",
    ]  # fmt: skip
    assert {str(value.dtype) for value in program.params.values()} == {"float32"}


def test_constants_become_attributes(models: Path) -> None:
    def op(network: str, kind: str, index: int = 0) -> Op:
        program = load(models / network)
        return [op for op in program.ops if op.type == kind][index]

    assert op("slices", "slice").get("starts") == [1]
    assert op("slices", "slice").get("ends") == [3]
    assert op("join", "split", 1).get("sections") == [1, 2, 1]
    assert op("pool", "pool2d").get("ksize") == [2, 2]
    assert op("reduce", "reduce_mean").get("reduce_all") is True
    assert op("activation", "dropout").get("dropout_prob") == 0.5
    assert op("interpolate", "nearest_interp_v2", 1).get("out_w") == 7
    # A shape that is known but for its batch needs no tensor.
    assert not any(op.type == "shape" for op in load(models / "attention").ops)


def test_computed_shapes_are_32_bit(models: Path) -> None:
    """Lite reads the tensors of a shape as int32, whatever they hold."""
    program = load(models / "dynamic")
    slots = ("Shape", "ShapeTensor", "expand_shapes_tensor", "EndsTensorList", "ShapeTensorList",
             "repeat_times_tensor")  # fmt: skip
    found = [
        program.var(name).dtype
        for op in program.ops
        for slot in slots
        for name in op.inputs.get(slot, [])
    ]
    assert len(found) > 8 and set(found) == {"int32"}
    shapes = [op.output("Out") for op in program.ops if op.type == "shape"]
    assert [program.var(name or "").dtype for name in shapes] == ["int32"] * len(shapes)


def test_every_variable_is_defined_before_it_is_used(models: Path) -> None:
    for name in NETWORKS:
        program = load(models / name)
        defined = {var.name for var in program.vars.values() if var.persistable}
        for op in program.ops:
            assert {n for names in op.inputs.values() for n in names} <= defined, (name, op.type)
            defined |= {n for names in op.outputs.values() for n in names}
        assert defined >= {spec.name for spec in (*program.inputs, *program.outputs)}


def test_older_versions_of_the_format(models: Path, tmp_path: Path) -> None:
    """Paddle 3.0 wrote version 1, with narrower attributes, and no layers."""
    text = (models / "activation" / "inference.json").read_text()
    root = json.loads(text.replace("0.a_f64", "0.a_f32").replace("0.a_i64", "0.a_i32"))
    root["base_code"] = {"magic": "pir", "trainable": False, "version": 1}
    for op in root["program"]["regions"][0]["blocks"][0]["ops"]:
        op.pop("OA"), op.pop("QA", None), op.pop("DA", None)
        op["A"] = [a for a in op["A"] if type(a) is not dict or a["N"] != "struct_name"]
    (tmp_path / "inference.json").write_text(json.dumps(root))
    params = models / "activation" / "inference.pdiparams"
    old, new = load(tmp_path, params=params), load(models / "activation")
    assert old.blocks == new.blocks


# The format by hand: a file of a few operators.


def _type(dtype: str = "f32", dims: tuple[int, ...] = (2, 3)) -> dict[str, Any]:
    return {"#": "0.t_dtensor", "D": [{"#": f"0.t_{dtype}"}, list(dims), "NCHW", [], 0]}


def _op(kind: str, inputs: list[int], *results: Any, **attrs: Any) -> dict[str, Any]:
    return {
        "#": kind,
        "A": [{"N": key, "AT": value} for key, value in attrs.items()],
        "I": [{"%": key} for key in inputs],
        "O": [{"%": key, "TT": type_} for key, type_ in results],
    }


def _text(value: str) -> dict[str, Any]:
    return {"#": "0.a_str", "D": value}


def _ints(*values: Any) -> dict[str, Any]:
    return {"#": "0.a_array", "D": [{"#": "0.a_i64", "D": v} for v in values]}


def _full(key: int, value: Any, dims: tuple[int, ...] = (), dtype: str = "float32") -> Any:
    short = {"float32": "f32", "float64": "f64", "int64": "i64"}[dtype]
    return _op(
        "1.full", [], (key, _type(short, dims)), value={"#": "0.a_f64", **value},
        shape={"#": "1.a_intarray", "D": list(dims)}, dtype={"#": "1.a_dtype", "D": dtype},
    )  # fmt: skip


DATA = _op("1.data", [], (1, _type()), name=_text("x"))
PARAMETER = {"#": "p", "A": [0, 1, 1, "w"], "O": {"%": 2, "TT": _type()}, "OA": [1, 0, 1]}


def _file(*ops: Any, result: int = 9, **changes: Any) -> bytes:
    fetch = _op("1.fetch", [result], (99, _type()), name=_text("y"), col={"#": "0.a_i32", "D": 0})
    block = {"#": "block_0", "args": [], "ops": [DATA, *ops, fetch]}
    root = {
        "base_code": {"magic": "pir", "trainable": True, "version": 4},
        "program": {"regions": [{"#": "region_0", "blocks": [block]}]},
    }
    return json.dumps({**root, **changes}).encode()


def _read(data: bytes) -> Program:
    path = Path("m.json")
    blocks, _, _ = read_pir(path, data)
    return Program(blocks, {}, files=type("Files", (), {"model": path})())  # type: ignore[arg-type]


def test_infinity_and_scalars() -> None:
    program = _read(
        _file(_full(3, {"VD": "-INF"}), _op("1.maximum", [1, 3], (9, _type()), unread=None))
    )
    feed, constant, maximum, fetch = program.ops
    assert (constant.get("value"), constant.get("str_value")) == (float("-inf"), "-inf")
    # Lite has no tensors without dimensions; one of shape [1] broadcasts alike.
    assert constant.get("shape") == [1]
    assert maximum.output("Out") == fetch.input("X") == "y"
    assert feed.output("Out") == "x"


def test_operators_in_place_vectors_and_what_nothing_reads() -> None:
    pair = {"#": "0.t_vec", "D": [_type(), _type()]}
    program = _read(
        _file(
            _op("1.relu_", [1], (3, _type())),
            _op("1.sigmoid", [3], (4, _type())),
            _op("0.combine", [3, 4], (5, pair)),
            _op("0.slice", [5], (6, _type()), index={"#": "0.a_i32", "D": 1}),
            _op("1.tanh", [3], (7, _type())),
            _op("1.share_data_", [6], (9, _type())),
        )
    )
    assert [op.type for op in program.ops] == ["feed", "relu", "sigmoid", "assign", "fetch"]


def test_fused_operators_are_taken_apart() -> None:
    image, bias = _type("f32", (1, 4, 8, 8)), _type("f32", (4,))
    conv = {
        "strides": _ints(1, 1), "paddings": _ints(0, 0), "padding_algorithm": _text("SAME"),
        "dilations": _ints(1, 1), "groups": {"#": "0.a_i32", "D": 4}, "data_format": _text("NCHW"),
    }  # fmt: skip
    program = _read(
        _file(
            _op("1.data", [], (3, image), name=_text("image")),
            {"#": "p", "A": [0, 1, 1, "f"], "O": {"%": 4, "TT": _type("f32", (4, 1, 3, 3))}},
            {"#": "p", "A": [0, 1, 1, "b"], "O": {"%": 5, "TT": bias}},
            _op("1.depthwise_conv2d_bias", [3, 4, 5], (9, image), **conv),
        )
    )
    assert [op.type for op in program.ops][2:] == ["depthwise_conv2d", "elementwise_add", "fetch"]
    assert program.ops[3].get("axis") == 1
    program = _read(_file(PARAMETER, _op("1.linear_v2", [1, 2, 2], (9, _type()))))
    assert [op.type for op in program.ops] == ["feed", "matmul_v2", "elementwise_add", "fetch"]
    assert program.ops[1].get("trans_y") is False


def test_an_input_or_a_tensor_twice_as_output() -> None:
    data = _file(
        _op("1.relu", [1], (9, _type())),
        *(
            _op("1.fetch", [key], (50 + n, _type()), name=_text(name), col={"#": "0.a_i32", "D": n})
            for n, key, name in ((1, 9, "y"), (2, 1, "z"))
        ),
    )
    program = _read(data)
    assert [op.type for op in program.ops] == [
        "feed", "relu", "assign", "assign", "fetch", "fetch", "fetch",
    ]  # fmt: skip
    assert len({spec.name for spec in program.outputs} | {"x"}) == 4


def test_an_output_that_is_an_input_by_its_own_name_is_refused() -> None:
    named = _op("1.fetch", [1], (51, _type()), name=_text("x"), col={"#": "0.a_i32", "D": 1})
    with pytest.raises(ConvertError, match=r"output 1 is written as 'x' itself.*return only what"):
        _read(_file(_op("1.relu", [1], (9, _type())), named))


RELU = _op("1.relu", [1], (9, _type()))
SPEC = _type()
_YIELD = _op("2.yield", [1])


def _branch(*blocks: list[Any], kind: str = "1.if", args: int = 0) -> dict[str, Any]:
    """A branch or loop with these blocks, whose condition is %1."""
    names = [{"#": -1 - n, "TT": SPEC} for n in range(args)]
    regions = [{"#": "r", "blocks": [{"#": "b", "args": names, "ops": ops}]} for ops in blocks]
    return {**_op(kind, [1] * (args or 2), (9, SPEC)), "regions": regions}


def _endless(condition: int) -> dict[str, Any]:
    """A loop that goes on while a value that it does not change is true."""
    loop = _branch([_op("2.yield", [condition, -1])], kind="1.while", args=1)
    return {**loop, "I": [{"%": condition}, {"%": 1}]}


def _nested(depth: int) -> dict[str, Any]:
    return _branch([_nested(depth - 1)] if depth else [], [])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"{", "not JSON"),
        (b"\xff\xfe\xfd", "not JSON"),
        (b"[" * 100_000, "too deeply nested"),
        (b'{"a":' * 100_000, "too deeply nested"),
        (b"[" + b"9" * 100_000 + b"]", "too many digits"),
        (b"[NaN]", "NaN is not JSON"),
        (b"[]", "magic word"),
        (b"7", "magic word"),
        (b'{"base_code": []}', "magic word"),
        (_file(RELU, base_code={"magic": "onnx", "version": 1}), "magic word"),
        (_file(RELU, base_code={"magic": "pir", "version": 5}), "version 5 is not known"),
        (_file(RELU, base_code={"magic": "pir", "version": "4"}), "version '4'"),
        (_file(RELU, program={}), "regions"),
        (_file(RELU, program={"regions": [{"blocks": [{"ops": []}] * 2}]}), "more than one block"),
        (_file(RELU, program={"regions": [{"blocks": [{"ops": []}]}]}), "no fetch operator"),
        (_file(RELU, program={"regions": [{"blocks": [{"ops": [7]}]}]}), "'#' should be a str"),
        (_file(_op("1.relu", [8], (9, SPEC))), r"%8 is not defined before"),
        (_file(_op("1.relu", [9], (9, SPEC))), r"%9 is not defined before"),
        (_file(_op("1.relu", [-1], (9, SPEC))), "operand %-1 is not defined before"),
        (_file(_op("1.relu", [2**63], (9, SPEC))), "is not the id"),
        (_file({**_op("1.if", [1], (9, SPEC)), "regions": [{}]}), "'blocks' should be a list"),
        (_file(_op("1.while", [1], (9, SPEC))), "'regions' should be a list"),
        (_file(_branch([_YIELD])), "has 1 blocks"),
        (_file(_branch([_YIELD], [])), "a block of it does not end in a yield"),
        (_file(_branch([_YIELD], [_op("2.yield", [])])), "unlike numbers of values"),
        (_file(_branch([_YIELD], kind="1.while")), "does not take what the loop is given"),
        (_file(_nested(40)), "blocks in blocks"),
        (_file(_op("1.relu", [1], (1, SPEC))), "%1 is defined twice"),
        (_file(_op("1.relu", [1], (0, SPEC))), "%0 is defined twice or not at all"),
        (_file(_op("1.relu", [], (9, SPEC))), "has 0 operands"),
        (_file(_op("1.relu", [1, 1], (9, SPEC))), "has 2 operands"),
        (_file(_op("1.relu", [1])), "has no output"),
        (_file(_op("1.relu", [1], (9, {"#": "0.t_vec", "D": [SPEC]}))), "of another kind"),
        (_file(_op("1.relu", [1], (9, _type(dims=(2, 2**64))))), "not the dimensions"),
        (_file(_op("1.relu", [1], (9, _type(dims=("a",))))), "not the dimensions"),  # type: ignore[arg-type]
        (_file(_op("1.relu", [1], (9, {"#": "0.t_dtensor", "D": 3}))), "'D' should be a list"),
        (_file(_op("1.softmax", [1], (9, SPEC))), "no attribute 'axis'"),
        (_file(_op("1.softmax", [1], (9, SPEC), axis=_text("1"))), "'1' is not a 32-bit integer"),
        (_file(_op("1.softmax", [1], (9, SPEC), axis={"#": "0.a_i32", "D": 2**31})), "32-bit"),
        (_file(_op("1.softmax", [1], (9, SPEC), axis={"#": "0.a_i32", "D": True})), "32-bit"),
        (_file(_op("1.softmax", [1], (9, SPEC), axis={"#": "0.a_i32", "VD": []})), "attribute"),
        (_file(_op("1.data", [], (9, SPEC), name=_text("\ud800"))), "not valid Unicode"),
        (_file(_op("1.data", [], (9, SPEC), name=_text("x"))), "input 'x' is defined twice"),
        (_file(PARAMETER, {**PARAMETER, "O": {"%": 9, "TT": SPEC}}), "parameter 'w'"),
        (_file({**PARAMETER, "A": [0, 1]}), "'3' should be a str"),
        (_file({**PARAMETER, "O": {"%": 9, "TT": _type(dims=(-1, 3))}}), "dynamic shape"),
        (_file(_full(3, {"D": 1}, (2**62, 2**62)), _op("1.add", [1, 3], (9, SPEC))), "constant"),
        (_file(_full(3, {"VD": "NaN"}, (), "int64"), RELU), "not a constant of int64"),
        (_file(_full(3, {"D": 1e300}, (), "int64"), RELU), "not a constant of int64"),
        (_file({**_full(3, {"D": 1}), "O": [{"%": 3, "TT": _type()}]}, RELU), "its shape is"),
        (_file(_op("0.combine", [1], (3, {"#": "0.t_vec", "D": []})),
               _op("1.relu", [3], (9, SPEC))), "vector where one tensor"),
        (_file(_op("0.split", [1], (3, SPEC)), RELU), "not a vector"),
        (_file(_op("1.concat", [1, 1], (9, SPEC))), "'X' should be a vector"),
        (_file(_op("1.p", [], (9, SPEC))), "'A' should be a list"),
        (_file(_op("0.p", [], (9, SPEC))), "'A' should be a list"),
    ],
)  # fmt: skip
def test_damaged_files_are_refused_in_words(data: bytes, words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        _read(data)
    assert str(caught.value).startswith("m.json: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            _file({**_op("1.pylayer", [1], (9, SPEC)), "regions": [{}]}),
            r"pd_op.pylayer \(%9 -> float32\[2, 3\]\): control flow",
        ),
        (_file(_op("2.stack_create", [1], (9, SPEC))), "control flow"),
        (_file(_op("2.yield", [1], (9, SPEC))), "yield .* is not translated yet"),
        (_file(_op("3.my_op", [1], (9, SPEC))), "3.my_op: custom operators"),
        (
            _file(_op("1.fft_c2c", [1], (3, _type("c64")), struct_name=_text("/Net/")),
                  _op("1.unheard", [3], (9, SPEC)), _op("0.constant", [], (4, SPEC))),
            r"pd_op.fft_c2c \(%3 -> complex64\[2, 3\]\) in layer /Net/ is not translated yet; "
            r"pd_op.unheard .*; builtin.constant",
        ),
        (_file(_op("1.relu", [0], (9, SPEC))), "operand 0 is a null operand"),
        (_file(_full(3, {"D": 1.0}), _endless(3)), r"pd_op.while .* more than 1024 rounds"),
        (_file(_endless(1)), r"pd_op.while .* runs depends on data"),
        (_file(_op("1.relu", [1], (9, {"#": "1.t_tensor_array", "D": []}))), "has no output|dense"),
        (_file(_op("1.squeeze", [1, 1], (9, SPEC))), "'axes' must be a constant"),
    ],
)  # fmt: skip
def test_what_is_not_translated_is_named(data: bytes, words: str) -> None:
    with pytest.raises(PaddleEdgeError, match=words) as caught:
        _read(data)
    assert caught.value.exit_code == 3
    assert isinstance(caught.value, ConvertError) or "has no output" in str(caught.value)


def test_parameters_of_another_model(models: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="of another model"):
        load(models / "conv", params=models / "norm" / "inference.pdiparams")
    (tmp_path / "inference.json").write_bytes((models / "conv" / "inference.json").read_bytes())
    with pytest.raises(ModelError, match="parameters are missing"):
        load(tmp_path)


@pytest.mark.parametrize(
    "data",
    [
        b"[" + b"[]," * 300_000 + b"[]]",
        b"{" + b'"": {},' * 100_000 + b'"a": 0}',
        _file(_full(3, {"D": 1}, (2**30, 2**30)), _op("1.add", [1, 3], (9, SPEC))),
        _file(
            *(_full(n, {"D": v}, (1,), "float64") for n, v in ((3, 0), (4, 1e12), (5, 1))),
            _op("1.arange", [3, 4, 5], (9, _type("i64", (-1,)))),
        ),
        _file(
            *(_full(n, {"D": 1e9}, (), "float64") for n in (3, 4)),
            _op("1.eye", [3, 4], (9, _type("f32", (10**9, 10**9)))),
        ),
    ],
    ids=["lists", "objects", "full", "arange", "eye"],
)
def test_reading_takes_little_memory_and_time(data: bytes) -> None:
    start = time.process_time()
    tracemalloc.start()
    try:
        _read(data)
    except PaddleEdgeError:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 40 * len(data) + 1_000_000
    assert time.process_time() - start < 5


def test_a_large_graph_is_read_in_linear_time() -> None:
    def seconds(count: int) -> float:
        chain = [_op("1.relu", [n], (n + 1, SPEC)) for n in range(100, 100 + count)]
        data = _file(_op("1.relu", [1], (100, SPEC)), *chain, result=100 + count)
        start = time.process_time()
        assert len(_read(data).ops) == count + 3
        return time.process_time() - start

    small, large = seconds(1000), seconds(8000)
    assert large < 40 * small + 0.5


# Mutations: whatever is done to a file, it is read, or refused in one line; nothing else.

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 2**64, 1e308, -0.0, "", "x", "\ud800",
    [], {}, [[]], [0], {"#": "0.a_i32"}, {"%": 0}, "a" * 1000,
)  # fmt: skip
TOKENS = (
    "1.relu", "1.reshape", "0.combine", "1.full", "1.if", "p", "1.data", "1.fetch", "0.split",
    "1.concat", "1.slice", "1.shape64", "1.stack", "0.slice", "1.set_value_", "1.assign_value_",
    "1.arange", "1.linspace", "1.full_with_tensor", "1.eye", "1.batch_norm_", "1.rnn", "1.cast",
    "1.bilinear_interp", "1.strided_slice", "1.expand", "1.linear_v2", "0.shadow_output", "9.x",
    "2.yield", "struct_name", "0.t_vec", "0.t_i64", "0.a_str", "0.a_array", "float32", "int64",
)  # fmt: skip


def _flip(data: bytes, dice: random.Random) -> bytes:
    """Bytes changed, cut off, removed or repeated."""
    changed = bytearray(data)
    start = dice.randrange(len(data))
    end = start + dice.randint(1, 60)
    kind = dice.randrange(4)
    if kind == 0:
        for _ in range(dice.randint(1, 4)):
            changed[dice.randrange(len(data))] = dice.randrange(256)
    elif kind == 1:
        del changed[start:]
    elif kind == 2:
        del changed[start:end]
    else:
        at = dice.randrange(len(data))
        changed[at:at] = data[start:end]
    return bytes(changed)


def _edit(data: bytes, dice: random.Random) -> bytes:
    """The JSON with one to three of its values replaced, removed, repeated or moved."""
    root = json.loads(data)
    for _ in range(dice.randint(1, 3)):
        places: list[tuple[Any, Any]] = []
        todo = [root]
        while todo:
            at = todo.pop()
            if isinstance(at, (dict, list)):
                keys = list(at) if isinstance(at, dict) else range(len(at))
                places += [(at, key) for key in keys]
                todo += [at[key] for key in keys]
        container, key = dice.choice(places)
        value = container[key]
        kind = dice.randrange(5)
        if kind == 0:
            container[key] = dice.choice(VALUES)
        elif kind == 1:
            del container[key]
        elif kind == 2:
            other, place = dice.choice(places)
            container[key] = json.loads(json.dumps(other[place]))
        elif kind == 3 and isinstance(container, list):
            container.insert(key, json.loads(json.dumps(value)))
        elif isinstance(value, str):
            container[key] = dice.choice(TOKENS)
        elif type(value) is int:
            container[key] = value + dice.choice([-2, -1, 1, 5, 1000, 2**40, -(2**40)])
        else:
            container[key] = dice.choice(VALUES)
    return json.dumps(root).encode()


def _survive(model: Path, folder: Path, victim: str, count: int, dice: random.Random) -> None:
    """Load `count` mutations of one file of a model; both outcomes must occur."""
    for file in model.glob("inference.*"):
        (folder / file.name).write_bytes(file.read_bytes())
    path = folder / victim
    if path.suffix == ".pdmodel":  # the paths of this machine are in it: other bytes, other mutants
        program = load(folder)
        drop_callstack(program)
        save(program, folder)
    data = path.read_bytes()
    refused = 0
    slowest = 0.0
    for _ in range(count):
        is_json = path.suffix == ".json" and dice.random() < 0.7
        path.write_bytes(_edit(data, dice) if is_json else _flip(data, dice))
        start = time.process_time()
        try:
            program = load(folder)
            save(program, folder, name="copy")
        except PaddleEdgeError as error:
            assert error.exit_code == 3
            assert "\n" not in str(error) and str(folder) in str(error)
            refused += 1
        slowest = max(slowest, time.process_time() - start)
        for copy in folder.glob("copy.*"):
            copy.unlink()
    assert 0 < refused < count
    assert slowest < 5


@pytest.mark.parametrize(
    ("name", "count"), [("assign", 250), ("unnamed", 250), ("embedding", 250), ("dynamic", 80)]
)
def test_mutated_json(name: str, count: int, models: Path, tmp_path: Path) -> None:
    _survive(models / name, tmp_path, "inference.json", count, random.Random(name))


@pytest.mark.parametrize("name", ["conv", "embedding", "assign"])
def test_mutated_pdmodel(name: str, models: Path, tmp_path: Path) -> None:
    _survive(models / f"{name}-old", tmp_path, "inference.pdmodel", 250, random.Random(name))


@pytest.mark.parametrize("name", ["conv", "embedding", "unnamed"])
def test_mutated_pdiparams(name: str, models: Path, tmp_path: Path) -> None:
    _survive(models / name, tmp_path, "inference.pdiparams", 250, random.Random(name))


if __name__ == "__main__":
    {"export": _export, "run": _run}[sys.argv[1]](Path(sys.argv[2]))
