"""run: real engines in child processes, what they answer, and how it is measured."""

from __future__ import annotations

import importlib
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import make_model
import numpy as np
import pytest

from lite_opt.conversion.source import Source
from lite_opt.model.load import load
from py_runner.data.dataset import dataset
from py_runner.data.random_samples import random_samples
from py_runner.engines import lite, paddle
from py_runner.errors import DataError, EngineError, UsageError
from py_runner.formats.bundle import Bundle
from py_runner.inference import run
from py_runner.tensors import Model, Sample
from py_runner.watch import Watch


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Model]:
    with tempfile.TemporaryDirectory() as folder:
        yield Source.of(load(model)).model(Path(folder))


def test_both_engines_answer_alike_in_order(edge: Model, server: Model) -> None:
    samples = random_samples(edge.inputs, count=7)
    runs = [run(edge, samples), run(server, samples, engine="paddle")]
    for done in runs:
        assert [s.id for s in done.samples] == [s.id for s in samples]
        assert all(v.shape == (1, make_model.CLASSES) for v in done.outputs.popitem()[1])
    assert runs[0].engine_version == "v2.13-rc"
    assert runs[1].engine_version.count(".") == 2
    assert runs[0].samples == runs[1].samples


def test_a_sample_is_repeated_and_warmed_up(edge: Model) -> None:
    done = run(edge, random_samples(edge.inputs, count=3), warmup=2, repeat=5)
    assert [len(repeats) for repeats in done.latency_ms] == [5, 5, 5]
    assert done.latency["count"] == 15
    assert done.latency["min_ms"] <= done.latency["p50_ms"] <= done.latency["p99_ms"]
    # The engine alone: some MB, and not those of this process, which has more loaded.
    assert 10e6 < done.peak_memory_bytes < 400e6


def test_answers_are_the_same_each_time_and_for_each_thread_count(edge: Model) -> None:
    samples = random_samples(edge.inputs, count=4)
    first = run(edge, samples)
    for threads in (1, 2):
        again = run(edge, samples, threads=threads)
        for a, b in zip(first.outputs.popitem()[1], again.outputs.popitem()[1]):
            assert np.array_equal(a, b)
        first = run(edge, samples)


def test_large_answers_do_not_block(tmp_path: Path) -> None:
    """Inputs and outputs that are larger than a pipe, several in flight."""
    builder = make_model.Builder()
    x = builder.input("x", (1, 4, 512, 512))
    out = builder.op("relu", {"X": [x]}, "out", (1, 4, 512, 512))
    builder.param("unused", (1,))
    builder.op("scale", {"X": ["unused"]}, "used", (1,), scale=1.0, bias=0.0, bias_after_scale=True)
    program = load(make_model.save(builder.program(out), tmp_path / "m"))
    source = Source.of(program).model(tmp_path)
    samples = random_samples(program.inputs, count=6)
    done = run(source, samples, engine="paddle")
    for sample, value in zip(samples, done.outputs.popitem()[1]):
        assert np.array_equal(value, np.maximum(sample.feeds["x"], 0))


def test_progress_counts_answers(edge: Model) -> None:
    seen: list[int] = []
    run(
        edge,
        random_samples(edge.inputs, count=4),
        watch=Watch(step=lambda _, done, __: seen.append(done)),
    )
    assert seen == [1, 2, 3, 4]


def test_an_error_in_the_data_reaches_the_caller(
    edge: Model, photos: Path, tmp_path: Path, bundle: Path
) -> None:
    broken = make_model.pictures(tmp_path / "broken", 5)
    (broken / "picture_3.png").write_bytes(b"not an image")
    opened = Bundle.open(bundle)
    data = dataset(broken, inputs=opened.inputs, image=opened.image)
    with pytest.raises(DataError, match=r"picture_3\.png"):
        run(edge, data)
    data = dataset(broken, inputs=opened.inputs, image=opened.image, skip_bad=True)
    assert len(run(edge, data).samples) == 4
    assert [id_ for id_, _ in data.skipped] == ["picture_3.png"]


