"""Runs that outlive what ends them: parts on disk, what is told of damage, and going on."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import make_model
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import kills

from py_runner import evaluation
from py_runner.data import image_files
from py_runner.data.dataset import Dataset, dataset
from py_runner.data.decode import open_image
from py_runner.devices import BOARDS
from py_runner.devices.qemu import Emulated
from py_runner.engines import ENGINES, Engine
from py_runner.errors import (
    DataError,
    EngineError,
    ModelError,
    RefusedError,
    StoppedError,
    UsageError,
)
from py_runner.evaluation import evaluate
from py_runner.formats import parts as under_way
from py_runner.formats.bundle import Bundle
from py_runner.formats.run import Run
from py_runner.inference import parts, run
from py_runner.job import Job
from py_runner.tensors import Model, Sample, TensorSpec
from py_runner.watch import Watch

COUNT, DONE = 40, 25
COMMAND = ("paddle-edge", "run", "my bundle", "--resume")
EACH = 1e-9  # seconds of a part: each sample is one
PATIENCE_S = 60


@pytest.fixture(scope="module")
def edge(bundle: Path) -> Model:
    return Bundle.open(bundle).model("x86")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model.pictures(tmp_path_factory.mktemp("many") / "pictures", COUNT)


def data_of(bundle: Path, pictures: Path, **options: Any) -> Dataset:
    opened = Bundle.open(bundle)
    return dataset(pictures, inputs=opened.inputs, image=opened.image, **options)


@pytest.fixture(scope="module")
def data(bundle: Path, pictures: Path) -> Dataset:
    return data_of(bundle, pictures)


@pytest.fixture(scope="module")
def undisturbed(edge: Model, data: Dataset) -> Run:
    return run(edge, data)


def after(count: int) -> Callable[[], bool]:
    """Has enough when it was asked so many times: once a sample."""
    asked = iter(range(count - 1))
    return lambda: next(asked, None) is None


@pytest.fixture(scope="module")
def stopped(edge: Model, data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run under way of `DONE` parts of one sample each."""
    out = tmp_path_factory.mktemp("stopped") / "edge.run"
    with pytest.raises(StoppedError) as told:
        evaluate(
            Job(edge, "lite", part_s=EACH), data, out, command=COMMAND,
            watch=Watch(enough=after(DONE)),
        )  # fmt: skip
    assert f"{DONE} of {COUNT} samples are answered" in str(told.value)
    assert str(told.value).endswith("to go on: paddle-edge run 'my bundle' --resume")
    return out


@pytest.fixture
def begun(stopped: Path, tmp_path: Path) -> Path:
    return shutil.copytree(stopped, tmp_path / "edge.run")


def going_on(edge: Model, data: Dataset, out: Path, **options: Any) -> tuple[Run, list[str]]:
    said: list[str] = []
    job = Job(edge, "lite", **options.pop("job", {}))
    watch = Watch(say=said.append)
    evaluate(job, data, out, command=COMMAND, resume=True, watch=watch, **options)
    return Run.open(out), said


def same(a: Run, b: Run) -> bool:
    """Whether ids, order and answers are bit by bit the same."""
    return list(a.samples) == list(b.samples) and all(
        x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()
        for name in a.outputs
        for x, y in zip(a.outputs[name], b.outputs[name])
    )


def test_parts_are_the_run(edge: Model, data: Dataset, undisturbed: Run) -> None:
    made = list(parts(Job(edge, "lite", part_s=EACH), data))
    assert [len(part.samples) for part in made] == [1] * COUNT
    whole = Run.merge(made)
    assert same(whole, undisturbed)
    assert whole.summary().keys() == undisturbed.summary().keys()
    assert whole.latency["count"] == COUNT


def test_a_part_ends_by_samples_and_by_bytes() -> None:
    model = Model("m", "0", "fp32", (Path("m.nb"),), ())
    job = Job(model, "lite")
    now = time.perf_counter()
    assert not job.ends_part(now, 4095, (16 << 20) - 1)
    assert job.ends_part(now, 4096, 0) and job.ends_part(now, 1, 16 << 20)
    assert job.ends_part(now - 11, 1, 0)
    with pytest.raises(UsageError, match="above 0 s"):
        Job(model, "lite", part_s=0)


