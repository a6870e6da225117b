"""merge: sixteen parts are the whole, and what does not belong together is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_cli import Command, command  # noqa: F401  a fixture
from test_run_files import alike
from test_run_folder import made

from py_runner.data.random_samples import random_samples
from py_runner.errors import UsageError
from py_runner.formats.bundle import Bundle
from py_runner.formats.run import FailedSample, Run
from py_runner.inference import run


def test_sixteen_shards_are_the_whole(bundle: Path, tmp_path: Path, command: Command) -> None:  # noqa: F811
    """A real engine answers the parts one by one, and all at once."""
    edge = Bundle.open(bundle).model("x86")
    samples = list(random_samples(edge.inputs, count=40))
    whole = run(edge, samples)
    names = []
    for number in range(16):
        part = run(edge, samples[40 * number // 16 : 40 * (number + 1) // 16])
        shard = {"index": number + 1, "of": 16, "total": 40}
        names.append(replace(part, shard=shard).save(tmp_path / f"part-{number + 1}.run"))
    names.sort(key=str)  # as a shell has them: 1, 10, 11, ... 2
    out = tmp_path / "all.run"
    code, text, error = command("merge", *names, "-o", out, "--json")
    assert (code, error) == (0, "")
    merged = Run.open(out)
    assert merged.shard is None
    assert list(merged.samples) == list(whole.samples)
    for name, values in whole.outputs.items():
        assert all((a == b).all() for a, b in zip(merged.outputs[name], values, strict=True))
    assert merged.latency["count"] == 40
    document = json.loads(text)
    assert document["samples"] == 40 and len(document["parts"]) == 16
    code, text, _ = command("compare", whole.save(tmp_path / "whole.run"), out)
    assert code == 0 and "PASSED on 40 samples" in text


def shard(index: int, of: int = 3, total: int = 6) -> dict[str, int]:
    return {"index": index, "of": of, "total": total}


WRONG: dict[str, tuple[list[dict[str, Any]], int, str]] = {
    "one-alone": ([{}], 2, "is one run alone"),
    "other-model": ([{}, {"model": {"name": "net", "sha256": "12"}}], 2, "different models"),
    "other-outputs": ([{}, {"outputs": {"o": [1]}}], 2, "different models"),
    "other-precision": ([{}, {"precision": "int8"}], 2, "precisions, fp32 and int8"),
    "other-task": ([{}, {"task": {"name": "detection"}}], 2, "different tasks"),
    "other-labels": ([{"labels": ("a",)}, {"labels": ("b",)}], 2, "with other labels"),
    "other-image": ([{"image": {"mean": [0]}}, {"image": {"mean": [1]}}], 2, "in different ways"),
    "other-inputs": ([{"inputs": ("x",)}, {"inputs": ("x", "scale")}], 2, "inputs: x, x, scale"),
    "same-samples": ([{}, {"ids": "bc"}], 2, "both hold sample 'b'"),
    "shard-missing": ([{"shard": shard(1)}, {"shard": shard(3)}], 2, "shard 2 of 3 is missing"),
    "other-division": ([{"shard": shard(1)}, {"shard": shard(2, 4)}], 2, "different divisions"),
    "shard-and-none": ([{"shard": shard(1)}, {}], 2, "some are not"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_belong_together_is_told(
    name: str,
    tmp_path: Path,
    command: Command,  # noqa: F811
) -> None:
    several, code, telling = WRONG[name]
    paths = []
    for number, fields in enumerate(several):
        values = {**fields}
        ids = values.pop("ids", "ab" if number == 0 else "cd")
        if "outputs" in values:
            values["outputs"] = {"other": made(ids).outputs["out"]}
        paths.append(made(ids, **values).save(tmp_path / f"{number}.run"))
    told = command("merge", *paths, "-o", tmp_path / "all.run")
    assert told[0] == code and telling in told[2], told
    assert told[2].count("\n") == 1 and not (tmp_path / "all.run").exists()
    if not {"one-alone", "shard-missing", "shard-and-none", "other-division"} & {name}:
        assert "1.run" in told[2]


def begun(path: Path) -> None:
    (path / "run.json").unlink()
    (path / "begun.json").write_text(
        json.dumps({"format": 1, "program": "p", "same": {}, "samples": 9, "command": ["go", "on"]})
    )


def pipeline(path: Path) -> None:
    (path / "pages.json").write_text("{}")


def torn(path: Path) -> None:
    (path / "output_0.npy").write_bytes((path / "output_0.npy").read_bytes()[:-1])


@pytest.mark.parametrize(
    ("spoil", "telling"),
    [
        (begun, "1.run: is a run under way, not complete: 0 of 9"),
        (pipeline, "is the run of a pipeline"),
        (torn, "1.run: damaged run: output_0.npy is too short"),
        (lambda path: (path / "run.json").unlink(), "1.run: not a run"),
    ],
)
def test_what_is_no_whole_run_is_told(
    spoil: Callable[[Path], Any],
    telling: str,
    tmp_path: Path,
    command: Command,  # noqa: F811
) -> None:
    paths = [made(ids).save(tmp_path / f"{n}.run") for n, ids in enumerate(("ab", "cd"))]
    spoil(paths[1])
    code, _, error = command("merge", *paths, "-o", tmp_path / "all.run")
    assert code == 3 and telling in error and not (tmp_path / "all.run").exists()


def test_what_is_there_is_not_overwritten(tmp_path: Path, command: Command) -> None:  # noqa: F811
    paths = [made(ids).save(tmp_path / f"{n}.run") for n, ids in enumerate(("ab", "cd"))]
    assert command("merge", *paths, "-o", paths[0])[0] == 2
    code, _, error = command("merge", *paths, "-o", paths[0], "--force")
    assert code == 2 and "which is read" in error
    assert alike(Run.open(paths[0]), made("ab"))


def test_parts_of_one_shard_are_that_shard() -> None:
    several = [made("ab", shard=shard(2)), made("c", shard=shard(2))]
    assert Run.merge(several).shard == shard(2)
    every = [made("f", shard=shard(3)), *several, made("e", shard=shard(1))]
    merged = Run.merge(every)
    assert merged.shard is None and [s.id for s in merged.samples] == list("eabcf")


def test_missing_shards_are_counted() -> None:
    with pytest.raises(UsageError, match="shards 2, 3, 4, 5, 6 and 9 more of 16 are missing"):
        Run.merge([made("a", shard=shard(1, 16)), made("b", shard=shard(16, 16))])


def test_failures_are_shown(tmp_path: Path, command: Command) -> None:  # noqa: F811
    one = made("ab", failed=(FailedSample("z", "died"),)).save(tmp_path / "1.run")
    code, _, error = command("merge", one, made("c").save(tmp_path / "2.run"), "-o", tmp_path / "3")
    assert code == 0 and "failed z: died" in error
    assert Run.open(tmp_path / "3").failed == (FailedSample("z", "died"),)
