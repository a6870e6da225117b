"""Real networks, exported by Paddle here and now: they convert and agree with the server."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lite_opt.convert import convert
from lite_opt.describe import describe

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import zoo

# Operators that an export has, and that its x86 .nb may have at most: fusion works, or it does not.
NETWORKS = {"SqueezeNet1_1": (1_235_496, 45), "AlexNet": (61_100_840, 20)}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_a_classifier_agrees_with_the_server(name: str, tmp_path: Path) -> None:
    parameters, operators = NETWORKS[name]
    zoo.export(name, tmp_path / name, export="legacy")
    facts = describe(tmp_path / name)
    assert (facts["parameters"], facts["paddle_version"]) == (parameters, "3.3.1")
    done = convert(tmp_path / name, tmp_path / "bundle")
    assert done.bundle is not None and done.report is not None
    assert done.bundle.image is not None and done.bundle.image.size == 256
    (output,) = done.report.outputs
    assert output.cosine >= 0.99999 and output.max_probability_diff <= 1e-4
    assert output.response == pytest.approx(1, abs=1e-3)
    assert not done.report.warnings
    for target in done.bundle.targets.values():
        assert target.ops <= operators
