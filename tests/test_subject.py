"""What BUNDLE|MODEL means: which engine, which samples; and how its latency is measured."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import make_model
import pytest

from lite_opt import bench as bench_module
from lite_opt.bench import Bench, bench, count
from lite_opt.subject import bundle_samples, opened
from py_runner.errors import EngineError, UsageError
from py_runner.formats.bundle import Bundle
from py_runner.watch import Watch

SHAPES = {"x": [(2, 3, 16, 16), (1, 3, 16, 16)]}


def ids(samples: Any) -> list[str]:
    return [sample.id for sample in samples]


def test_a_bundle_brings_its_samples_and_its_preprocessing(
    bundle: Path, photos: Path, tmp_path: Path
) -> None:
    with opened(bundle) as subject:
        assert (subject.engine, subject.labels) == ("lite", None)
        assert subject.model.files[0].name == "model.x86.nb"
        assert ids(subject.samples()) == [f"picture_{n}.png" for n in range(4)]
        assert ids(subject.samples(limit=2)) == ["picture_0.png", "picture_1.png"]
        assert ids(subject.samples(photos, limit=5)) == [f"picture_{n}.png" for n in range(5)]
        random = subject.samples(shapes=SHAPES, limit=3)
        assert ids(random) == ["random[0]", "random[1]", "random[2]"]
        assert [len(sample.feeds["x"]) for sample in random] == [2, 1, 2]
        plain = subject.image
    names = tmp_path / "names.txt"
    names.write_text("".join(f"kind {n}\n" for n in range(10)))
    with opened(bundle, image="resize=exact:16", labels=names) as subject:
        assert subject.labels is not None and subject.labels[9] == "kind 9"
        assert subject.image is not None and subject.image != plain
    names.write_text("one\ntwo\n")
    with (
        pytest.raises(UsageError, match="2 labels for a model of 10"),
        opened(bundle, labels=names),
    ):
        pass
    with pytest.raises(UsageError, match="name that one"), opened(bundle, engine="paddle"):
        pass


def test_a_source_model_is_answered_with_random_samples(model: Path) -> None:
    with opened(model) as subject:
        assert subject.engine == "paddle"
        assert ids(subject.samples(limit=1)) == ["random[0]"]
    with opened(model, engine="native") as subject:
        assert subject.engine == "native"


def test_samples_for_a_bundle(bundle: Path, photos: Path) -> None:
    assert ids(bundle_samples(bundle, limit=3)) == [f"picture_{n}.png" for n in range(3)]
    assert ids(bundle_samples(bundle, photos, limit=5)) == [f"picture_{n}.png" for n in range(5)]
    assert len(ids(bundle_samples(bundle, photos))) == 6


def test_each_number_of_threads_is_measured_on_one_sample(bundle: Path) -> None:
    steps: list[tuple[str, int, int | None]] = []
    found = bench(
        bundle, threads=(1, 2), warmup=0, repeat=3, watch=Watch(step=lambda *at: steps.append(at))
    )
    assert [run["threads"] for run in found.runs] == [1, 2]
    assert [run["latency"]["count"] for run in found.runs] == [3, 3]
    assert steps == [("measurements", 1, 2), ("measurements", 2, 2)]
    assert set(found.to_json()) == {"model", "runs", "warnings"}
    for run in found.runs:
        low, high = run["latency_interval"]["p50_ms"]
        assert low <= run["latency"]["p50_ms"] <= high and run["warmup"] == 0
    by_default = bench(bundle, repeat=20).runs[0]
    assert by_default["warmup"] - 5 == 20 - by_default["latency"]["count"]
    shaped = bench(bundle, repeat=1, check_shape=SHAPES)
    assert ids_of(shaped) == ["random[0]"]


def test_several_engines_take_turns(
    bundle: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[tuple[str, int]] = []
    honest = bench_module.run

    def recorded(subject: Any, samples: Any, **options: Any) -> Any:
        turns.append((options["engine"], options["repeat"]))
        return honest(subject, samples, **options)

    monkeypatch.setattr(bench_module, "run", recorded)
    found = bench(bundle, engine="paddle, lite", server=model, warmup=0, repeat=3)
    assert turns == [("paddle", 1), ("lite", 1)] * 3
    assert [run["engine"] for run in found.runs] == ["paddle", "lite"]
    assert [run["latency"]["count"] for run in found.runs] == [3, 3]
    # Both are fed the bundle's own picture.
    assert [run["samples"][0]["id"] for run in found.runs] == ["picture_0.png"] * 2
    assert found.runs[0]["samples"] == found.runs[1]["samples"]


def test_batches_are_compared_where_the_batch_is_free(model: Path, tmp_path: Path) -> None:
    found = bench(model, batch=(1, 3), repeat=1, warmup=0)
    assert [run["batch"] for run in found.runs] == [1, 3]
    assert [run["outputs"][0]["shape"][0] for run in found.runs] == [1, 3]
    fixed = make_model.save(make_model.classifier(batch=1), tmp_path / "fixed")
    with pytest.raises(
        UsageError, match=r"'x' is .*1, 3, 16, 16.*: its batch is fixed: leave --batch"
    ):
        bench(fixed, batch=(1, 2), repeat=1)


def test_what_is_compared_is_the_same_model(bundle: Path, tmp_path: Path) -> None:
    other = make_model.save(make_model.classifier(seed=1), tmp_path / "other")
    with pytest.raises(UsageError, match="is not the model that"):
        bench(bundle, engine="lite,paddle", server=other, repeat=1)
    with pytest.raises(UsageError, match="engine paddle runs the source model"):
        bench(bundle, engine="lite,paddle", repeat=1)


def test_precisions_need_a_gpu_and_say_so(model: Path) -> None:
    with pytest.raises(UsageError, match="add --device gpu"):
        bench(model, precision="fp32,fp16", repeat=1)
    with pytest.raises(EngineError, match="is a CPU build"):
        bench(model, precision="fp32,fp16", batch=(1, 4), tensorrt=True, device="gpu", repeat=1)


def ids_of(found: Bench) -> list[str]:
    return [sample["id"] for sample in found.runs[0]["samples"]]


def test_on_an_emulated_board_instructions_are_counted(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Board:
        def target(self, engine: str) -> str:
            return "arm"

        def count_instructions(self, model: Any, sample: Any) -> int:
            assert (model.files[0].name, sample.id) == ("model.arm.nb", "picture_0.png")
            return 12_340_000

    monkeypatch.setitem(bench_module.BOARDS, "qemu-arm", Board())
    found = bench(bundle, engine="native", device="qemu-arm")
    assert found.to_json() == {
        "model": str(bundle), "device": "qemu-arm", "arm_instructions": 12_340_000, "runs": [],
        "sha256": Bundle.open(bundle).sha256,
    }  # fmt: skip


def test_several_boards_and_bundles_make_a_table(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Board:
        def __init__(self, number: int) -> None:
            self.number = number

        def target(self, engine: str) -> str:
            return "arm"

        def count_instructions(self, model: Any, sample: Any) -> int:
            return self.number + len(model.name)

    boards = {"qemu-aarch64:pi4": Board(2_000_000), "qemu-aarch64:pi5": Board(1_000_000)}
    for name, board in boards.items():
        monkeypatch.setitem(bench_module.BOARDS, name, board)
    other = Path(shutil.copytree(bundle, tmp_path / "other.bundle"))
    steps: list[tuple[str, int, int | None]] = []
    found = count(
        [bundle, other],
        list(boards),
        engine="native",
        watch=Watch(step=lambda *at: steps.append(at)),
    )
    assert steps == [("counts", n, 4) for n in range(1, 5)]
    name = len(Bundle.open(bundle).name)
    assert found.devices == tuple(boards)
    by_device = {"qemu-aarch64:pi4": 2_000_000 + name, "qemu-aarch64:pi5": 1_000_000 + name}
    assert found.instructions == {str(bundle): by_device, str(other): by_device}
    assert found.to_json()["counts"][1] == {
        "model": str(bundle), "device": "qemu-aarch64:pi5", "arm_instructions": 1_000_000 + name,
        "sha256": Bundle.open(bundle).sha256,
    }  # fmt: skip
    with pytest.raises(UsageError, match="on emulated boards; 'cpu' is none: qemu-aarch64, "):
        count([bundle], ["qemu-aarch64:pi4", "cpu"], engine="native")
    for twice in (([bundle], ["qemu-aarch64:pi4"] * 2), ([bundle, bundle], ["qemu-aarch64:pi4"])):
        with pytest.raises(UsageError, match="is given twice"):
            count(*twice, engine="native")
    with pytest.raises(UsageError, match="leave --threads out"):
        count([bundle, other], ["qemu-aarch64:pi4"], engine="native", threads=(1, 2))
