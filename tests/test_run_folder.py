"""The Run folder: what is written is read, and runs of one model merge into one."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from py_runner.errors import ModelError, UsageError
from py_runner.formats.run import Run, SampleInfo, latency_statistics
from py_runner.tasks.classification import decode


def made(ids: str = "abc", **fields: Any) -> Run:
    """A run of samples of these ids, one letter each."""
    values: dict[str, Any] = {
        "engine": "lite",
        "engine_version": "v2.13",
        "device": "cpu",
        "machine": "Linux x86_64",
        "threads": 1,
        "precision": "fp32",
        "model": {"name": "net", "sha256": "00ff"},
        "samples": tuple(SampleInfo(i, f"hash of {i}", ord(i)) for i in ids),
        "outputs": {"out": [np.full((1, 2), ord(i), np.float32) for i in ids]},
        "latency_ms": [[float(ord(i)), 1.0] for i in ids],
        "warmup": 2,
        "peak_memory_bytes": 100,
        "wall_s": 1.5,
        "created": "2026-11-25T12:00:00+00:00",
    }
    return Run(**{**values, **fields})


def same(a: Run, b: Run) -> bool:
    return a.summary() == b.summary() and all(
        np.array_equal(x, y) for name in a.outputs for x, y in zip(a.outputs[name], b.outputs[name])
    )


@pytest.mark.parametrize("shapes", [[(1, 2)] * 3, [(1, 2), (1, 3), (2, 2)]])
def test_a_run_is_read_as_it_was_saved(tmp_path: Path, shapes: list[tuple[int, ...]]) -> None:
    run = made(outputs={"out": [np.ones(shape, np.float32) for shape in shapes]})
    opened = Run.open(run.save(tmp_path / "r"))
    assert same(opened, run) and opened.latency_ms == run.latency_ms
    assert (tmp_path / "r" / "output_0").is_dir() == (len(set(shapes)) > 1)
    with pytest.raises(UsageError, match="exists already"):
        run.save(tmp_path / "r")
    run.save(tmp_path / "r", force=True)


def test_answers_of_several_types_keep_theirs(tmp_path: Path) -> None:
    values = [np.ones((1, 2), dtype) for dtype in (np.float32, np.int64, np.float32)]
    opened = Run.open(made(outputs={"out": values}).save(tmp_path / "r"))
    assert [v.dtype for v in opened.outputs["out"]] == [v.dtype for v in values]


def test_every_sample_has_a_latency(tmp_path: Path) -> None:
    path = made().save(tmp_path / "r") / "latency.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:5]))
    with pytest.raises(ModelError, match="not every sample has a latency"):
        Run.open(path.parent)


def test_a_run_holds_every_sample_once() -> None:
    with pytest.raises(UsageError, match="holds no samples"):
        made("")
    with pytest.raises(UsageError, match="sample 'b' twice"):
        made("abcb")


def test_the_first_samples_of_a_run() -> None:
    assert same(made("abc").first(2), made("ab"))


def test_runs_merge_into_the_run_of_all() -> None:
    parts = [made("ab"), made("c")]
    merged = Run.merge(parts)
    assert merged.wall_s == 3.0
    assert same(dataclasses.replace(merged, wall_s=1.5), made("abc"))
    assert merged.latency_ms == made("abc").latency_ms


def test_what_differs_between_merged_runs_is_listed() -> None:
    one = made("a", threads=1, warmup=1, peak_memory_bytes=1, created="2026-01-01")
    two = made(
        "b", device="qemu-arm", engine="native", engine_version="v3", machine="Linux aarch64",
        threads=4, warmup=3, peak_memory_bytes=9, created="2026-01-02",
    )  # fmt: skip
    merged = Run.merge([one, two])
    assert (merged.engine, merged.engine_version) == ("lite, native", "v2.13, v3")
    assert (merged.device, merged.machine) == ("cpu, qemu-arm", "Linux x86_64, Linux aarch64")
    assert (merged.threads, merged.warmup, merged.peak_memory_bytes) == (4, 1, 9)
    assert merged.created == "2026-01-02"


@pytest.mark.parametrize(
    ("other", "telling"),
    [
        ({"model": {"name": "net", "sha256": "1234"}}, "different models: net 00ff, net 1234"),
        ({"outputs": {"other": [np.zeros((1, 2), np.float32)]}}, "different models"),
        ({"samples": (SampleInfo("a", "x", None),)}, "run 1 and run 2: both hold sample 'a'"),
    ],
)
def test_runs_that_do_not_belong_together_do_not_merge(other: dict[str, Any], telling: str) -> None:
    with pytest.raises(UsageError, match=telling):
        Run.merge([made("a"), made("d", **other)])
    with pytest.raises(UsageError, match="no runs to merge"):
        Run.merge([])


def test_statistics_of_latencies() -> None:
    found = latency_statistics([4.0, 1.0, 2.0, 3.0])
    assert found["count"] == 4 and found["mean_ms"] == 2.5 and found["throughput_per_s"] == 400
    assert (found["min_ms"], found["p50_ms"], found["max_ms"]) == (1.0, 2.5, 4.0)
    assert found["p90_ms"] == pytest.approx(3.7) and found["p99_ms"] == pytest.approx(3.97)
    assert latency_statistics([0.0])["throughput_per_s"] == 0.0


@pytest.mark.parametrize(
    ("change", "telling"),
    [
        ({"samples": [{"id": "a", "sha256": "x", "label": "cat"}]}, "'samples.label' is not of"),
        ({"model": {"name": "net"}}, "'model.sha256' is missing"),
        ({"outputs": [{"name": "out", "dtype": "float32", "shape": [1.5]}]}, "'outputs.shape'"),
        ({"outputs": [{"name": "o", "dtype": "int8", "shape": [1, 2]}]}, "does not hold the 3"),
        ({"samples": [{"id": "a", "sha256": "x", "label": 1}]}, "does not hold the 1 samples"),
        ({"threads": "1"}, "'threads' is not of its type"),
        ({"noise": {"out": "much"}}, "'noise.out' is not of its type"),
    ],
)
def test_a_damaged_manifest_names_its_field(
    tmp_path: Path, change: dict[str, Any], telling: str
) -> None:
    path = made().save(tmp_path / "r") / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ModelError, match=telling):
        Run.open(path.parent)


def test_runs_of_different_precisions_do_not_merge() -> None:
    with pytest.raises(UsageError, match="different precisions, fp32 and int8"):
        Run.merge([made("a"), made("b", precision="int8")])


def test_truth_values_are_no_scores() -> None:
    values = [np.array([[True, False]])] * 3
    assert decode(made(outputs={"out": values})) == []
    numbers = [np.array([[1, 2**31 - 1, -(2**31)]], np.int32)] * 3
    assert [c["index"] for c in decode(made(outputs={"out": numbers}), top=3)[0]["top"]] == [
        1,
        0,
        2,
    ]
