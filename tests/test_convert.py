"""convert: from a Paddle model to a bundle that was checked, or to no bundle at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import make_model
import numpy as np
import pytest

from lite_opt.conversion import convert as conversion
from lite_opt.conversion.convert import convert
from lite_opt.demo.packages import ocr_model
from lite_opt.demo.text_lines import write_text_lines
from lite_opt.judge.compare import compare
from lite_opt.judge.limits import LIMITS, MOST_NOISE
from lite_opt.model.program import Program, Var
from lite_opt.passes.rule import Change
from py_runner.data.random_samples import random_samples
from py_runner.errors import ConvertError, DataError, ModelError, UsageError
from py_runner.formats.bundle import Bundle
from py_runner.formats.nb import read_nb
from py_runner.inference import run
from py_runner.tensors import TensorSpec
from py_runner.watch import Watch


def test_a_bundle_says_what_it_is(bundle: Path, model: Path) -> None:
    opened = Bundle.open(bundle)
    document = json.loads((bundle / "bundle.json").read_text())
    assert document["format"] == 1
    assert opened.name == "tiny"
    assert opened.source["file"] == "inference.pdmodel"
    assert opened.source["paddle_version"] == "3.3.1"
    assert len(opened.source["sha256"]) == 64
    assert opened.recipe["name"] == "fp32"
    assert {repair.split(":")[0] for repair in opened.repairs} == {
        "drop_callstack", "fill_defaults", "evaluate", "bias_vectors", "matmul_to_mul",
        "add_xshape",
    }  # fmt: skip
    assert set(opened.targets) == {"arm", "x86"}
    for name, target in opened.targets.items():
        made = read_nb(bundle / target.file)
        assert (made.target, made.bytes, len(made.ops)) == (name, target.bytes, target.ops)
    assert opened.check["status"] == "passed"
    assert opened.check["targets"]["arm"].startswith("not run")
    assert str(model.parent) not in json.dumps(document)


def test_samples_and_reference_travel_with_the_bundle(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    samples, reference = opened.read_samples(), opened.reference()
    assert [s.id for s in samples] == [f"picture_{i}.png" for i in range(4)]
    assert [s.id for s in reference.samples] == [s.id for s in samples]
    again = run(opened.model("x86"), samples)
    for a, b in zip(reference.outputs.popitem()[1], again.outputs.popitem()[1]):
        assert np.abs(a - b).max() < 1e-6


def test_arm_only_is_judged_by_a_twin(model: Path, tmp_path: Path) -> None:
    done = convert(model, tmp_path / "arm.bundle", target=["arm"])
    assert done.bundle and done.report
    assert sorted(p.name for p in done.bundle.path.glob("*.nb")) == ["model.arm.nb"]
    assert "x86" in done.bundle.check["targets"]["arm"]


def test_wrong_numbers_leave_no_bundle(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sabotage(program: Program, **options: Any) -> list[Change]:
        changes = conversion_repair(program, **options)
        program.set_param("fc.w", program.params["fc.w"] * np.float32(1.1))
        return changes

    conversion_repair = conversion.repair
    monkeypatch.setattr(conversion, "repair", sabotage)
    done = convert(model, tmp_path / "wrong.bundle")
    assert not done
    assert done.bundle is None
    assert done.report is not None
    assert "cosine" in " ".join(done.report.failures)
    assert list(tmp_path.iterdir()) == []
    unchecked = convert(model, tmp_path / "wrong.bundle", check=False)
    assert unchecked.bundle and unchecked.bundle.check["status"] == "skipped"


def cancelling(offset: float) -> Program:
    """A network whose answers are small differences of large numbers, so that it amplifies the
    rounding of any engine: [N,3,8,8] -> [N,8,16,16]."""
    b = make_model.Builder()
    shape = (-1, 8, 16, 16)
    x = b.op(
        "bilinear_interp_v2", {"X": [b.input("x", (-1, 3, 8, 8))]}, "twice", (-1, 3, 16, 16),
        out_h=16, out_w=16, out_d=-1, scale=[2.0, 2.0], interp_method="bilinear",
        data_layout="NCHW", align_corners=False, align_mode=0,
    )  # fmt: skip
    for index, channels in enumerate((3, 8, 8)):
        weight = b.param(f"w{index}", (8, channels, 3, 3), 1.5)
        x = b.op("tanh", {"X": [b.conv2d(x, weight, f"c{index}", shape)]}, f"a{index}", shape)
    far = b.op("scale", {"X": [x]}, "far", shape, scale=1.0, bias=offset, bias_after_scale=True)
    mixed = b.conv2d(far, b.param("mix", (8, 8, 1, 1)), "mixed", shape, padding=0)
    mean = b.op(
        "reduce_mean", {"X": [mixed]}, "mean", (-1, 8, 1, 1), dim=[2, 3], keep_dim=True,
        reduce_all=False,
    )  # fmt: skip
    return b.program(b.op("elementwise_sub", {"X": [mixed], "Y": [mean]}, "out", shape, axis=-1))


def test_a_model_is_judged_by_its_own_noise(tmp_path: Path) -> None:
    folder = make_model.save(cancelling(3000.0), tmp_path / "m")
    done = convert(folder, tmp_path / "b")
    assert done and done.bundle and done.report
    (output,) = done.report.outputs
    assert output.max_probability_diff > 1e-4 and output.cosine >= LIMITS["fp32"].cosine
    assert output.noise and 2e-5 < output.noise < MOST_NOISE
    assert output.limit == 8 * output.noise > output.max_probability_diff
    (said,) = done.bundle.check["outputs"]
    assert said["limit"] == output.limit
    reference = done.bundle.reference()
    assert reference.noise == {output.name: output.noise}
    # Whoever runs the bundle judges by the same.
    assert compare(reference, run(done.bundle.model("x86"), done.bundle.read_samples()))


def _one_weight(program: Program, **_: Any) -> list[Change]:
    weight = program.params["w1"].copy()
    weight[3, 2, 1, 1] *= -1
    program.set_param("w1", weight)
    return []


def _swapped_channels(program: Program, **_: Any) -> list[Change]:
    program.set_param("w1", program.params["w1"][[1, 0, *range(2, 8)]])
    return []


def _half_a_pixel(program: Program, **_: Any) -> list[Change]:
    (resize,) = (op for op in program.ops if op.type == "bilinear_interp_v2")
    resize.set("align_mode", 1)
    return []


@pytest.mark.slow
@pytest.mark.parametrize("fault", [_one_weight, _swapped_channels, _half_a_pixel])
def test_noise_excuses_no_fault(
    fault: Callable[[Program], list[Change]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion, "repair", fault)
    folder = make_model.save(cancelling(3000.0), tmp_path / "m")
    done = convert(folder, tmp_path / "b")
    assert done.bundle is None and done.report is not None
    assert any("relative difference" in text for text in done.report.failures)


def test_noise_of_a_quiet_model_is_not_measured(model: Path, tmp_path: Path) -> None:
    told: list[str] = []
    done = convert(model, tmp_path / "b", watch=Watch(say=told.append))
    assert done.bundle and done.bundle.reference().noise == {}
    assert not any("noise" in text for text in told)


def places_above(limit: float) -> Program:
    """Where the input is above a limit: [4,6] -> [N,2], of as many rows as there are."""
    b = make_model.Builder()
    x = b.input("x", (4, 6))
    b.params["limit"] = np.array([limit], np.float32)
    b.vars["limit"] = Var("limit", "float32", (1,), persistable=True, is_parameter=True)
    above = b.op(
        "greater_than",
        {"X": [x], "Y": ["limit"]},
        "above",
        (4, 6),
        out_dtype="bool",
        axis=-1,
        force_cpu=False,
    )
    return b.program(
        b.op("where_index", {"Condition": [above]}, "places", (-1, 2), out_dtype="int64")
    )


def test_a_model_that_finds_nothing_is_unjudged(tmp_path: Path) -> None:
    """Its files are there, and the advice is to give samples."""
    folder = make_model.save(places_above(100), tmp_path / "m")
    done = convert(folder, tmp_path / "b")
    assert not done and done.bundle is not None and done.report is not None
    assert done.bundle.check["status"] == "unjudged"
    assert "give samples on which the model finds something" in done.bundle.check["reason"]
    assert done.bundle.check["targets"]["x86"] == "unjudged"
    assert sorted(done.bundle.targets) == ["arm", "x86"]
    assert done.report.top1_agreement is None
    found = convert(make_model.save(places_above(0), tmp_path / "n"), tmp_path / "c")
    assert found and found.bundle and found.bundle.check["targets"]["x86"] == "passed"


def test_what_a_network_returns_unchanged_twice_or_without_dimensions(tmp_path: Path) -> None:
    b = make_model.Builder()
    x = b.input("x", (-1, 4))
    y = b.op("relu", {"X": [x]}, "y", (-1, 4))
    mean = b.op("reduce_mean", {"X": [x]}, "mean", (), dim=[0], keep_dim=False, reduce_all=True)
    program = b.program(x, y, y, b.param("w", (3,)), mean)
    done = convert(make_model.save(program, tmp_path / "m"), tmp_path / "b")
    assert done and done.bundle
    assert [spec.name for spec in done.bundle.outputs] == ["x", "y", "w", "mean"]
    samples = done.bundle.read_samples()
    answered = run(done.bundle.model("x86"), samples)
    assert len(answered.outputs) == 4
    for sample, given, relu, weight, average in zip(samples, *answered.outputs.values()):
        value = sample.feeds["x"]
        assert np.array_equal(given, value) and np.array_equal(relu, np.maximum(value, 0))
        assert np.array_equal(weight, b.params["w"]) and average == pytest.approx(value.mean())


def test_where_x86_is_wrong_the_bundle_is_for_arm_and_unjudged(tmp_path: Path) -> None:
    """pow(x, 3) is nonsense for negative x on the x86 engine, and no rule rewrites it."""
    builder = make_model.Builder()
    x = builder.input("x", (1, 3, 16, 16))
    cubes = builder.op("pow", {"X": [x]}, "cubes", (1, 3, 16, 16), factor=3.0)
    folder = make_model.save(builder.program(cubes), tmp_path / "m")
    done = convert(folder, tmp_path / "b")
    assert not done
    assert done.bundle is not None and list(done.bundle.targets) == ["arm"]
    assert done.bundle.check["status"] == "unjudged"
    assert "the x86 engine fails" in done.bundle.check["reason"]
    assert sorted(p.name for p in done.bundle.path.glob("*.nb")) == ["model.arm.nb"]
    assert done.report is not None and not done.report
    x86 = convert(folder, tmp_path / "c", target=["x86"])
    assert x86.bundle is None and not (tmp_path / "c").exists()


def test_an_operator_without_x86_kernel_goes_to_arm_unjudged(tmp_path: Path) -> None:
    builder = make_model.Builder()
    x = builder.input("x", (1, 3, 4, 4))
    inputs = {"X": [x], "Scale": [builder.param("s", (3,))], "Bias": [builder.param("b", (3,))]}
    scaled = builder.op("affine_channel", inputs, "y", (1, 3, 4, 4), data_layout="NCHW")
    folder = make_model.save(builder.program(scaled), tmp_path / "m")
    done = convert(folder, tmp_path / "b")
    assert not done and done.bundle is not None
    assert "affine_channel" in done.bundle.check["reason"]
    with pytest.raises(ConvertError, match="affine_channel"):
        convert(folder, tmp_path / "c", check=False)


def test_an_existing_bundle_is_kept_unless_forced(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "b"
    convert(model, out, check=False)
    before = (out / "bundle.json").read_bytes()
    with pytest.raises(UsageError, match="--force"):
        convert(model, out, check=False)
    with pytest.raises(ModelError):
        convert(tmp_path / "nope", out, force=True)
    assert (out / "bundle.json").read_bytes() == before
    assert convert(model, out, force=True, labels=None)
    assert Bundle.open(out).check["status"] == "passed"
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


def test_inference_yml_beside_the_model_is_used(tmp_path: Path, photos: Path) -> None:
    folder = make_model.save(make_model.classifier(), tmp_path / "m")
    labels = [f"class {i}" for i in range(make_model.CLASSES)]
    (folder / "inference.yml").write_text(
        "PreProcess:\n  transform_ops:\n"
        "  - ResizeImage: {resize_short: 20}\n"
        "  - CropImage: {size: 16}\n"
        "  - NormalizeImage: {scale: 1.0/255.0, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5], "
        "order: ''}\n  - ToCHWImage:\n"
        f"PostProcess:\n  Topk: {{topk: 5, label_list: {json.dumps(labels)}}}\n"
    )
    done = convert(folder, tmp_path / "b", samples=photos)
    assert done.bundle
    assert done.bundle.labels == tuple(labels)
    assert done.bundle.image is not None
    assert (done.bundle.image.size, done.bundle.image.crop) == (20, (16, 16))
    other = convert(folder, tmp_path / "c", image="resize=exact:16", samples=photos)
    assert other.bundle and other.bundle.image and other.bundle.image.resize == "exact"


def test_preprocessing_that_we_cannot_follow_does_not_stop_a_conversion(tmp_path: Path) -> None:
    folder = make_model.save(make_model.classifier(), tmp_path / "m")
    (folder / "inference.yml").write_text("PreProcess:\n  transform_ops:\n  - WarpImage: {}\n")
    said: list[str] = []
    done = convert(folder, tmp_path / "b", watch=Watch(say=said.append, warn=said.append))
    assert done.bundle and done.bundle.image is None
    assert any("WarpImage" in text for text in said)
    with pytest.raises(DataError, match="WarpImage"):
        convert(folder, tmp_path / "c", image=str(folder / "inference.yml"))


def test_labels_have_to_fit_the_model(model: Path, tmp_path: Path) -> None:
    (tmp_path / "three.txt").write_text("a\nb\nc\n")
    with pytest.raises(UsageError, match="3 labels for a model of 10 classes"):
        convert(model, tmp_path / "b", labels=tmp_path / "three.txt")


def test_input_shapes_are_fixed_or_refused(model: Path, tmp_path: Path) -> None:
    done = convert(model, tmp_path / "b", input_shape={"x": (2, 3, 16, 16)})
    assert done.bundle and done.bundle.inputs[0].shape == (2, 3, 16, 16)
    for shape in ((1, 3, 32, 32), (1, 3, 16), (0, 3, 16, 16)):
        with pytest.raises(UsageError, match="cannot be fixed"):
            convert(model, tmp_path / "c", input_shape={"x": shape})
    with pytest.raises(UsageError, match="no input 'y'"):
        convert(model, tmp_path / "c", input_shape={"y": (1,)})


def test_random_samples_are_seeded_and_fit() -> None:
    specs = [TensorSpec("x", "float32", (-1, 3, -1, 8)), TensorSpec("n", "int64", (1, 2))]
    shapes = {"x": [(1, 3, 4, 8), (2, 3, 6, 8)]}
    first, second = (random_samples(specs, count=3, shapes=shapes) for _ in range(2))
    assert [s.feeds["x"].shape for s in first] == [(1, 3, 4, 8), (2, 3, 6, 8), (1, 3, 4, 8)]
    for a, b in zip(first, second):
        assert all(np.array_equal(a.feeds[n], b.feeds[n]) for n in ("x", "n"))
    assert first[0].feeds["n"].dtype == np.int64
    with pytest.raises(UsageError, match="--check-shape x="):
        random_samples(specs)


def test_a_bundle_that_was_altered_is_noticed(bundle: Path, tmp_path: Path) -> None:
    opened = Bundle.open(bundle)
    entry = opened.targets["x86"]
    bad = replace(opened, targets={"x86": replace(entry, sha256="0" * 64)})
    with pytest.raises(ModelError, match="checksum"):
        bad.model("x86")
    bad = replace(opened, samples=(replace(opened.samples[0], sha256="0" * 64),))
    with pytest.raises(ModelError, match="altered"):
        bad.read_samples()
    for name in ("../x.nb", "/etc/passwd"):
        (tmp_path / "bundle.json").write_text(
            (bundle / "bundle.json").read_text().replace("model.x86.nb", name)
        )
        with pytest.raises(ModelError, match="leads out of the bundle"):
            Bundle.open(tmp_path)


@pytest.mark.parametrize(
    ("kind", "shapes"),
    [
        ("cls", [(1, 3, 48, 192), (1, 3, 32, 100)]),
        ("det", [(1, 3, 320, 320), (1, 3, 192, 256)]),
        ("rec", [(1, 3, 48, 320), (1, 3, 48, 160)]),
    ],
)
def test_pp_ocr_agrees_at_two_shapes(
    kind: str, shapes: list[tuple[int, ...]], tmp_path: Path
) -> None:
    done = convert(ocr_model(kind), tmp_path / "b", check_shape={"x": shapes})
    assert done.report and done.report.samples == 4
    assert done.bundle and done.bundle.inputs[0].shape[0] == -1
    assert done.report.outputs[0].cosine > 0.99999
    assert done.report.outputs[0].max_probability_diff < 1e-4


def test_pp_ocr_classifies_rendered_lines(tmp_path: Path) -> None:
    lines = write_text_lines(tmp_path / "lines", count=12)
    done = convert(ocr_model("cls"), tmp_path / "b", image="ppocr-cls", samples=lines)
    assert done.bundle and [s.label for s in done.bundle.samples] == [0, 1, 0, 1]