def test_a_closed_iterator_ends_the_engine(edge: Model, data: Dataset) -> None:
    made = parts(Job(edge, "lite", part_s=EACH), data)
    next(made)
    assert any(thread.name == "samples" for thread in threading.enumerate())
    assert len(engines(os.getpid())) == 1
    made.close()
    assert not any(thread.name == "samples" for thread in threading.enumerate())
    assert engines(os.getpid()) == []


def test_a_short_run_is_written_at_once(
    edge: Model, data: Dataset, undisturbed: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(under_way.UnderWay, "begin")
    evaluate(Job(edge, "lite"), data, tmp_path / "r", command=COMMAND)
    assert same(Run.open(tmp_path / "r"), undisturbed)
    again, said = going_on(edge, data, tmp_path / "r")
    assert same(again, undisturbed) and said == [f"{tmp_path / 'r'}: is complete"]
    other = data.select(range(1, COUNT))
    with pytest.raises(UsageError, match="has samples that the data has not"):
        going_on(edge, other, tmp_path / "r")
    with pytest.raises(UsageError, match="warmup was 1 and is 3 now"):
        going_on(edge, data, tmp_path / "r", job={"warmup": 3})


def test_a_run_under_way_goes_on(edge: Model, data: Dataset, undisturbed: Run, begun: Path) -> None:
    with pytest.raises(ModelError, match=f"not complete: {DONE} of {COUNT} .* --resume"):
        Run.open(begun)
    fed: list[tuple[int, int | None]] = []
    watch = Watch(step=lambda what, n, of: fed.append((n, of)) if "engine" in what else None)
    evaluate(Job(edge, "lite"), data, begun, command=COMMAND, resume=True, watch=watch)
    done = Run.open(begun)
    assert fed == [(n, COUNT) for n in range(DONE + 1, COUNT + 1)]
    assert same(done, undisturbed)
    assert done.latency["count"] == COUNT
    assert sorted(p.name for p in begun.iterdir()) == ["latency.csv", "output_0.npy", "run.json"]
    assert [p.name for p in begun.parent.iterdir()] == [begun.name]


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)


