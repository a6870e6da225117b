"""Which layers lose by int8, which stay in float, and that they do so exactly."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import make_model
import numpy as np
import pytest
from click.testing import CliRunner
from make_int8 import deep, on_server, repaired, samples_of

from lite_opt.cli.main import paddle_edge
from lite_opt.conversion import costs
from lite_opt.conversion.convert import convert
from lite_opt.conversion.costs import FAMILIES, family_costs
from lite_opt.conversion.steps import Models
from lite_opt.judge.sensitivity import choose_float_layers, sensitivity
from lite_opt.quant.calibrate import calibrate
from lite_opt.quant.mixed import Quantized, quantized_layers
from lite_opt.recipes import RECIPES, Calibration, recipe
from py_runner.errors import ConvertError, DataError, EngineError, UsageError
from py_runner.formats.nb import read_nb
from py_runner.tensors import Model, Sample
from py_runner.watch import Watch


def test_layers_go_back_to_float_exactly(calibrated: Quantized, tmp_path: Path) -> None:
    program = calibrated.source
    samples = samples_of(program, 3, seed=5)
    source = on_server(program, samples, tmp_path / "float", "fp32")
    names = [layer.layer for layer in calibrated.layers]
    for kept in ([], names[:1], names[1:], names):
        mixed = calibrated.with_float(kept)
        assert [layer.layer for layer in quantized_layers(mixed)] == [
            name for name in names if name not in kept
        ]
        answers = on_server(mixed, samples, tmp_path / "mixed")
        same = all(
            np.array_equal(a, b)
            for a, b in zip(*(next(iter(r.outputs.values())) for r in (source, answers)))
        )
        assert same == (kept == names)
    assert set(calibrated.with_float(names).params) == {
        f"{name}.float" if name in calibrated.floats else name for name in program.params
    }
    with pytest.raises(UsageError, match="no quantized layer is called 'nope'"):
        calibrated.check(["nope"])


def test_the_bad_layer_is_the_worst_and_is_kept_in_float(tmp_path: Path) -> None:
    program = repaired(deep(outlier="w2"))
    samples = samples_of(program, 24)
    settings = Calibration(algorithm="abs_max", per_channel=False)
    quantized = Quantized.of(calibrate(program, samples[:8], settings), program)
    assert len(quantized.layers) == 5
    done: list[int] = []
    losses = sensitivity(
        quantized, samples[8:], watch=Watch(step=lambda _, n, total: done.append(total - n))
    )
    assert done == [4, 3, 2, 1, 0]
    assert losses[0].weight == "w2"
    assert losses[0].sqnr_db < losses[1].sqnr_db - 6
    assert losses[0].parameters == 16 * 16 * 9
    easy = choose_float_layers(quantized, samples[8:], 100.0)
    assert easy.layers == ()
    assert easy.drop_int8 == easy.drop > 20
    limit = easy.drop_int8 / 2
    found = choose_float_layers(quantized, samples[8:], limit)
    assert losses[0].layer in found.layers
    assert found.drop <= limit
    # What the caller keeps in float is told apart from what was found, and int8 is all of it.
    named = choose_float_layers(quantized, samples[8:], 100.0, always=found.layers)
    assert (named.asked, found.asked) == (len(found.layers), 0)
    assert named.drop_int8 == easy.drop_int8 > named.drop == found.drop
    # Fewest: without any one of them the limit is broken.
    for layer in found.layers:
        fewer = [name for name in found.layers if name != layer]
        assert choose_float_layers(quantized, samples[8:], 100.0, always=fewer).drop > limit


def test_a_budget_of_multiply_adds_is_kept_and_spent_where_it_helps(tmp_path: Path) -> None:
    program = repaired(deep(outlier="w2"))
    samples = samples_of(program, 16)
    settings = Calibration(algorithm="abs_max", per_channel=False)
    quantized = Quantized.of(calibrate(program, samples[:8], settings), program)
    losses = sensitivity(quantized, samples[8:])
    first, *middle, last = sorted(losses, key=lambda loss: loss.weight)
    assert (first.weight, last.weight) == ("fc.w", "w3")
    # 1024 * 10, 64 * 16 * 27, and three times 64 * 16 * 144.
    total = 10240 + 27648 + 3 * 147456
    assert first.share == pytest.approx(10240 / total)
    assert middle[0].share == pytest.approx(27648 / total)
    assert sum(loss.share for loss in losses) == pytest.approx(1)
    bad = next(loss for loss in losses if loss.weight == "w2")
    found = choose_float_layers(quantized, samples[8:], max_float=40)
    assert bad.layer in found.layers and bad.share <= found.share <= 0.4
    assert found.sqnr_db > found.sqnr_db_int8 + 6
    # Too little for that layer: others, or none.
    poor = choose_float_layers(quantized, samples[8:], max_float=30)
    assert bad.layer not in poor.layers and poor.share <= 0.3
    assert choose_float_layers(quantized, samples[8:], max_float=0).layers == ()
    # Of both the fewest, within the budget: here it is not enough.
    both = choose_float_layers(quantized, samples[8:], 0.0, max_float=30)
    assert bad.layer not in both.layers and both.share <= 0.3


def test_labels_turn_agreement_into_accuracy(calibrated: Quantized) -> None:
    samples = samples_of(calibrated.source, 6)
    found = choose_float_layers(calibrated, [replace(sample, label=0) for sample in samples], 100.0)
    assert (found.measure, found.samples) == ("top-1 accuracy", 6)
    assert choose_float_layers(calibrated, samples, 100.0).measure == "top-1 agreement"


def test_losses_cannot_be_measured_where_the_float_model_has_no_numbers(
    calibrated: Quantized,
) -> None:
    good, bad = samples_of(calibrated.source, 2)
    bad.feeds["x"][...] = np.nan
    for measure in (sensitivity, partial(choose_float_layers, max_drop=1.0)):
        with pytest.raises(DataError, match=rf"sample '{re.escape(bad.id)}': the float model"):
            measure(calibrated, [good, bad])


def test_outputs_that_are_no_scores_cannot_be_ranked() -> None:
    b = make_model.Builder()
    x = b.input("x", (-1, 3, 8, 8))
    y = b.conv2d(x, b.param("w", (4, 3, 3, 3)), "y", (-1, 4, 6, 6), padding=0)
    program = b.program(y)
    samples = samples_of(program, 2)
    quantized = Quantized.of(calibrate(program, samples, Calibration()), program)
    with pytest.raises(UsageError, match="nobody said what they are"):
        choose_float_layers(quantized, samples, 1.0)
    (loss,) = sensitivity(quantized, samples)
    assert loss.points is None and loss.measure == ""
    budget = choose_float_layers(quantized, samples, max_float=50)
    assert budget.drop is None and budget.layers == ()


def test_max_drop_ends_up_in_the_bundle(tmp_path: Path) -> None:
    folder = make_model.save(deep(outlier="w1"), tmp_path / "model")
    plain = {"equalise": False, "correct_bias": False}  # what would mend the bad layer
    data = np.random.default_rng(0).standard_normal((40, 3, 8, 8)).astype("float32")
    np.save(tmp_path / "data.npy", data)
    done = convert(
        folder,
        tmp_path / "out",
        recipe=recipe("int8", algorithm="abs_max", per_channel=False, max_drop=10.0, **plain),
        calibration=tmp_path / "data.npy",
    )
    assert done.float_layers is not None
    assert done.float_layers.layers
    assert done.bundle is not None
    settings = done.bundle.recipe["calibration"]
    assert settings["float_layers"] == list(done.float_layers.layers)
    assert settings["max_drop"] == 10.0
    nb = read_nb(done.bundle.path / "model.arm.nb")
    convolutions = [op.precision for op in nb.ops if op.type == "conv2d"]
    assert 0 < convolutions.count("int8") < 4


class Reader:
    """In the place of an emulated board, which not every machine has: tells the int8 layers of the
    file that it is given for the instructions, each so many."""

    def __init__(self, each: int = 1, missing: str = "") -> None:
        self.each, self._missing = each, missing
        self.samples: list[str] = []

    def missing(self) -> str:
        return self._missing

    def count_instructions(self, model: Model, sample: Sample) -> int:
        self.samples.append(sample.id)
        (file,) = model.files
        layers = [op for op in read_nb(file).ops if op.type in ("conv2d", "fc")]
        assert len(layers) == 2
        return self.each * sum(op.precision == "int8" for op in layers)


def emulated(monkeypatch: pytest.MonkeyPatch, **boards: Reader) -> None:
    """Boards for FAMILIES, in their order."""
    monkeypatch.setattr(costs, "BOARDS", dict(zip(FAMILIES.values(), boards.values())))


def models_of(calibrated: Quantized) -> Models:
    """The first layer in float."""
    mixed = calibrated.with_float([calibrated.layers[0].layer])
    return Models(calibrated.source, mixed, recipe("int8"), calibrated)


def test_instructions_are_those_of_float_of_int8_and_of_both(
    calibrated: Quantized, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, fast = Reader(each=100), Reader(each=10)
    emulated(monkeypatch, slow=slow, fast=fast)
    (sample,) = samples_of(calibrated.source, 1)
    steps: list[tuple[int, int | None]] = []
    watch = Watch(step=lambda _, done, total: steps.append((done, total)))
    assert family_costs(models_of(calibrated), sample, watch=watch) == {
        "Pi 4": {"fp32": 0, "int8": 200, "mixed": 100},
        "Pi 5": {"fp32": 0, "int8": 20, "mixed": 10},
    }
    assert slow.samples == fast.samples == [sample.id] * 3
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_instructions_are_counted_where_there_is_a_board_and_a_calibration(
    calibrated: Quantized, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, here = Reader(missing="no QEMU"), Reader()
    emulated(monkeypatch, gone=gone, here=here)
    (sample,) = samples_of(calibrated.source, 1)
    assert list(family_costs(models_of(calibrated), sample)) == ["Pi 5"]
    assert not gone.samples
    assert family_costs(Models(calibrated.source, None, RECIPES["fp32"]), sample) == {}
    emulated(monkeypatch, gone=gone, also_gone=gone)
    assert family_costs(models_of(calibrated), sample) == {}


@pytest.mark.parametrize("refuses", [False, True])
def test_a_conversion_with_layers_in_float_says_what_they_cost(
    model: Path,
    calibration_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refuses: bool,
) -> None:
    class Broken(Reader):
        def count_instructions(self, model: Model, sample: Sample) -> int:
            raise EngineError("the board burns")

    emulated(monkeypatch, gone=Reader(missing="no QEMU"), here=Broken() if refuses else Reader())
    warnings: list[str] = []
    done = convert(
        model, tmp_path / "out", recipe=recipe("int8", max_float=50),
        calibration=calibration_data, watch=Watch(warn=warnings.append),
    )  # fmt: skip
    assert done and done.float_layers is not None
    counted = {"Pi 5": {"fp32": 0, "int8": 2, "mixed": 2 - len(done.float_layers.layers)}}
    assert done.float_costs == ({} if refuses else counted)
    assert ("instructions were not counted: the board burns" in warnings) == refuses


def test_float_layers_are_named_or_refused(
    model: Path, calibration_data: Path, calibrated: Quantized, tmp_path: Path
) -> None:
    first, second = (layer.layer for layer in calibrated.layers)
    done = convert(
        model, tmp_path / "out", recipe=recipe("int8", float_layers=(first,)),
        calibration=calibration_data,
    )  # fmt: skip
    assert done.bundle is not None
    nb = read_nb(done.bundle.path / "model.arm.nb")
    assert [op.precision for op in nb.ops if op.type == "conv2d"] == ["float"]
    with pytest.raises(UsageError, match="no quantized layer is called 'x'"):
        convert(
            model, tmp_path / "x", recipe=recipe("int8", float_layers=("x",)),
            calibration=calibration_data,
        )  # fmt: skip
    with pytest.raises(ConvertError, match="no layer is left in int8"):
        convert(
            model, tmp_path / "none", recipe=recipe("int8", float_layers=(first, second)),
            calibration=calibration_data,
        )  # fmt: skip


def test_the_command_ranks_layers_and_draws_them(
    model: Path, calibration_data: Path, tmp_path: Path
) -> None:
    plot = tmp_path / "losses.svg"
    ask = ["sensitivity", str(model), "--calibration", str(calibration_data)]
    done = CliRunner().invoke(
        paddle_edge, [*ask, "--plot", str(plot), "--json"], standalone_mode=False
    )
    layers = json.loads(done.stdout)["layers"]
    assert {layer["weight"] for layer in layers} == {"conv.w", "fc.w"}
    assert layers == sorted(layers, key=lambda layer: layer["sqnr_db"])
    drawing = ElementTree.fromstring(plot.read_text(encoding="utf-8"))
    bars = [e for e in drawing.iter() if e.tag.endswith("rect")]
    assert len(bars) == 1 + len(layers)
    shown = CliRunner().invoke(paddle_edge, ask, standalone_mode=False)
    assert "each layer alone in int8" in shown.stdout
    again = CliRunner().invoke(paddle_edge, [*ask, "--plot", str(plot)], standalone_mode=False)
    assert isinstance(again.exception, UsageError)
