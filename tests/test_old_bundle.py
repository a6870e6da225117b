"""A bundle that was made before bundles said their task (commit before 8de4ee6) still does what it
did: it opens, is a classification, runs, and is compared with the answers that it carries."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from conftest import need

from lite_opt.judge.compare import compare
from py_runner.engines import lite
from py_runner.errors import EngineError
from py_runner.formats.bundle import Bundle
from py_runner.inference import run
from py_runner.tasks import decode, name_of

OLD = Path(__file__).parent / "golden" / "bundle_before_tasks"


def test_it_opens_and_is_a_classification() -> None:
    assert "task" not in json.loads((OLD / "bundle.json").read_text())
    bundle = Bundle.open(OLD)
    assert bundle.task is None and name_of(bundle.task) == "classification"
    assert bundle.image is not None and bundle.image.resize == "exact"
    reference = bundle.reference()
    assert (reference.task, reference.image, reference.inputs) == (None, None, None)
    first, second = decode(reference)
    assert len(first["top"]) == len(second["top"]) == 5
    assert first["top"][0]["score"] > first["top"][1]["score"]


def test_outputs_that_are_no_scores_are_tensors(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(OLD, tmp_path / "copy"))
    manifest = copy / "reference" / "run.json"
    document = json.loads(manifest.read_text())
    (output,) = document["outputs"]
    assert output["shape"][0] == 1 and len(output["shape"]) == 2
    reference = Bundle.open(copy).reference()
    maps = {"map": [value.reshape(1, -1, 2) for value in reference.outputs["soft.out"]]}
    vars(reference)["outputs"] = maps
    assert decode(reference) == []
    report = compare(reference, reference)
    assert report.outputs[0].kind == "tensor" and report.scores is None


def test_it_runs_and_answers_what_it_carries() -> None:
    try:
        lite.interpreter()
    except EngineError as error:
        need(False, str(error))
    bundle = Bundle.open(OLD)
    done = run(bundle.model("x86"), bundle.read_samples())
    report = compare(bundle.reference(), done)
    assert report and report.top1_agreement == 1.0
