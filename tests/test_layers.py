"""layers: the first layer at which edge and server diverge, named; and silence without a fault."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import make_model
import numpy as np
import pytest

from lite_opt.conversion.source import Source
from lite_opt.demo.efficientnet_lite import efficientnet_lite0
from lite_opt.demo.packages import ocr_model
from lite_opt.demo.packages import photos as photo_files
from lite_opt.demo.text_lines import write_text_lines
from lite_opt.judge.layers import bundle_layers, first_difference
from lite_opt.judge.layers.graph import Graph, with_source_names
from lite_opt.judge.layers.result import LayersReport
from lite_opt.judge.limits import LAYER_LIMITS, LayerLimits
from lite_opt.lite.targets import cannot
from lite_opt.model.load import load, save
from lite_opt.model.program import Op, Program
from lite_opt.passes.repair import repair
from lite_opt.quant.calibrate import calibrate
from lite_opt.quant.simulate import fake_fp16
from lite_opt.recipes import RECIPES, Calibration
from py_runner.data.dataset import dataset
from py_runner.data.image_text import image_spec
from py_runner.data.random_samples import random_samples
from py_runner.errors import ConvertError, DataError, EngineError, ModelError, UsageError
from py_runner.tensors import Sample
from py_runner.watch import Watch

DEPTH = 10


def chain(*, depth: int = DEPTH, pow_at: int | None = None) -> Program:
    """conv + relu blocks with a shortcut around every second, named block<i>, then a linear layer
    and a softmax. At `pow_at` the activation is x^3, which the x86 engine computes wrongly."""
    b = make_model.Builder(3)
    shape = (1, 8, 10, 10)
    last = b.input("x", shape)
    skip = last
    for i in range(depth):
        weight = b.param(f"block{i}.w", (8, 8, 3, 3), 1.3)
        conv = b.conv2d(last, weight, f"block{i}.conv", shape)
        added = b.op(
            "elementwise_add",
            {"X": [conv], "Y": [b.param(f"block{i}.b", (8,), 0.3)]},
            f"block{i}.add",
            shape,
            axis=1,
        )
        if i == pow_at:
            last = b.op("pow", {"X": [added]}, f"block{i}", shape, factor=3.0)
        else:
            last = b.op("relu", {"X": [added]}, f"block{i}", shape)
        if i % 2:
            last = b.op(
                "elementwise_add", {"X": [skip], "Y": [last]}, f"sum{i}", shape, axis=-1
            )  # fmt: skip
            skip = last
    flat = b.op(
        "flatten_contiguous_range", {"X": [last]}, "flat", (1, 800), start_axis=1, stop_axis=3
    )
    b.param("fc.w", (800, 10))
    product = b.op(
        "matmul_v2",
        {"X": [flat], "Y": ["fc.w"]},
        "fc.mul",
        (1, 10),
        trans_x=False,
        trans_y=False,
    )
    logits = b.op(
        "elementwise_add", {"X": [product], "Y": [b.param("fc.b", (10,))]}, "fc", (1, 10), axis=-1
    )
    return b.program(b.op("softmax", {"X": [logits]}, "soft", (1, 10), axis=-1))


def pair(program: Program, recipe: str = "fp32") -> tuple[Program, Program]:
    """A source model and the one repaired for a recipe, which a test may spoil."""
    repaired = program.copy()
    repair(repaired, recipe=RECIPES[recipe])
    return program, repaired


def scaled(program: Program, name: str, factor: float) -> None:
    value = program.params[name]
    program.set_param(name, (value * np.float32(factor)).astype(value.dtype))


def weights_of(program: Program) -> list[tuple[str, str]]:
    """Each weight with the variable that its operator writes, in order."""
    return [
        (name, op.layer)
        for op in program.ops
        for name in (op.input("Filter"), op.input("Y"))
        if name in program.params and program.params[name].ndim > 1
    ]


def off_by(report: LayersReport, written: str, program: Program) -> int:
    """How many tapped layers lie between the one that holds the operator and the one named."""
    place = {
        n: i for i, op in enumerate(program.ops) for names in op.outputs.values() for n in names
    }
    assert report.divergence is not None, report.verdict
    named = place[report.divergence.name]
    assert named >= place[written], report.verdict
    # A layer is called by its last output, so the right one is at no distance.
    return sum(place[written] <= place[t.name] < named for t in report.taps)


@pytest.fixture(scope="module")
def network() -> Program:
    return chain()


@pytest.fixture(scope="module")
def samples(network: Program) -> list[Sample]:
    return random_samples(network.inputs, count=2)


@pytest.mark.parametrize("recipe", ["fp32", "int8-weights"])
def test_without_a_fault_nothing_diverges(
    recipe: str, network: Program, samples: list[Sample]
) -> None:
    source, made = pair(network)
    report = first_difference(source, made, samples, recipe=RECIPES[recipe], taps=4)
    assert report and report.divergence is None
    assert report.verdict.startswith("no layer diverges")
    # 10 blocks, 5 sums, the flattening, the linear layer, the softmax: all were measured alone.
    assert report.layers == len(report.taps) == 18
    assert all(t.alone is not None and t.layers == 1 for t in report.taps)
    assert sum(t.whole is not None for t in report.taps) == 4
    assert report.rounds == 3
    assert report.samples == tuple(s.id for s in samples)
    if recipe != "fp32":  # rounding is there, and as large as expected
        blocks = [t for t in report.taps if t.op == "conv2d"]
        assert len(blocks) == DEPTH
        for tap in blocks:
            assert tap.alone is not None and tap.expected_db is not None
            assert tap.expected_db < 100
            assert abs(tap.alone.sqnr_db - tap.expected_db) < 1


@pytest.mark.parametrize(
    ("recipe", "weight", "layer", "factor"),
    [
        pytest.param("fp32", "block0.w", "block0", 1.5, marks=pytest.mark.slow),
        ("fp32", "block4.b", "block4", 1.01),
        ("int8-weights", "block5.w", "block5", 1.1),
        pytest.param("int8-weights", "fc.w", "fc", 1.5, marks=pytest.mark.slow),
    ],
)
def test_a_scaled_layer_is_named(
    recipe: str, weight: str, layer: str, factor: float, network: Program, samples: list[Sample]
) -> None:
    source, made = pair(network)
    scaled(made, weight, factor)
    report = first_difference(source, made, samples, recipe=RECIPES[recipe], taps=4)
    found = report.divergence
    assert not report and found is not None
    assert (found.name, found.cause) == (layer, "layer")
    assert found.op in {"block0.w": "conv2d", "block4.b": "elementwise_add", "fc.w": "mul"}.get(
        weight, "conv2d"
    )
    assert found.ops[:2] == (("mul" if layer == "fc" else "conv2d"), "elementwise_add")
    assert found.alone is not None and found.alone.sqnr_db < 70
    assert len(found.inputs) == 1
    assert found.inputs[0].sqnr_db > found.output.sqnr_db + 10
    assert found.output.shape == ((1, 10) if layer == "fc" else (1, 8, 10, 10))
    assert found.output.server.maximum != found.output.edge.maximum
    assert layer in report.verdict
    json.dumps(report.to_json())


@pytest.mark.slow
def test_a_search_taps_few_at_a_time(network: Program, samples: list[Sample]) -> None:
    source, made = pair(network)
    scaled(made, "block6.w", 1.5)
    said: list[str] = []
    report = first_difference(
        source, made, samples, taps=3, watch=Watch(say=said.append, warn=said.append)
    )
    assert report.divergence and report.divergence.name == "block6"
    counts = [int(line.split(": ")[1].split()[0]) for line in said]
    assert max(counts) <= 4  # three, and the one that failed
    assert report.rounds == len(said) <= 7
    at_once = first_difference(source, made, samples, taps=None)
    assert at_once.divergence and at_once.divergence.name == "block6"
    assert at_once.rounds < report.rounds
    assert len(at_once.taps) == at_once.layers


def test_what_a_recipe_does_not_round_is_judged_as_in_fp32() -> None:
    """The optimizer leaves depthwise and transposed convolutions in float, and quantizes a
    transposed factor by its own output channels."""
    b = make_model.Builder(3)
    plain = {"dilations": [1, 1], "padding_algorithm": "EXPLICIT", "data_format": "NCHW"}
    shape = (1, 8, 10, 10)
    x = b.input("x", shape)
    x = b.op(
        "depthwise_conv2d", {"Input": [x], "Filter": [b.param("d.w", (8, 1, 3, 3))]}, "d", shape,
        slot="Output", strides=[1, 1], paddings=[1, 1], groups=8, **plain,
    )  # fmt: skip
    x = b.op(
        "conv2d_transpose", {"Input": [x], "Filter": [b.param("t.w", (8, 6, 2, 2))]}, "t",
        (1, 6, 20, 20), slot="Output", strides=[2, 2], paddings=[0, 0], groups=1,
        output_padding=[], output_size=[], **plain,
    )  # fmt: skip
    x = b.op(
        "flatten_contiguous_range", {"X": [x]}, "flat", (1, 2400), start_axis=1, stop_axis=3
    )  # fmt: skip
    weights = b.param("m.w", (10, 2400))
    b.params["m.w"][:, ::7] *= np.float32(8)
    x = b.op(
        "matmul_v2", {"X": [x], "Y": [weights]}, "m", (1, 10), trans_x=False, trans_y=True
    )  # fmt: skip
    source, made = pair(b.program(b.op("relu", {"X": [x]}, "out", (1, 10))))
    samples = random_samples(source.inputs, count=2)
    recipe = RECIPES["int8-weights"]
    report = first_difference(source, made, samples, recipe=recipe, taps=None)
    assert report, report.verdict
    taps = {tap.op: tap for tap in report.taps}
    for kind in ("depthwise_conv2d", "conv2d_transpose"):
        tap = taps[kind]
        assert tap.expected_db == np.inf and tap.alone is not None and tap.alone.sqnr_db > 120
    product = taps["mul"]
    assert product.alone is not None and product.expected_db is not None
    assert product.alone.sqnr_db == pytest.approx(product.expected_db, abs=0.5)
    scaled(made, "d.w", 1.005)  # 46 dB: less than rounding to 8 bits would cost
    found = first_difference(source, made, samples, recipe=recipe, taps=None).divergence
    assert found is not None and (found.op, found.cause) == ("depthwise_conv2d", "layer")


def test_layers_are_called_by_what_computes_them() -> None:
    """Not by what represents their numbers otherwise; what quantizes an activation is a layer."""
    program = make_model.classifier()
    program.blocks[0].ops = [
        Op("feed", {"X": ["feed"]}, {"Out": ["x"]}),
        Op("quantize_linear", {"X": ["x"]}, {"Y": ["x.quantized"]}),
        Op("conv2d", {"Input": ["x.quantized"]}, {"Output": ["c"]}),
        Op("fake_channel_wise_dequantize_max_abs", {"X": ["c"]}, {"Out": ["c.dequantized"]}),
        Op("relu", {"X": ["c.dequantized"]}, {"Out": ["r.wide"]}),
        Op("cast", {"X": ["r.wide"]}, {"Out": ["r.fp16"]}),
        Op("cast", {"X": ["r.fp16"]}, {"Out": ["r"]}),
        Op("fake_quantize_range_abs_max", {"X": ["r"]}, {"Out": ["r.quantized"]}),
    ]
    graph = Graph(with_source_names(program))
    assert {name: graph.computed_by(name) for name in ("x.quantized", "c", "r", "r.quantized")} == {
        "x.quantized": "quantize_linear",
        "c": "conv2d",
        "r": "relu",
        "r.quantized": "fake_quantize_range_abs_max",
    }


def test_programs_are_left_as_they_were(network: Program, samples: list[Sample]) -> None:
    source, made = pair(network)
    before = [[(o.type, dict(o.inputs), dict(o.outputs)) for o in p.ops] for p in (source, made)]
    first_difference(source, made, samples[:1], taps=2)
    after = [[(o.type, dict(o.inputs), dict(o.outputs)) for o in p.ops] for p in (source, made)]
    assert after == before


def test_a_fault_that_the_softmax_hides_is_found(samples: list[Sample]) -> None:
    network = chain()
    scaled(network, "fc.w", 1000.0)
    source, made = pair(network)
    scaled(made, "fc.w", 1.1)
    report = first_difference(source, made, samples, taps=1)
    assert report.divergence and report.divergence.name == "fc"
    softmax = report.taps[-1]
    assert softmax.name == "soft" and softmax.whole and softmax.whole.sqnr_db > 80


def test_what_the_engine_gets_wrong_is_named() -> None:
    """pow(x, 3) is nonsense for negative x on the x86 engine, and no rule rewrites it."""
    source, made = pair(chain(pow_at=5))
    samples = random_samples(source.inputs, count=2)
    report = first_difference(source, made, samples, taps=4)
    found = report.divergence
    assert found is not None
    assert (found.name, found.op, found.cause) == ("block5", "pow", "layer")
    assert found.output.sqnr_db < 0
    assert found.inputs[0].sqnr_db > 80
    assert found.inputs[0].name == "block5.add"


def test_a_nan_among_the_weights(network: Program, samples: list[Sample]) -> None:
    source, made = pair(network)
    broken = made.params["fc.b"].copy()
    broken[2] = np.nan
    made.set_param("fc.b", broken)
    report = first_difference(source, made, samples, recipe=RECIPES["int8-weights"], taps=None)
    found = report.divergence
    assert found and (found.name, found.op) == ("fc", "elementwise_add")
    assert found.output.sqnr_db == -np.inf and "NaN" in found.output.note
    assert (found.output.edge.not_finite, found.output.server.not_finite) == (len(samples), 0)
    assert "NaN" in report.verdict


def test_rounding_that_adds_up_is_no_layers_fault(network: Program, samples: list[Sample]) -> None:
    source, made = pair(network)
    limits = LayerLimits(alone_db=20.0, whole_db=200.0)
    report = first_difference(source, made, samples, limits=limits, taps=5)
    found = report.divergence
    assert found is not None and found.cause == "accumulated" and found.alone is None
    assert found.name == "block0"  # nothing in fp32 has 200 dB
    assert "no layer is wrong alone" in report.verdict


def test_a_server_that_holds_nan_itself_is_mentioned(samples: list[Sample]) -> None:
    network = chain(depth=2)
    network.params["block0.b"] = np.full(8, np.inf, np.float32)
    source, made = pair(network)
    report = first_difference(source, made, samples[:1], taps=None)
    assert any("the server's own 'block0'" in text for text in report.warnings)


def test_refusals(network: Program, samples: list[Sample]) -> None:
    source, made = pair(network)
    with pytest.raises(UsageError, match="taps"):
        first_difference(source, made, samples, taps=0)
    with pytest.raises(UsageError, match="engine 'tvm'"):
        first_difference(source, made, samples, engine="tvm")
    for recipe in ("fp16", "int8"):
        with pytest.raises(UsageError, match="engine lite would mislead"):
            first_difference(source, made, samples, recipe=RECIPES[recipe])
    with pytest.raises(DataError, match="no samples"):
        first_difference(source, made, [])
    builder = make_model.Builder()
    x = builder.input("y", (1, 4))
    other = builder.program(builder.op("relu", {"X": [x]}, "elsewhere", (1, 4)))
    with pytest.raises(ModelError, match="no variable can be compared"):
        first_difference(source, other, samples)
    looping = made.copy()
    looping.ops[3].set("sub_block", 1, "BLOCK")
    with pytest.raises(ModelError, match="control flow"):
        first_difference(source, looping, samples)


def test_an_optimizer_that_dies_is_an_error_that_names_the_model() -> None:
    builder = make_model.Builder()
    x = builder.input("x", (1, 3, 4, 4))
    scaled = {"X": [x], "Scale": [builder.param("s", (3,))], "Bias": [builder.param("b", (3,))]}
    made_of = builder.op("affine_channel", scaled, "scaled", (1, 3, 4, 4))  # no x86 kernel
    source, made = pair(builder.program(builder.op("relu", {"X": [made_of]}, "out", (1, 3, 4, 4))))
    with pytest.raises(ConvertError, match=r"made\.pdmodel: with its layers tapped: .*affine_ch"):
        first_difference(source, made, random_samples(source.inputs, count=1))


def test_an_engine_that_dies_is_an_error_that_names_the_model(
    network: Program, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lite_opt.judge.layers.runs.run", _dies)
    source, made = pair(network)
    with pytest.raises(EngineError, match=r"made\.pdmodel: with its layers tapped: killed"):
        first_difference(source, made, samples)


def _dies(model: object, *_: object, **__: object) -> None:
    raise EngineError(f"{model.files[0]}: killed")  # type: ignore[attr-defined]


def test_a_bundle_and_its_source(bundle: Path, model: Path, tmp_path: Path) -> None:
    said: list[str] = []
    report = bundle_layers(model, bundle, watch=Watch(say=said.append, warn=said.append))
    assert report and report.recipe == "fp32"
    assert report.samples == tuple(f"picture_{i}.png" for i in range(4))
    assert said
    other = make_model.save(make_model.classifier(seed=1), tmp_path / "other")
    with pytest.raises(ModelError, match="checksum is another"):
        bundle_layers(other, bundle)
    with pytest.raises(UsageError, match="leave out --quantized"):
        bundle_layers(model, bundle, quantized=model)


def test_bundles_of_other_recipes(bundle: Path, model: Path, tmp_path: Path) -> None:
    def of_recipe(name: str) -> Path:
        folder = tmp_path / f"{name}.bundle"
        folder.mkdir()
        document = json.loads((bundle / "bundle.json").read_text())
        document["recipe"] = RECIPES[name].to_json()
        (folder / "bundle.json").write_text(json.dumps(document))
        shutil.copytree(bundle / "samples", folder / "samples")
        return folder

    fp16 = bundle_layers(model, of_recipe("fp16"), taps=None)
    assert fp16 and (fp16.recipe, fp16.engine) == ("fp16", "paddle")
    assert 50 < min(t.alone.sqnr_db for t in fp16.taps if t.alone) < 90
    with pytest.raises(UsageError, match="--save-quantized"):
        bundle_layers(model, of_recipe("int8"))


_ONNX_FORMAT = """
import os, sys
os.environ["FLAGS_enable_pir_api"] = "0"
import numpy as np, paddle
from paddle.static.quantization import PostTrainingQuantization
paddle.enable_static()
data = np.load(sys.argv[2])
class Loader:
    def __len__(self): return len(data)
    def __call__(self): return iter({"x": x} for x in data)