@pytest.mark.parametrize(
    "feed",
    [
        np.zeros((1, 3, 16, 16), "float64"),
        np.zeros((1, 3, 16, 16), "uint8"),
        np.zeros((1, 4, 16, 16), "float32"),
        np.zeros((3, 16, 16), "float32"),
        np.zeros((0, 3, 16, 16), "float32"),
    ],
)
def test_a_tensor_that_does_not_fit_never_reaches_an_engine(edge: Model, feed: np.ndarray) -> None:
    with pytest.raises(DataError, match="takes float32"):
        run(edge, [Sample("s", {"x": feed})])


def test_no_samples_and_missing_inputs(edge: Model) -> None:
    with pytest.raises(DataError, match="no samples"):
        run(edge, [])
    with pytest.raises(DataError, match="nothing for input 'x'"):
        run(edge, [Sample("s", {"y": np.zeros((1, 3, 16, 16), "float32")})])


@pytest.mark.parametrize(
    ("options", "telling"),
    [
        ({"engine": "tflite"}, "unknown engine"),
        ({"device": "gpu"}, "engine lite runs on device cpu"),
        ({"device": "tpu"}, "unknown device"),
        ({"engine": "paddle", "device": "gpu:x"}, "unknown device"),
        ({"engine": "paddle", "precision": "int4"}, "unknown precision"),
        ({"engine": "paddle", "tensorrt": True}, "add --device gpu"),
        ({"threads": 0}, "at least 1"),
        ({"repeat": 0}, "at least 1"),
        ({"warmup": -1}, "at least 0"),
        ({"engine": "paddle"}, "runs the source model"),
    ],
)
def test_options_that_an_engine_does_not_have(
    edge: Model, options: dict[str, object], telling: str
) -> None:
    with pytest.raises(UsageError, match=telling):
        run(edge, random_samples(edge.inputs), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("device", ["gpu", "gpu:1"])
@pytest.mark.parametrize("tensorrt", [False, True])
def test_a_gpu_on_a_cpu_build_says_what_to_install(
    server: Model, device: str, tensorrt: bool
) -> None:
    paddle_gpu = os.environ.get("PADDLE_EDGE_TEST_GPU")
    if paddle_gpu:
        pytest.skip("this machine has a GPU build")
    with pytest.raises(EngineError, match="paddlepaddle-gpu"):
        run(
            server,
            random_samples(server.inputs),
            engine="paddle",
            device=device,
            tensorrt=tensorrt,
            precision="fp16",
        )


def test_an_arm_file_is_refused_on_x86(bundle: Path) -> None:
    arm = Bundle.open(bundle).model("arm")
    with pytest.raises(EngineError, match="made for arm"):
        run(arm, random_samples(arm.inputs))


def test_another_interpreter_runs_the_engine(edge: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PADDLE_EDGE_LITE_PYTHON", sys.executable)
    assert run(edge, random_samples(edge.inputs)).samples
    monkeypatch.setenv("PADDLE_EDGE_LITE_PYTHON", "no-such-python")
    with pytest.raises(EngineError, match="no-such-python"):
        run(edge, random_samples(edge.inputs))


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (ModuleNotFoundError("No module named 'paddle'"), "pip install paddlepaddle==3.3.1"),
        (ImportError("libgomp.so.1: cannot open shared object file"), "apt-get install libgomp1"),
    ],
)
def test_what_the_server_engine_lacks_is_named(
    error: ImportError, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str) -> None:
        raise error

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(ImportError, match=advice) as raised:
        paddle.open_session({})
    assert str(error) in str(raised.value)


def test_a_board_is_told_to_use_the_native_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert "no wheel for this aarch64 machine" in lite.missing("python3")
    assert "--engine native" in lite.missing("python3")