DAMAGE: dict[str, tuple[str, Callable[[Path], object]]] = {
    "removed": ("", shutil.rmtree),
    "torn answers": ("00000007 is damaged", lambda part: cut(part / "output_0.npy")),
    "one bit": ("00000007 is damaged", lambda part: flip(part / "output_0.npy")),
    "a latency": ("00000007 is damaged", lambda part: flip(part / "latency.csv")),
    "torn manifest": ("00000007 is damaged", lambda part: cut(part / "run.json")),
    "torn checksum": ("00000007 is damaged", lambda part: cut(part / "part.json")),
    "no checksum": ("00000007 is damaged", lambda part: (part / "part.json").unlink()),
    "a missing file": ("00000007 is damaged", lambda part: (part / "latency.csv").unlink()),
    "another place": ("00000030 is damaged", lambda part: part.rename(part.parent / "00000030")),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_parts_are_told_and_run_again(
    kind: str, edge: Model, data: Dataset, undisturbed: Run, begun: Path
) -> None:
    telling, damage = DAMAGE[kind]
    damage(begun / "parts" / "00000007")
    done, said = going_on(edge, data, begun)
    told = [f"{begun}: part {telling}: its samples are run again"] if telling else []
    assert said == told
    assert same(done, undisturbed)


def reading(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the pictures that are decoded from now on."""
    opened: list[str] = []

    def counted(file: Path, *rest: Any) -> Any:
        opened.append(file.name)
        return open_image(file, *rest)

    monkeypatch.setattr(image_files, "open_image", counted)
    return opened


def stopped_at(count: int, edge: Model, data: Dataset, out: Path) -> list[str]:
    """The samples of a run that was stopped after so many."""
    job, stop = Job(edge, "lite", part_s=EACH), Watch(enough=after(count))
    with pytest.raises(StoppedError):
        evaluate(job, data, out, command=COMMAND, watch=stop)
    return data.ids


def test_pictures_that_are_what_they_were_are_not_read_again(
    edge: Model, bundle: Path, pictures: Path, undisturbed: Run, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    mine, out = shutil.copytree(pictures, tmp_path / "mine"), tmp_path / "r"
    time.sleep(0.2)  # younger than the run they would be read
    ids = stopped_at(10, edge, data_of(bundle, mine), out)
    opened = reading(monkeypatch)
    os.utime(mine / ids[3])
    job, stop = Job(edge, "lite", part_s=EACH), Watch(enough=after(20))
    with pytest.raises(StoppedError):
        evaluate(job, data_of(bundle, mine), out, command=COMMAND, resume=True, watch=stop)
    assert set(opened) & set(ids[:10]) == {ids[3]}
    before = (mine / ids[5]).stat()
    data = bytearray((mine / ids[5]).read_bytes())
    (mine / ids[5]).write_bytes((mine / ids[6]).read_bytes().ljust(len(data), b"\0")[: len(data)])
    os.utime(mine / ids[5], ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(UsageError, match=f"'{ids[5]}' is not what it was|{ids[5]}: cannot decode"):
        going_on(edge, data_of(bundle, mine), out)
    (mine / ids[5]).write_bytes(data)
    opened.clear()
    done, _ = going_on(edge, data_of(bundle, mine), out)
    assert same(done, undisturbed)
    assert {ids[3], ids[5]} <= set(opened) and not set(opened) & {*ids[:3], *ids[6:10]}


@pytest.mark.parametrize("what", ["pillow", "a copy", "a file changed meanwhile"])
def test_pictures_are_read_again_where_nothing_says_that_they_are_the_same(
    what: str, edge: Model, bundle: Path, pictures: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    mine, out = shutil.copytree(pictures, tmp_path / "mine"), tmp_path / "r"
    if what != "a file changed meanwhile":
        time.sleep(0.2)
    ids = stopped_at(3, edge, data_of(bundle, mine), out)
    if what == "pillow":
        monkeypatch.setattr(evaluation, "versions", lambda: {"pillow": "1"})
    if what == "a copy":
        mine = shutil.copytree(mine, tmp_path / "other")
    opened = reading(monkeypatch)
    going_on(edge, data_of(bundle, mine), out)
    assert set(ids[:3]) <= set(opened)


def test_a_bad_picture_that_can_be_read_now_is_told(
    edge: Model, bundle: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, out = shutil.copytree(pictures, tmp_path / "mine"), tmp_path / "r"
    ids = sorted(path.name for path in mine.iterdir())
    (mine / ids[2]).write_bytes(b"no picture")
    time.sleep(0.2)
    data = data_of(bundle, mine, skip_bad=True)
    stopped_at(9, edge, data, out)
    again = data_of(bundle, mine, skip_bad=True)
    opened = reading(monkeypatch)
    going_on(edge, again, shutil.copytree(out, tmp_path / "other"))
    assert [id_ for id_, _ in again.skipped] == [ids[2]] and opened.count(ids[2]) == 1
    decodes = open_image
    monkeypatch.setattr(
        image_files,
        "open_image",
        lambda file, *rest: decodes(mine / ids[1] if file.name == ids[2] else file, *rest),
    )
    with pytest.raises(UsageError, match=f"'{ids[2]}' had no answer, and can be read now"):
        going_on(edge, again, out)


def test_several_gaps_and_a_torn_tail(
    edge: Model, data: Dataset, undisturbed: Run, begun: Path
) -> None:
    for name in ("00000000", "00000003", "00000004", f"{DONE - 1:08d}"):
        cut(begun / "parts" / name / "run.json")
    left = begun / "parts" / ".00000025.partial-0123"  # of a process that was killed
    shutil.copytree(begun / "parts" / "00000001", left)
    stop = Watch(enough=after(DONE + 5))
    with pytest.raises(StoppedError):
        evaluate(Job(edge, "lite"), data, begun, command=COMMAND, resume=True, watch=stop)
    assert not left.exists()
    done, said = going_on(edge, data, begun)
    assert same(done, undisturbed) and not said


def test_what_is_not_the_same_is_named(
    edge: Model, data: Dataset, begun: Path, bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    def refused(telling: str, data: Dataset = data, edge: Model = edge, **options: Any) -> None:
        with pytest.raises(UsageError, match=f"cannot be gone on with: .*{telling}.*--force"):
            going_on(edge, data, begun, **options)

    refused("threads was 1 and is 2 now; repeat was 1 and is 3", job={"threads": 2, "repeat": 3})
    refused("model was", edge=replace(edge, sha256="0" * 64))
    refused(
        'image was {"resize": "short".* and is {"resize": "none"}',
        edge=replace(edge, image={"resize": "none"}),
    )
    refused(f"samples was {COUNT} and is 39", data_of(bundle, pictures, limit=39))
    refused("shard was null and is", shard={"index": 1, "of": 2, "total": 80})
    other = shutil.copytree(pictures, tmp_path / "other")
    (other / "picture_9.png").rename(other / "picture_99.png")
    refused("names and labels was", data_of(bundle, other))
    (other / "picture_99.png").rename(other / "picture_9.png")
    shutil.copy(other / "picture_8.png", other / "picture_11.png")
    refused("sample 'picture_11.png' is not what it was", data_of(bundle, other))
    (other / "picture_11.png").write_bytes(b"no picture")
    refused(
        "sample 'picture_11.png' cannot be read any more", data_of(bundle, other, skip_bad=True)
    )
    document = json.loads((begun / "begun.json").read_text())
    document["same"]["engine version"] = "v2.12"
    (begun / "begun.json").write_text(json.dumps(document))
    refused('engine version was "v2.12" and is "v2.13-rc" now')


def test_a_time_limit_may_change_and_bad_samples_be_left_out(
    edge: Model, data: Dataset, undisturbed: Run, begun: Path
) -> None:
    done, _ = going_on(edge, data, begun, job={"time_limit_s": 100, "failed": []})
    assert same(done, undisturbed)


def test_nothing_is_replaced_unasked(
    edge: Model, data: Dataset, undisturbed: Run, begun: Path
) -> None:
    job = Job(edge, "lite")
    with pytest.raises(UsageError, match=r"--resume; or begin anew with --force"):
        evaluate(job, data, begun, command=COMMAND)
    with pytest.raises(UsageError, match="give one of them"):
        evaluate(job, data, begun, command=COMMAND, resume=True, force=True)
    with (begun / "begun.json").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="another process is at work"):
            going_on(edge, data, begun)
        with pytest.raises(UsageError, match="another process is at work"):
            evaluate(job, data, begun, command=COMMAND, force=True)
    assert len(list((begun / "parts").iterdir())) == DONE
    evaluate(job, data, begun, command=COMMAND, force=True)
    assert same(Run.open(begun), undisturbed)


def test_what_is_replaced_is_there_until_the_new_run_is_complete(
    edge: Model, data: Dataset, undisturbed: Run, tmp_path: Path
) -> None:
    out = tmp_path / "r"
    undisturbed.first(3).save(out)
    job = Job(edge, "lite", part_s=EACH)
    for count in (5, 9):  # the second time in the place of a run under way
        stop = Watch(enough=after(count))
        with pytest.raises(StoppedError, match=f"{count} of .* kept in .*before until then"):
            evaluate(job, data, out, command=COMMAND, force=True, watch=stop)
        assert sorted(p.name for p in out.iterdir()) == ["before", "begun.json", "parts"]
        assert same(Run.open(out / "before"), undisturbed.first(3))
    done, _ = going_on(edge, data, out)
    assert same(done, undisturbed) and not (out / "before").exists()


def test_a_complete_run_is_held_against_the_data(
    edge: Model, bundle: Path, pictures: Path, data: Dataset, undisturbed: Run, tmp_path: Path
) -> None:
    out = undisturbed.save(tmp_path / "whole")
    less = undisturbed.first(3).save(tmp_path / "less")
    other = shutil.copytree(pictures, tmp_path / "other")
    shutil.copy(other / "picture_8.png", other / "picture_11.png")
    third = undisturbed.samples[3].id
    with pytest.raises(UsageError, match=f"'{third}' had no answer, and can be read now"):
        going_on(edge, data, less)
    with pytest.raises(UsageError, match=r"'picture_11\.png' is not what it was"):
        going_on(edge, data_of(bundle, other), out)
    with pytest.raises(UsageError, match="repeat was 1 and is 2 now"):
        going_on(edge, data, out, job={"repeat": 2})
    stop = Watch(enough=after(3))
    with pytest.raises(StoppedError, match="whole is as it was"):
        evaluate(Job(edge, "lite"), data, out, command=COMMAND, resume=True, watch=stop)


def test_a_damaged_beginning_is_refused(edge: Model, data: Dataset, begun: Path) -> None:
    cut(begun / "begun.json")
    for refused in (lambda: going_on(edge, data, begun), lambda: Run.open(begun)):
        with pytest.raises(ModelError, match=r"begun\.json: damaged.*begin anew with --force"):
            refused()


def test_bad_images_stay_where_they_were(
    edge: Model, bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    """At the beginning, between parts, and at the end: after a part that nothing follows."""
    broken = shutil.copytree(pictures, tmp_path / "broken")
    names = sorted(path.name for path in broken.iterdir())
    bad = [names[0], names[10], names[-2], names[-1]]
    for name in bad:
        (broken / name).write_bytes(b"no picture")
    data = data_of(bundle, broken, skip_bad=True)
    job, out = Job(edge, "lite", part_s=EACH), tmp_path / "r"
    for watch in (Watch(enough=after(30)), Watch()):
        with suppress(StoppedError):
            evaluate(job, data, out, command=COMMAND, resume=True, watch=watch)
    assert same(Run.open(out), run(edge, data))
    assert [id_ for id_, _ in data.skipped] == bad
    with pytest.raises(DataError, match="all 2 samples are bad"):
        evaluate(job, data.part(20, 20), tmp_path / "none", command=COMMAND)


# An engine as serve.py takes it, that does what the first number of its sample says.
ODD = """
import os, signal, time
class Session:
    version = "1"
    def prepare(self, feeds): pass
    def run(self, feeds):
        what = int(feeds["x"][0])
        if what == 1: os.kill(os.getpid(), signal.SIGSEGV)
        if what == 2: time.sleep(600)
        if what == 3: raise ValueError("three is too many")
        return {"y": feeds["x"] * 2}
def open_session(config):
    return Session()
"""


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    (tmp_path / "odd.py").write_text(ODD)
    (tmp_path / "model").write_bytes(b"")
    engine = Engine("odd", suffix="", devices=("cpu", "cpu"), script=tmp_path / "odd.py")
    monkeypatch.setitem(ENGINES, "odd", engine)
    return Model("m", "0" * 64, "fp32", (tmp_path / "model",), (TensorSpec("x", "int64", (2,)),))


def numbered(*kinds: int) -> Dataset:
    """Samples a, b, c ... of these kinds: 0 is good."""
    return Dataset.of(
        [Sample(chr(97 + n), {"x": np.array([kind, n])}) for n, kind in enumerate(kinds)]
    )


@pytest.mark.parametrize("part_s", [10.0, EACH])
def test_one_bad_sample_costs_one_sample(
    odd: Model, part_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if part_s > 1:  # one part, although its last sample fails
        monkeypatch.delattr(under_way.UnderWay, "begin")
    data = numbered(1, 0, 0, 2, 0, 3, 3, 0, 1)
    job = Job(odd, "odd", time_limit_s=0.5, failed=[], part_s=part_s)
    evaluate(job, data, tmp_path / "r", command=COMMAND)
    done = Run.open(tmp_path / "r")
    assert [s.id for s in done.samples] == list("bceh")
    assert [int(value[1]) for value in done.outputs["y"]] == [2, 4, 8, 14]
    reasons = {one.id: one.reason for one in Run.open(tmp_path / "r").failed}
    assert list(reasons) == list("adfgi")
    assert reasons["a"].startswith("engine odd was killed by SIGSEGV; its last words: ")
    assert reasons["d"] == "engine odd gave no answer within 0.5 s"
    assert reasons["f"] == "three is too many"


def test_failed_samples_are_not_tried_again(odd: Model, tmp_path: Path) -> None:
    data, out = numbered(0, 1, 0, 2, 0, 0), tmp_path / "r"
    job = Job(odd, "odd", time_limit_s=0.5, failed=[], part_s=EACH)
    with pytest.raises(StoppedError):
        evaluate(job, data, out, command=COMMAND, watch=Watch(enough=after(3)))
    left: list[str] = []
    job = replace(job, keep=lambda id_, outputs: left.append(id_) or dict(outputs))
    evaluate(job, data, out, command=COMMAND, resume=True)
    done = Run.open(out)
    assert left == ["f"]
    assert [s.id for s in done.samples] == list("acef")
    assert [one.id for one in done.failed] == list("bd")


def test_a_bad_sample_ends_the_run_where_nobody_asked(odd: Model, tmp_path: Path) -> None:
    data, out = numbered(0, 0, 3, 0), tmp_path / "r"
    job = Job(odd, "odd", part_s=EACH)
    with pytest.raises(RefusedError, match="sample 'c': three is too many"):
        evaluate(job, data, out, command=COMMAND)
    with pytest.raises(ModelError, match="2 of 4 samples are answered"):
        Run.open(out)
    evaluate(replace(job, failed=[]), data, out, command=COMMAND, resume=True)
    assert [s.id for s in Run.open(out).samples] == list("abd")


def test_where_the_first_samples_all_fail_it_is_not_they(odd: Model, tmp_path: Path) -> None:
    job = Job(odd, "odd", failed=[])
    with pytest.raises(RefusedError, match="the first 3 samples all fail; the last, 'c': three"):
        evaluate(job, numbered(3, 3, 3, 0), tmp_path / "r", command=COMMAND)
    with pytest.raises(RefusedError, match="every sample fails: three"):
        evaluate(job, numbered(3, 3), tmp_path / "r", command=COMMAND)
    assert not (tmp_path / "r").exists()
    (tmp_path / "odd.py").write_text("def open_session(config): raise ValueError('no licence')")
    with pytest.raises(EngineError, match="no licence"):
        evaluate(job, numbered(0, 0), tmp_path / "r", command=COMMAND)


def test_a_batch_is_halved_until_the_guilty_one_is_alone(
    odd: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The emulator is stood in for by the odd engine here, a batch at a time."""
    asked: list[str] = []

    def answer(_: Emulated, job: Job, batch: list[Sample], watch: Watch) -> Run:
        asked.append("".join(sample.id for sample in batch))
        return Run.merge(list(parts(Job(odd, "odd"), batch)))

    monkeypatch.setattr(Emulated, "_argv", lambda *_: [])
    monkeypatch.setattr(Emulated, "_answer", answer)
    monkeypatch.setitem(ENGINES, "odd", replace(ENGINES["odd"], devices=("qemu.*", "")))
    job = replace(Job(odd, "odd", failed=[]), device="qemu-aarch64")
    samples = numbered(0, 0, 0, 0, 3, 0, 0, 0, 0)
    device: Emulated = BOARDS["qemu-aarch64"]
    monkeypatch.setitem(ENGINES, "odd", replace(ENGINES["odd"], devices=("cpu", "cpu")))
    (done,) = device.parts(job, iter(samples), None, Watch())
    assert [s.id for s in done.samples] == list("abcdfghi")
    assert job.failed == [("e", "three is too many")]
    assert asked == ["a", "bc", "defg", "de", "d", "e", "fg", "hi"]


def test_shards_are_the_whole(edge: Model, data: Dataset, undisturbed: Run) -> None:
    sizes = [len(data.part(index, 7)) for index in range(1, 8)]
    assert sum(sizes) == COUNT and max(sizes) - min(sizes) == 1
    ids = [id_ for index in range(1, 8) for id_ in data.part(index, 7).ids]
    assert ids == data.ids
    for index, of in ((0, 3), (4, 3), (1, 0)):
        with pytest.raises(UsageError, match="there is no part"):
            data.part(index, of)
    with pytest.raises(UsageError, match="do not make 41 parts"):
        data.part(1, COUNT + 1)


# From here on the command, in processes of its own.


@pytest.fixture
def command(bundle: Path, pictures: Path, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    begun: list[subprocess.Popen[str]] = []

    def start(*more: object) -> subprocess.Popen[str]:
        words = [bundle, "--data", pictures, "-o", tmp_path / "edge.run", *more]
        process = subprocess.Popen(
            [sys.executable, "-m", "lite_opt.cli.main", "run", *map(str, words)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        begun.append(process)
        return process

    yield start
    for process in begun:
        process.kill()
        process.communicate()


def wait_for(there: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not there():
        assert time.monotonic() < until
        time.sleep(0.01)


SLOW = ("--repeat", 3000, "--keep-every", 0.01)  # some 50 ms a sample


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_close_the_part(
    number: signal.Signals, command: Callable[..., Any], tmp_path: Path, undisturbed: Run
) -> None:
    process = command(*SLOW)
    wait_for((tmp_path / "edge.run").exists)
    os.killpg(process.pid, number)  # as a terminal does: the engine hears it, too
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 128 + number
    last = said.splitlines()[-1]
    go_on = last.rpartition("to go on: ")[2]
    assert last.startswith("paddle-edge: stopped: ") and go_on.endswith("--resume")
    process = command(*SLOW, "--resume", "--json")
    out, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said
    assert len(json.loads(out)["samples"]) == COUNT
    assert same(Run.open(tmp_path / "edge.run"), undisturbed)


def test_the_second_ctrl_c_ends_at_once(command: Callable[..., Any], tmp_path: Path) -> None:
    process = command("--repeat", 10**8)
    stderr = process.stderr
    wait_for(lambda: engines(process.pid))
    process.send_signal(signal.SIGINT)
    assert "once more to end at once" in stderr.readline()
    time.sleep(0.6)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130 and said.endswith("interrupted\n")
    assert not (tmp_path / "edge.run").exists()


def engines(parent: int) -> list[str]:
    """The children of a process that are there."""
    return Path(f"/proc/{parent}/task/{parent}/children").read_text().split()


@pytest.mark.slow
def test_killed_at_random_moments(bundle: Path, tmp_path: Path) -> None:
    pictures = make_model.pictures(tmp_path / "data", 300)
    lines = list(kills.killed(bundle, pictures, tmp_path, kills=5, chain=3, seed=1))
    assert all(good for _, good in lines) and "bit-equal" in lines[-1][0], lines
    assert sum("kill " in line for line, _ in lines) == 5


def test_a_shard_and_its_command(
    command: Callable[..., Any], tmp_path: Path, undisturbed: Run
) -> None:
    for index in (1, 2, 3):
        process = command("--shard", f"{index}/3", "-o", tmp_path / f"{index}.run")
        assert process.wait(PATIENCE_S) == 0
    runs = [Run.open(tmp_path / f"{index}.run") for index in (1, 2, 3)]
    assert runs[1].shard == {"index": 2, "of": 3, "total": COUNT}
    assert same(Run.merge(runs), undisturbed)
    process = command("--shard", "4/3")
    assert process.wait(PATIENCE_S) == 2