quantization = PostTrainingQuantization(
    paddle.static.Executor(paddle.CPUPlace()), model_dir=sys.argv[1],
    model_filename="inference.pdmodel", params_filename="inference.pdiparams",
    data_loader=Loader(), batch_nums=len(data), algo="hist", onnx_format=True,
    quantizable_op_type=["conv2d", "mul"])
quantization.quantize()
quantization.save_quantized_model(
    sys.argv[3], model_filename="inference.pdmodel", params_filename="inference.pdiparams")
os._exit(0)
"""


@pytest.fixture(scope="module")
def quantized(network: Program, samples: list[Sample], tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """The chain in static int8: in both forms that Paddle writes."""
    _, repaired = pair(network)
    folder = tmp_path_factory.mktemp("quantized")
    several = random_samples(network.inputs, count=8, seed=1)
    made = calibrate(repaired, [*samples, *several], Calibration())
    (folder / "float").mkdir()
    for op in repaired.ops:
        op.set("op_role", 0)  # Paddle's pass for the newer form asks for it
    save(repaired, folder / "float")
    np.save(folder / "data.npy", np.stack([s.feeds["x"] for s in (*samples, *several)]))
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _ONNX_FORMAT]
        + [str(folder / name) for name in ("float", "data.npy", "onnx")],
        check=True,
        capture_output=True,
        env={**os.environ, "GLOG_minloglevel": "3"},
    )
    return {"fake": made, "onnx": load(folder / "onnx")}


@pytest.mark.parametrize("form", ["fake", "onnx"])
def test_static_int8_without_a_fault(
    form: str,
    network: Program,
    samples: list[Sample],
    quantized: dict[str, Program],
) -> None:
    report = first_difference(
        network, quantized[form], samples, engine="paddle", recipe=RECIPES["int8"], taps=None
    )
    assert report, report.verdict
    assert report.layers >= 18
    assert min(t.alone.sqnr_db for t in report.taps if t.alone) > 20


@pytest.mark.parametrize(
    ("form", "variable", "factor", "layers", "cause"),
    [
        ("fake", "block3", 0.25, ("block4", "sum3"), "layer"),  # a range that cuts off
        (
            "fake",
            "block6",
            3.0,
            ("block7",),
            "scale",
        ),  # one that wastes more than one of eight bits
        pytest.param("onnx", "block6", 0.2, ("block7",), "layer", marks=pytest.mark.slow),
    ],
)
def test_a_wrong_scale_is_named(
    form: str,
    variable: str,
    factor: float,
    layers: tuple[str, ...],
    cause: str,
    network: Program,
    samples: list[Sample],
    quantized: dict[str, Program],
) -> None:
    made = quantized[form].copy()
    name = next(n for n in (f"{variable}@scale", "sum3@scale") if n in made.params)
    scaled(made, name, factor)
    report = first_difference(
        network, made, samples, engine="paddle", recipe=RECIPES["int8"], taps=None
    )
    found = report.divergence
    assert found is not None, report.verdict
    assert found.name in layers or found.name.removesuffix(".conv") in layers
    assert (found.op, found.cause) == ("conv2d", cause)
    assert "times its largest value" in report.verdict


@pytest.mark.slow
def test_wrong_weights_of_a_quantized_layer_are_named(
    network: Program, samples: list[Sample], quantized: dict[str, Program]
) -> None:
    made = quantized["fake"].copy()
    conv = next(op for op in made.ops if op.input("Filter") == "block5.w")
    scales = next(op for op in made.ops if op.input("X") == conv.layer).inputs["Scales"]
    scaled(made, scales[0], 1.5)
    report = first_difference(network, made, samples, engine="paddle", recipe=RECIPES["int8"])
    assert report.divergence is not None
    assert (report.divergence.name, report.divergence.op) == ("block5", "conv2d")


def test_limits_are_there_for_every_recipe() -> None:
    assert set(LAYER_LIMITS) == set(RECIPES)


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """Text lines as PP-OCR's direction classifier takes them."""
    listed = write_text_lines(tmp_path_factory.mktemp("lines"), count=24)
    inputs = load(ocr_model("cls")).inputs
    return list(dataset(listed, inputs=inputs, image=image_spec("ppocr-cls")))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["fp32", "fp16", "int8-weights", "int8"])
