"""Data and Runs at URLs: on a server of S3's protocol, which is moto's, and in fsspec's memory."""

from __future__ import annotations

import http.server
import json
import os
import shlex
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import make_model
import numpy as np
import pytest
from conftest import data_of, need, same

from lite_opt.cli.main import main
from py_runner.data.dataset import dataset
from py_runner.errors import DataError, ModelError, StoppedError, UsageError
from py_runner.evaluation import evaluate
from py_runner.files import url as urls
from py_runner.files.npy import FarArray
from py_runner.files.ranges import Ranges
from py_runner.files.url import Url, place, shown
from py_runner.formats.parts import Places, UnderWay
from py_runner.formats.run import Run
from py_runner.inference import run
from py_runner.job import Job
from py_runner.tensors import Model, TensorSpec, sample_hash
from py_runner.watch import Watch

PAGE = Path(__file__).parents[1] / "docs" / "scale.md"
COUNT = 24
PATIENCE_S = 60
COMMAND = ("paddle-edge", "run", "cat.bundle", "--resume")
SECRET = "hunter2"
_NUMBERS = count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server of S3's protocol, moto's, with a bucket; its credentials are set."""
    need(all(map(find_spec, ("moto", "s3fs", "flask", "flask_cors"))), "moto and s3fs")
    port = _free_port()
    words = [sys.executable, "-m", "moto.server", "-p", str(port)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    known = {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "me",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    before = {name: os.environ.get(name) for name in known}
    os.environ.update(known)
    try:
        _until(lambda: _answers(address))
        asked = urllib.request.Request(f"{address}/bucket", method="PUT")
        urllib.request.urlopen(asked).close()
        yield address
    finally:
        process.kill()
        process.wait()
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _answers(address: str) -> bool:
    with suppress(OSError):
        urllib.request.urlopen(f"{address}/moto-api/").close()
        return True
    return False


def _until(so: Callable[[], object]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not so():
        assert time.monotonic() < end_s
        time.sleep(0.02)


@pytest.fixture
def there(server: str) -> Url:
    """A folder of the bucket that nobody has used."""
    return Url(f"s3://bucket/test {next(_NUMBERS)}")


@pytest.fixture
def memory() -> Iterator[Url]:
    """A folder in the memory of this process."""
    pytest.importorskip("fsspec")
    url = Url(f"memory://top/{next(_NUMBERS)}")
    yield url
    with suppress(FileNotFoundError):
        url.parent.remove()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model.pictures(tmp_path_factory.mktemp("many") / "pictures", COUNT)


@pytest.fixture(scope="module")
def far(server: str, pictures: Path) -> Url:
    """The pictures in the bucket."""
    return copied(pictures, Url("s3://bucket/pictures"))


@pytest.fixture(scope="module")
def undisturbed(edge: Model, bundle: Path, pictures: Path) -> Run:
    return run(edge, data_of(bundle, pictures))


def copied(folder: Path, url: Url) -> Url:
    for file in folder.rglob("*"):
        if file.is_file():
            (url / file.relative_to(folder).as_posix()).put(file)
    return url


def called(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *words: object
) -> tuple[int, str, str]:
    """Exit code, standard output and error of the command."""
    monkeypatch.setattr(sys, "argv", ["paddle-edge", *map(str, words)])
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        main()
    signal.signal(signal.SIGTERM, before)
    out, err = capfd.readouterr()
    return int(str(ended.value.code)), out, err


Called = Callable[..., "tuple[int, str, str]"]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Called:
    return partial(called, monkeypatch, capfd)


# --- addresses -----------------------------------------------------------------------------------


def test_an_address_is_a_path_to_what_is_there() -> None:
    url = Url("s3://bucket/a b/run")
    assert (str(url), url.name, str(url.parent)) == (
        "s3://bucket/a b/run",
        "run",
        "s3://bucket/a b",
    )
    assert str(url / "parts/1" / "x.npy") == "s3://bucket/a b/run/parts/1/x.npy"
    assert str(url / "../x/./y.png") == "s3://bucket/a b/x/y.png"
    assert [str(one) for one in url.parents] == ["s3://bucket/a b", "s3://bucket"]
    assert (url / "x.PNG").suffix == ".PNG"
    assert Url("S3://bucket/a/") == Url("s3://bucket/a")
    with pytest.raises(UsageError, match="leads out of s3://bucket"):
        _ = url / "../../../other/secret"
    for wrong in ("s3://", "photos", "simplecache::s3://bucket/a", "zip://a::s3://b/c.zip"):
        with pytest.raises(UsageError):
            Url(wrong)


def test_what_is_no_url_is_a_path_as_before() -> None:
    for text in ("photos/", "/data/x:y", "C:/x", "edge.run", "a//b"):
        assert place(text) == Path(text)
    assert place("file:///data/my%20photos") == Path("/data/my photos")
    with pytest.raises(UsageError, match="names a host"):
        place("file://host/data")


@pytest.mark.parametrize(
    "text",
    [
        f"ftp://me:{SECRET}@host/a",
        f"paddle-edge run --data=smb://me:{SECRET}@host/a -o x",
        f"see s3://key:a@{SECRET}@host:1/a, ftp://other:{SECRET}@host/b",
        f"https://host/a.txt?X-Amz-Signature={SECRET}&x=1",
    ],
)
def test_credentials_are_not_shown(text: str) -> None:
    assert SECRET in text and SECRET not in shown(text)
    assert "host" in shown(text)


def test_users_of_devices_are_shown() -> None:
    assert shown("ssh://pi@board:22/folder and a/b:c@d") == "ssh://pi@board:22/folder and a/b:c@d"


# --- files ---------------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "there"])
def either(request: pytest.FixtureRequest) -> Url:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Url)
    return found


def test_a_folder_is_listed_read_and_removed(either: Url, tmp_path: Path) -> None:
    for name in ("b.txt", "sub/a.txt", "sub/deep/c d#1.txt"):
        file = tmp_path / "new"
        file.write_text(name)
        (either / name).put(file)
    assert either.names() == ["b.txt", "sub/a.txt", "sub/deep/c d#1.txt"]
    assert sorted(either.walked()) == either.names()
    assert sorted(one.name for one in either.iterdir()) == ["b.txt", "sub"]
    assert either.folders() == {"sub"}
    assert either.is_dir() and not either.is_file() and (either / "b.txt").is_file()
    assert not (either / "none").exists() and not (either / "b").exists()
    assert (either / "sub/deep/c d#1.txt").read() == b"sub/deep/c d#1.txt"
    assert (either / "sub/a.txt").read(4, 7) == b"a.t"
    (either / "b.txt").put(file)
    assert (either / "b.txt").read() == b"sub/deep/c d#1.txt"
    either.remove(["b.txt", "sub/a.txt"])
    assert either.names() == ["sub/deep/c d#1.txt"]
    either.remove()
    assert not either.exists() and either.names() == []
    with pytest.raises(FileNotFoundError):
        (either / "b.txt").read()


def test_who_reads_on_is_read_ahead_for(memory: Url, tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(3 << 20)
    (tmp_path / "x").write_bytes(content)
    (memory / "x").put(tmp_path / "x")
    asked: list[tuple[int, int]] = []

    class Counted(Url):
        def read(self, start: int | None = None, end: int | None = None) -> bytes:
            asked.append((start or 0, end or 0))
            return super().read(start, end)

    ranges = Ranges(Counted(str(memory / "x")))
    step = 1000
    found = b"".join(ranges.read_at(at, step) for at in range(0, ranges.size, step))
    assert found == content and len(asked) <= 5
    asked.clear()
    assert ranges.read_at(10, 20) == content[10:30]
    assert asked == [(10, 30)]  # a jump is no reading on
    assert ranges.read_at(len(content) - 5, 100) == content[-5:]
    assert ranges.read_at(len(content) + 5, 100) == b""


# --- data ----------------------------------------------------------------------------------------


def _class_folders(folder: Path) -> None:
    for name in ("cat", "dog"):
        make_model.pictures(folder / name, 2, seed=len(name) + ord(name[0]))
    make_model.pictures(folder / ".hidden", 1)


def _list(folder: Path) -> None:
    make_model.pictures(folder / "files", 3)
    lines = ["files/../files/picture_1.png 3", "files/picture_0.png 1", "files/picture_2.png"]
    (folder / "val.txt").write_text("\n".join(lines))


def _arrays(folder: Path, *, archive: bool) -> None:
    folder.mkdir()
    tensors = np.random.default_rng(3).random((5, 3, make_model.SIDE, make_model.SIDE))
    for number, part in enumerate(np.split(tensors.astype(np.float32), [3])):
        if archive:
            np.savez(folder / f"{number}.npz", x=part, label=np.arange(len(part)))
        else:
            np.save(folder / f"{number}.npy", part)


_DATA: dict[str, tuple[Callable[[Path], object], str]] = {
    "a folder": (lambda folder: make_model.pictures(folder, 3), ""),
    "one picture": (lambda folder: make_model.pictures(folder, 3), "picture_1.png"),
    "a folder a class": (_class_folders, ""),
    "a list": (_list, "val.txt"),
    "a folder of .npy": (partial(_arrays, archive=False), ""),
    "one .npy": (partial(_arrays, archive=False), "0.npy"),
    "a folder of .npz": (partial(_arrays, archive=True), ""),
    "one .npz": (partial(_arrays, archive=True), "0.npz"),
}


@pytest.mark.parametrize("kind", _DATA)
def test_data_at_a_url_is_the_data_of_a_folder(
    kind: str, either: Url, bundle: Path, tmp_path: Path
) -> None:
    make, name = _DATA[kind]
    make(tmp_path / "data")
    copied(tmp_path / "data", either)
    here = data_of(bundle, tmp_path / "data" / name)
    far = data_of(bundle, either / name if name else either)
    assert len(far) > 0 and (far.ids, far.labels) == (here.ids, here.labels)
    assert far.identity() == here.identity()
    assert list(map(sample_hash, far)) == list(map(sample_hash, here))
    assert [s.pixels for s in far] == [s.pixels for s in here]


def test_arrays_of_several_inputs(memory: Url, tmp_path: Path) -> None:
    inputs = [TensorSpec("x", "float32", (-1, 4)), TensorSpec("y", "int64", (1, 2))]
    random = np.random.default_rng(0)
    for sample in ("a", "b"):
        np.save(tmp_path / f"{sample}.0.npy", random.random((1, 4), np.float32))
        np.save(tmp_path / f"{sample}.1.npy", random.integers(0, 9, (1, 2)))
    here, far = (dataset(one, inputs=inputs) for one in (tmp_path, copied(tmp_path, memory)))
    assert list(map(sample_hash, here)) == list(map(sample_hash, far))


def test_rows_of_an_array_are_fetched_and_not_the_array(memory: Url, tmp_path: Path) -> None:
    array = np.arange(6 * 200_000, dtype=np.int32).reshape(6, 200_000)
    np.save(tmp_path / "x.npy", array)
    (memory / "x.npy").put(tmp_path / "x.npy")
    opened = FarArray(memory / "x.npy")
    assert (opened.shape, opened.dtype, opened.ndim, len(opened)) == ((6, 200_000), "int32", 2, 6)
    assert np.array_equal(opened[4], array[4])
    assert np.array_equal(opened.reshape(3, 2, 200_000)[2], array.reshape(3, 2, -1)[2])
    assert np.array_equal(np.array(opened), array)
    np.save(tmp_path / "x.npy", np.asfortranarray(array))
    (memory / "x.npy").put(tmp_path / "x.npy")
    with pytest.raises(ValueError, match="Fortran"):
        FarArray(memory / "x.npy")


@pytest.mark.parametrize("line", ["/etc/x.png", "s3://other/x.png"])
def test_a_list_names_what_is_beside_it(
    line: str, memory: Url, bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "val.txt").write_text(f"a.png\n{line} 3\n")
    with pytest.raises(DataError, match=r"line 2: .* relative to the list"):
        data_of(bundle, copied(tmp_path, memory) / "val.txt")


def test_a_picture_that_is_gone_is_bad_and_a_network_that_is_gone_is_not(
    memory: Url, bundle: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = data_of(bundle, copied(pictures, memory), skip_bad=True)
    gone = data.ids[3]
    (memory / gone).remove()
    assert len(list(data)) == COUNT - 1
    assert data.skipped == [(gone, f"{memory / gone}: no such image file")]
    monkeypatch.setattr(urls, "_PAUSES_S", ())
    read = type(memory._system()[0]).cat_file

    def fails(self: Any, path: str, **options: Any) -> Any:
        if path.endswith(data.ids[7]):
            raise TimeoutError("no answer")
        return read(self, path, **options)

    monkeypatch.setattr(type(memory._system()[0]), "cat_file", fails)
    with pytest.raises(DataError, match=f"{data.ids[7]}: no answer"):
        list(data)


# --- runs ----------------------------------------------------------------------------------------


def test_a_run_at_a_url_is_the_run(either: Url, undisturbed: Run) -> None:
    undisturbed.save(either)
    assert same(Run.open(str(either)), undisturbed)
    assert np.allclose(Run.open(either).latency_ms, undisturbed.latency_ms, atol=1e-6)
    with pytest.raises(UsageError, match="exists already"):
        undisturbed.save(either)
    few = undisturbed.first(3)
    few.save(either, force=True)
    assert same(Run.open(either), few)


def test_what_says_that_a_run_is_whole_comes_last(
    memory: Url, edge: Model, bundle: Path, pictures: Path, undisturbed: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    done: list[str] = []

    def put(self: Url, file: Path, real: Callable[..., None] = Url.put) -> None:
        done.append(f"+{str(self).removeprefix(f'{memory}/')}")
        real(self, file)

    def remove(
        self: Url, names: list[str] | None = None, real: Callable[..., None] = Url.remove
    ) -> None:
        done.extend(f"-{name}" for name in names or ())
        real(self, names)

    undisturbed.save(memory)
    monkeypatch.setattr(Url, "put", put)
    monkeypatch.setattr(Url, "remove", remove)
    undisturbed.first(2).save(memory, force=True)
    assert done[0] == "-run.json" and done[-1] == "+run.json"
    assert sorted(done[1:-1]) == ["+latency.csv", "+output_0.npy"]
    done.clear()
    job, data = Job(edge, "lite", part_s=1e-9), data_of(bundle, pictures)
    evaluate(job, data, memory, command=COMMAND, force=True)
    assert done[0] == "+begun.json" and done[-1].startswith("-parts/")
    parts = [done.index(f"+parts/{number:08d}/part.json") for number in range(COUNT)]
    for at, number in zip(parts, range(COUNT)):
        of_it = [n for n, name in enumerate(done) if name.startswith(f"+parts/{number:08d}/")]
        assert at == of_it[-1] and len(of_it) >= 5
    complete = done.index("+run.json")
    assert complete > max(done.index("+output_0.npy"), *parts)
    assert done[complete + 1] == "-begun.json" and "-run.json" not in done


def test_a_run_of_many_samples_is_read_in_places(memory: Url, undisturbed: Run) -> None:
    runs = [undisturbed.select(range(n, COUNT, 2)) for n in (0, 1)]
    for number, one in enumerate(runs):
        one.save(memory / f"{number}")
    whole = Run.merge([Run.open(memory / f"{number}") for number in (0, 1)])
    whole.save(memory / "all")
    assert same(Run.open(memory / "all"), Run.merge(runs))


def test_answers_of_shapes_that_vary(memory: Url, undisturbed: Run) -> None:
    ragged = [np.arange(n % 5, dtype=np.float32) for n in range(COUNT)]
    made = replace(undisturbed, outputs={"boxes": ragged})
    made.save(memory)
    assert same(Run.open(memory), made)
    (memory / "output_0/000007.npy").remove()
    with pytest.raises(ModelError, match=r"000007\.npy is missing"):
        Run.open(memory)


def test_a_run_without_its_run_json_is_not_complete(memory: Url, undisturbed: Run) -> None:
    undisturbed.save(memory)
    (memory / "run.json").remove()
    with pytest.raises(ModelError, match=r"not complete: no run\.json"):
        Run.open(memory)


def after(asked: int) -> Callable[[], bool]:
    """Has enough when it was asked so many times: once a sample."""
    times = iter(range(asked))
    return lambda: next(times, None) is None


def test_stopped_and_gone_on_with(
    either: Url, edge: Model, bundle: Path, pictures: Path, undisturbed: Run
) -> None:
    job, data = Job(edge, "lite", part_s=1e-9), data_of(bundle, pictures)
    with pytest.raises(StoppedError, match=r"1\d of 24 samples are answered; to go on: pad"):
        evaluate(job, data, either, command=COMMAND, watch=Watch(enough=after(15)))
    names = either.names()
    assert "begun.json" in names and "run.json" not in names
    for wrong in (lambda: Run.open(either), lambda: evaluate(job, data, either, command=COMMAND)):
        with pytest.raises((ModelError, UsageError), match=r"not complete: 1\d of 24"):
            wrong()
    (either / "parts/00000003/part.json").remove()  # of a process that was killed as it put it
    told: list[str] = []
    evaluate(job, data, either, command=COMMAND, resume=True, watch=Watch(say=told.append))
    assert told == [f"{either}: part 00000003 is damaged: its samples are run again"]
    assert same(Run.open(either), undisturbed)
    assert {name.partition("/")[0] for name in either.names()} == {
        "run.json", "latency.csv", "output_0.npy",
    }  # fmt: skip
    evaluate(job, data, either, command=COMMAND, resume=True, watch=Watch(say=told.append))
    assert told[1:] == [f"{either}: is complete"]


def test_force_keeps_what_it_replaces_until_the_end(
    memory: Url, edge: Model, bundle: Path, pictures: Path, undisturbed: Run
) -> None:
    undisturbed.first(2).save(memory)
    job, data = Job(edge, "lite", part_s=1e-9), data_of(bundle, pictures)
    for asked in (9, 5):
        with pytest.raises(StoppedError, match=f"{asked + 1} of 24"):
            enough = Watch(enough=after(asked))
            evaluate(job, data, memory, command=COMMAND, force=True, watch=enough)
        assert "run.json" in memory.names()
    (memory / "begun.json").remove()
    assert same(Run.open(memory), undisturbed.first(2))
    evaluate(job, data, memory, command=COMMAND, force=True)
    assert same(Run.open(memory), undisturbed)
    assert len(memory.names()) == 3


def test_what_is_somebody_elses_stays(memory: Url, undisturbed: Run, pictures: Path) -> None:
    copied(pictures, memory)
    with pytest.raises(UsageError, match="not a folder that paddle-edge made"):
        undisturbed.save(memory, force=True)
    assert len(memory.names()) == COUNT


def test_two_processes_do_not_work_at_one_run(
    memory: Url, edge: Model, bundle: Path, pictures: Path
) -> None:
    job, data = Job(edge, "lite", part_s=1e-9), data_of(bundle, pictures)
    with pytest.raises(StoppedError):
        evaluate(job, data, memory, command=COMMAND, watch=Watch(enough=after(5)))
    with UnderWay(memory) as mine, UnderWay(memory) as theirs:
        theirs.add(lambda folder: (folder / "x").touch(), Places(20, 21, 1))
        with pytest.raises(UsageError, match="another process is at work"):
            mine.add(lambda folder: (folder / "x").touch(), Places(22, 23, 1))
    with UnderWay(memory) as found:
        assert [part.first for part in found.parts] == [*range(6), 20]

    def intrudes(done: Run) -> Run:
        (memory / "parts/00000099/part.json").put(bundle / "bundle.json")
        return done

    with pytest.raises(UsageError, match=r"another process is at work .* go on with: paddle-edge"):
        evaluate(job, data, memory, command=COMMAND, force=True, finish=intrudes)
    assert "run.json" not in memory.names()


# --- the command ---------------------------------------------------------------------------------


def test_run_merge_compare_and_inspect(
    bundle: Path, far: Url, there: Url, pictures: Path, tmp_path: Path, call: Called
) -> None:
    here = tmp_path / "here.run"
    assert call("run", bundle, "--data", f"file://{pictures}", "-o", f"file://{here}")[0] == 0
    shards = [there / f"{number}.run" for number in (1, 2)]
    words = [sys.executable, "-m", "lite_opt.cli.main", "run", str(bundle), "--data", str(far)]
    beside = [
        subprocess.Popen(
            [*words, "--shard", f"{number}/2", "-o", str(url)], stdout=subprocess.DEVNULL
        )
        for number, url in enumerate(shards, 1)
    ]
    assert [process.wait(PATIENCE_S) for process in beside] == [0, 0]
    code, out, _ = call("merge", *shards, "-o", there / "all.run", "--json")
    assert code == 0
    assert json.loads(out)["parts"] == [{"run": str(url), "samples": 12} for url in shards]
    code, out, _ = call("compare", here, there / "all.run", "--json", "--max-abs-diff", "0")
    assert code == 0 and json.loads(out)["passed"]
    assert same(Run.open(there / "all.run"), Run.open(here))
    code, out, _ = call("inspect", there / "all.run", "--json")
    assert (json.loads(out)["kind"], json.loads(out)["path"]) == ("run", str(there / "all.run"))
    code, _, err = call("merge", *shards, "-o", shards[0], "--force")
    assert code == 2 and "which is read" in err


def test_limits_of_a_bundle_at_a_url(
    bundle: Path, there: Url, tmp_path: Path, call: Called
) -> None:
    mine = shutil.copytree(bundle, tmp_path / "cat.bundle")
    document = json.loads((mine / "bundle.json").read_text())
    document["recipe"] = {**document["recipe"], "limits": {"cosine": 0.123}}
    (mine / "bundle.json").write_text(json.dumps(document))
    copied(mine, there / "cat.bundle")
    assert call("run", bundle, "-o", tmp_path / "edge.run")[0] == 0
    judged = []
    for reference in (mine / "reference", there / "cat.bundle/reference"):
        code, out, _ = call("compare", reference, tmp_path / "edge.run", "--json")
        judged.append((code, json.loads(out)))
    assert judged[0] == judged[1] and "0.123" in json.dumps(judged[1][1])


def test_the_commands_of_the_page(
    bundle: Path, pictures: Path, undisturbed: Run, server: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, call: Called,
) -> None:  # fmt: skip
    shutil.copytree(bundle, tmp_path / "cat.bundle")
    undisturbed.save(tmp_path / "server.run")
    copied(pictures, Url("s3://bucket/imagenet"))
    for number in (1, 2):
        undisturbed.select(range(number - 1, COUNT, 2)).save(f"s3://bucket/pi-{number}.run")
    monkeypatch.chdir(tmp_path)
    section = PAGE.read_text(encoding="utf-8").partition("## Data and runs at URLs")[2]
    lines = section.partition("```bash\n")[2].partition("```")[0].splitlines()
    words = [shlex.split(line) for line in lines if line.startswith("paddle-edge ")]
    assert len(words) == 4
    for _, *given in words:
        code, _, err = call(*given)
        assert code == 0, f"{shlex.join(given)}: {err}"
    assert same(Run.open("s3://bucket/edge.run"), undisturbed)


def test_killed_half_way_and_gone_on_with(
    bundle: Path, far: Url, there: Url, undisturbed: Run
) -> None:
    words = [sys.executable, "-m", "lite_opt.cli.main", "run", str(bundle), "--data", str(far)]
    words += ["-o", str(there), "--keep-every", "0.001", "--resume"]
    process = subprocess.Popen([*words, "--json"], stdout=subprocess.DEVNULL)
    try:
        _until(lambda: sum(name.endswith("part.json") for name in there.names()) >= 3)
    finally:
        process.kill()
        process.wait()
    assert "run.json" not in there.names()
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert same(Run.open(there), undisturbed)


def test_workers_of_this_machine_read_and_write_there(
    bundle: Path, far: Url, there: Url, undisturbed: Run, call: Called
) -> None:
    assert call("run", bundle, "--data", far, "-o", there, "--on", "local[2]", "--json")[0] == 0
    found = Run.open(there)
    assert same(found, undisturbed) and found.side_by_side == 2


class _Cut(socketserver.ThreadingTCPServer):
    """Hands connections on to a server until `most` requests were made; then nobody answers."""

    daemon_threads = allow_reuse_address = True

    def __init__(self, address: str, most: int) -> None:
        host, port = address.removeprefix("http://").split(":")
        left = iter(range(most))

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with socket.create_connection((host, int(port))) as behind, suppress(OSError):
                    back = threading.Thread(target=self._back, args=(behind,), daemon=True)
                    back.start()
                    while data := self.request.recv(1 << 16):
                        if data.startswith((b"GET", b"HEAD", b"PUT")) and next(left, None) is None:
                            return
                        behind.sendall(data)

            def _back(self, behind: socket.socket) -> None:
                with suppress(OSError):
                    while data := behind.recv(1 << 16):
                        self.request.sendall(data)

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


def test_the_network_goes_half_way(
    bundle: Path, far: Url, there: Url, undisturbed: Run, server: str
) -> None:
    words = [sys.executable, "-m", "lite_opt.cli.main", "run", str(bundle), "--data", str(far)]
    words += ["-o", str(there), "--keep-every", "0.001"]
    with _Cut(server, 110) as cut:
        environment = {
            **os.environ,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{cut.server_address[1]}",
        }
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
        cut.shutdown()
    assert done.returncode in (2, 3)
    told = [line for line in done.stderr.splitlines() if line.startswith("paddle-edge: ")]
    assert len(told) == 1 and "Traceback" not in done.stderr
    assert "go on with: paddle-edge run" in told[0] and "kept" in told[0]
    parts = sum(name.endswith("part.json") for name in there.names())
    assert parts > 0
    done = subprocess.run([*words, "--resume"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert same(Run.open(there), undisturbed)


@pytest.mark.parametrize(
    ("data", "out", "code", "told"),
    [
        ("s3://nowhere/pictures", "x.run", 3, "s3://nowhere/pictures: no such data set"),
        ("", "s3://nowhere/x.run", 2, "there is no bucket s3://nowhere"),
        ("gs://bucket/pictures", "x.run", 2, "install gcsfs"),
        ("foo://bucket/pictures", "x.run", 2, "Protocol not known: foo"),
        ("", "http://127.0.0.1:9/x.run", 2, "can be read, not written to"),
        ("http://127.0.0.1:9/val.txt", "x.run", 3, "http://127.0.0.1:9/val.txt: "),
        ("s3://", "x.run", 2, "is no URL such as"),
    ],
)
def test_wrong_addresses(
    data: str, out: str, code: int, told: str, server: str, bundle: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, call: Called,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(urls, "_PAUSES_S", ())
    given = ["--data", data] if data else []
    found, _, err = call("run", bundle, *given, "-o", out)
    assert found == code and told in err and len(err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_where_nothing_is_installed_for_urls(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Called
) -> None:
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    code, _, err = call("run", bundle, "--data", "s3://bucket/x", "-o", tmp_path / "x.run")
    assert code == 2 and "pip install 'paddle-edge[cloud]'" in err


def test_without_credentials(bundle: Path, far: Url, tmp_path: Path) -> None:
    without = {n: v for n, v in os.environ.items() if n[:10] not in ("AWS_ACCESS", "AWS_SECRET")}
    words = [sys.executable, "-m", "lite_opt.cli.main", "run", str(bundle), "--data", str(far)]
    done = subprocess.run(
        [*words, "-o", str(tmp_path / "x.run")],
        capture_output=True, text=True, check=False, env={**without, "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 3
    assert "credentials" in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "words",
    [
        ("convert", "s3://bucket/model", "-o", "x.bundle"),
        ("run", "s3://bucket/cat.bundle", "-o", "x.run"),
        ("compare", "a.run", "b.run", "--html", f"ftp://me:{SECRET}@host/page.html"),
    ],
)
def test_where_a_path_is_needed(words: tuple[str, ...], call: Called) -> None:
    code, _, err = call(*words)
    assert code == 2 and "is a URL, and a path here" in err and SECRET not in err


def test_what_reads_pictures_again_needs_them_here(bundle: Path, call: Called) -> None:
    words = ("run", bundle, "--data", "s3://bucket/x", "-o", "x.run", "--draw", "drawn")
    code, _, err = call(*words)
    assert code == 2 and "--draw needs the pictures on this machine" in err


def test_a_password_is_nowhere(
    bundle: Path, memory: Url, pictures: Path, tmp_path: Path, call: Called
) -> None:
    secret = Url(f"memory://me:{SECRET}@top/{next(_NUMBERS)}")
    copied(pictures, secret / "data")
    out = secret / "edge.run"
    words = ("run", bundle, "--data", (secret / "data")._text, "-o", out._text)
    texts = [*call(*words, "--json", "--keep-every", "1e-9")[1:]]
    names = [name for name in out.names() if not name.endswith(".npy")]
    texts += [(out / name).read().decode() for name in names]
    code, *said = call(*words, "--resume")
    assert code == 0
    code, *more = call(*words)
    assert code == 2 and "exists already" in more[1]
    (secret / "data/picture_9.png").put(PAGE)
    words = (*words[:-1], (secret / "other.run")._text)
    code, *half = call(*words, "--keep-every", "1e-9", "--debug")
    assert code == 3 and "go on with: paddle-edge run" in half[1] and "memory://top/" in half[1]
    said += [*half, (secret / "other.run/begun.json").read().decode()]
    said += call("inspect", bundle, out._text, f"--{out._text}")[1:]
    assert all(SECRET not in text for text in [*texts, *said, *more])
    assert "memory://top/" in more[1]


def test_data_from_a_web_server(
    server: str, bundle: Path, pictures: Path, tmp_path: Path, undisturbed: Run
) -> None:
    shutil.copytree(pictures, tmp_path / "my pictures")
    names = [info.id for info in undisturbed.samples]
    (tmp_path / "val.txt").write_text("".join(f"my pictures/{name}\n" for name in names))

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    handler = partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        data = data_of(bundle, f"http://127.0.0.1:{web.server_port}/val.txt")
        hashes = list(map(sample_hash, data))
        web.shutdown()
    assert hashes == [info.sha256 for info in undisturbed.samples]