def test_the_direction_classifier(recipe: str, lines: list[Sample]) -> None:
    source, made = pair(load(ocr_model("cls")), recipe)
    engine = "paddle" if cannot("x86", RECIPES[recipe]) else "lite"
    if recipe == "int8":
        made = calibrate(made, lines, Calibration())
    elif recipe == "fp16":
        made = fake_fp16(made)
    few = lines[:4]
    report = first_difference(source, made, few, engine=engine, recipe=RECIPES[recipe])
    assert report, report.verdict
    assert report.layers > 60
    if recipe not in ("fp32", "int8-weights", "int8"):
        return
    weights = weights_of(source)
    for weight, written in (weights[1], weights[len(weights) // 2], weights[-1]):
        broken = made.copy()
        spoilt = weight
        if recipe == "int8":  # the range of the layer's input
            layer = next(op for op in made.ops if weight in (op.input("Filter"), op.input("Y")))
            feeding = made.producers()[layer.input("Input") or layer.inputs["X"][0]]
            spoilt = feeding.inputs["InScale"][0]
        scaled(broken, spoilt, 0.25 if recipe == "int8" else 1.5)
        report = first_difference(source, broken, few, engine=engine, recipe=RECIPES[recipe])
        assert off_by(report, written, source) <= 2, (weight, report.verdict)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["fp32", "int16-weights"])
def test_an_imagenet_classifier_on_photographs(
    recipe: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = efficientnet_lite0(tmp_path_factory.mktemp("effnet") / "model")
    source, made = pair(load(folder), recipe)
    beside = Source.of(source)
    listed = tmp_path_factory.mktemp("photos") / "list.txt"
    listed.write_text("".join(f"{path} 0\n" for path in photo_files()[:3]))
    photos = list(dataset(listed, inputs=beside.inputs, image=beside.image))
    report = first_difference(source, made, photos, recipe=RECIPES[recipe])
    assert report, report.verdict
    weight, written = weights_of(source)[20]
    scaled(made, weight, 1.2)
    report = first_difference(source, made, photos, recipe=RECIPES[recipe])
    assert off_by(report, written, source) <= 2, report.verdict
