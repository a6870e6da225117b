"""Files and processes: checksums, folders that are whole or not there, manifests, children."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import sys
import zlib
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import numpy as np
import pytest

from py_runner.errors import EngineError, ModelError, UsageError
from py_runner.files import folder as folder_module
from py_runner.files import manifest
from py_runner.files.checksum import Checksums, sha256
from py_runner.files.folder import (
    check_free,
    check_kept,
    temporary_folder,
    whole_file,
    whole_folder,
)
from py_runner.files.process import Child, how_it_ended, last_words


def test_checksums_of_a_file_that_grows_are_those_of_the_whole(tmp_path: Path) -> None:
    data = np.random.default_rng(0).bytes(3_000_001)
    path = tmp_path / "growing"
    checksums = Checksums(path).read_on()  # not there yet
    assert (checksums.bytes, checksums.crc32) == (0, "00000000")
    with path.open("wb", buffering=0) as file:
        for start, end in ((0, 0), (0, 1), (1, 4096), (4096, 1_000_000), (1_000_000, len(data))):
            file.write(data[start:end])
            assert checksums.read_on().bytes == end
            assert checksums.sha256 == hashlib.sha256(data[:end]).hexdigest()
    assert checksums.read_on().crc32 == f"{zlib.crc32(data):08x}"
    assert checksums.sha256 == sha256(path)


def test_files_one_after_the_other_are_as_one(tmp_path: Path) -> None:
    parts = tmp_path / "a", tmp_path / "b"
    for path, data in zip(parts, (b"ab" * 700_000, b"c")):
        path.write_bytes(data)
    whole = b"".join(path.read_bytes() for path in parts)
    assert sha256(*parts) == hashlib.sha256(whole).hexdigest()


def made(path: Path, name: str = "run.json") -> Path:
    """A folder as paddle-edge makes them."""
    path.mkdir()
    (path / name).write_text("{}")
    return path


def test_a_folder_is_whole_or_not_there(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "new") as folder:
        (folder / "run.json").write_text("{}")
        assert not (tmp_path / "new").exists() and folder.parent == tmp_path
    assert (tmp_path / "new" / "run.json").is_file()
    with pytest.raises(ZeroDivisionError), whole_folder(tmp_path / "failed"):
        _ = 1 / 0
    assert [p.name for p in tmp_path.iterdir()] == ["new"]


def test_what_exists_is_replaced_only_by_force_and_only_ours(tmp_path: Path) -> None:
    ours = made(tmp_path / "ours")
    for refused in (check_free, lambda path: whole_folder(path).__enter__()):
        with pytest.raises(UsageError, match="exists already"):
            refused(ours)
    with whole_folder(ours, force=True) as folder:
        (folder / "bundle.json").write_text("{}")
    assert [p.name for p in ours.iterdir()] == ["bundle.json"]
    foreign = made(tmp_path / "foreign", "precious.txt")
    with pytest.raises(UsageError, match="not a folder that paddle-edge made"):
        check_free(foreign, force=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        check_free(tmp_path / "file", force=True)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="exists already"):
        check_free(tmp_path / "link")
    with pytest.raises(UsageError, match="there is no folder"):
        check_free(tmp_path / "no" / "such")


def test_a_folder_that_is_read_is_not_overwritten(tmp_path: Path) -> None:
    ours = made(tmp_path / "ours")
    for read in (ours, ours / "run.json"):
        with pytest.raises(UsageError, match="which is read"):
            check_free(ours, force=True, keep=[None, read])
    check_free(ours, force=True, keep=[None, tmp_path / "ours2", tmp_path])


def test_a_file_of_a_folder_that_is_read_is_not_overwritten(tmp_path: Path) -> None:
    ours = made(tmp_path / "ours")
    for keep in (ours, ours / "run.json"):
        with pytest.raises(UsageError, match="which is read"):
            check_kept(ours / "run.json", [keep])
    check_kept(ours / "new.html", [ours])
    check_kept(ours / "run.json", [tmp_path / "none", None])


@pytest.fixture(params=["exchange", "one by one"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How two folders change their names: as this system does it, and as one without renameat2."""
    if request.param == "one by one":
        monkeypatch.setattr(folder_module, "_exchanged", lambda *_: False)
    return str(request.param)


def test_force_leaves_nothing_beside(way: str, tmp_path: Path) -> None:
    old = made(tmp_path / "old")
    with whole_folder(old, force=True) as folder:
        (folder / "bundle.json").write_text("new")
    assert [p.name for p in tmp_path.iterdir()] == ["old"]
    assert (old / "bundle.json").read_text() == "new" and not (old / "run.json").exists()


def test_the_old_folder_comes_back_where_the_second_rename_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = made(tmp_path / "old")
    (old / "run.json").write_text("precious")
    rename = Path.rename

    def fails(self: Path, target: Path) -> Path:
        if ".partial-" in self.name and not self.name.endswith(".old"):
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(folder_module, "_exchanged", lambda *_: False)
    monkeypatch.setattr(Path, "rename", fails)
    with (
        pytest.raises(UsageError, match="old: cannot be written: Input/output error"),
        whole_folder(old, force=True) as folder,
    ):
        (folder / "run.json").write_text("new")
    assert (old / "run.json").read_text() == "precious"
    assert [p.name for p in tmp_path.iterdir()] == ["old"]


def test_linux_exchanges_names_at_once(tmp_path: Path) -> None:
    made(tmp_path / "a").joinpath("run.json").write_text("a")
    made(tmp_path / "b").joinpath("run.json").write_text("b")
    if not folder_module._exchanged(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this file system cannot")
    assert (tmp_path / "a" / "run.json").read_text() == "b"
    assert (tmp_path / "b" / "run.json").read_text() == "a"
    assert not folder_module._exchanged(tmp_path / "a", tmp_path / "none")


def test_force_over_a_link_replaces_what_it_leads_to(way: str, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    real = made(tmp_path / "disk" / "real")
    (tmp_path / "link").symlink_to(real)
    with whole_folder(tmp_path / "link", force=True) as folder:
        (folder / "bundle.json").write_text("new")
    assert (tmp_path / "link").is_symlink() and (real / "bundle.json").read_text() == "new"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["disk", "link"]
    assert [p.name for p in real.parent.iterdir()] == ["real"]


def test_a_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "page").write_text("old")
    (tmp_path / "link").symlink_to("page")
    with suppress(ZeroDivisionError), whole_file(tmp_path / "page") as file:
        file.write(b"half")
        _ = 1 / 0
    assert (tmp_path / "page").read_text() == "old"
    with whole_file(tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "page").read_text() == "new" and (tmp_path / "link").is_symlink()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "page"]
    with pytest.raises(UsageError, match="cannot be written"), whole_file(Path("/dev/full")) as f:
        f.write(b"x")


def test_a_temporary_folder_is_private_and_gone(tmp_path: Path) -> None:
    with temporary_folder("mine-", tmp_path) as folder:
        assert folder.name.startswith("mine-") and folder.stat().st_mode & 0o777 == 0o700
    assert not list(tmp_path.iterdir())


@dataclass(frozen=True)
class Part:
    size: int
    share: float = 0.5


@dataclass(frozen=True)
class Thing:
    name: str
    parts: tuple[Part, ...]
    label: Optional[int]  # noqa: UP045  as in the manifests
    by_name: dict[str, int] = field(default_factory=dict)
    free: Any = None


GOOD: dict[str, Any] = {"name": "a", "parts": [{"size": 1, "share": 2}], "label": None}


def test_a_document_becomes_a_dataclass() -> None:
    thing = manifest.from_json(Thing, {**GOOD, "by_name": {"x": 3}, "later": True, "free": [1]})
    assert thing == Thing("a", (Part(1, 2),), None, {"x": 3}, [1])
    assert manifest.from_json(Thing, {**GOOD, "label": 7}).label == 7


@pytest.mark.parametrize(
    ("change", "field_at_fault"),
    [
        ({"name": 1}, "'name' is not of its type"),
        ({"parts": {"size": 1}}, "'parts' is not of its type"),
        ({"parts": [[1]]}, "'parts' is not of its type"),
        ({"parts": [{}]}, "'parts.size' is missing"),
        ({"parts": [{"size": True}]}, "'parts.size' is not of its type"),
        ({"parts": [{"size": 1.0}]}, "'parts.size' is not of its type"),
        ({"parts": [{"size": 1, "share": "1"}]}, "'parts.share' is not of its type"),
        ({"label": "1"}, "'label' is not of its type"),
        ({"by_name": []}, "'by_name' is not of its type"),
        ({"by_name": {"x": None}}, "'by_name.x' is not of its type"),
    ],
)
def test_a_field_at_fault_is_named(change: dict[str, Any], field_at_fault: str) -> None:
    with pytest.raises(ValueError, match=f"field {field_at_fault}"):
        manifest.from_json(Thing, {**GOOD, **change})
    with pytest.raises(ValueError, match="field 'name' is missing"):
        manifest.from_json(Thing, {k: v for k, v in GOOD.items() if k != "name"})


@pytest.mark.parametrize(
    ("text", "telling"),
    [
        ("", "damaged: not JSON; make it again"),
        ("[" * 100_000, "damaged: not JSON"),
        ("[]", "not the manifest of a thing"),
        ("{}", "not the manifest of a thing"),
        (
            json.dumps({"format": 2}),
            "is of format 2, and this version .* a thing",
        ),
    ],
)
def test_a_document_that_is_none_is_told_in_a_line(tmp_path: Path, text: str, telling: str) -> None:
    path = tmp_path / "thing.json"
    with pytest.raises(ModelError, match=r"not a thing: no thing\.json in it"):
        manifest.read(path, what="a thing", version=1, advice="make it again")
    path.write_text(text)
    with pytest.raises(ModelError, match=telling):
        manifest.read(path, what="a thing", version=1, advice="make it again")


def test_a_document_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "thing.json"
    manifest.write(path, {"format": 1, "name": "ä"})
    document, data = manifest.read(path, what="a thing", version=1, advice="")
    assert document == {"format": 1, "name": "ä"} and data == path.read_bytes()


def python(code: str, **options: Any) -> Child:
    return Child([sys.executable, "-c", code], **options)


def test_a_child_is_told_what_to_do_and_heard() -> None:
    told = "import sys; print(sys.stdin.read().upper()); print('log', file=sys.stderr)"
    with python(told) as child:
        child.tell(b"word")
        assert child.wait() == 0
        assert child.log() == b"WORD\nlog\n" or child.log() == b"log\nWORD\n"
        assert child.log(4)[-4:] == child.log()[-4:] and len(child.log(4)) == 4
    with python(told, output="lines") as child:
        child.tell(b"word")
        assert list(child.lines()) == [b"WORD\n"]
        assert (child.wait(), child.log()) == (0, b"log\n")
    with python(told, output="none") as child:
        child.tell(b"word")
        assert (child.wait(), child.log()) == (0, b"log\n")


def test_a_child_sees_what_is_added_to_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONE", "1")
    with python(
        "import os; print(os.environ['ONE'] + os.environ['TWO'])", env={"TWO": "2"}
    ) as child:
        child.tell()
        assert (child.wait(), child.log()) == (0, b"12\n")


def test_a_child_ends_with_the_limit_and_with_the_block() -> None:
    turns: list[int] = []
    with python("import time; time.sleep(100)") as child:
        assert child.wait(0.2, meanwhile=lambda: turns.append(1)) is None
        assert len(turns) > 2
        assert child.wait() == -signal.SIGKILL
    with python("import time; time.sleep(100)") as child:
        pid = child._process.pid
        assert child.wait(0.05) is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    child.close()


def test_a_child_that_does_not_listen_is_no_error() -> None:
    with python("import sys; sys.stdin.close(); sys.exit(5)") as child:
        child.tell(b"x" * 1_000_000)
        assert child.wait(10) == 5


def test_a_program_that_is_missing_is_named() -> None:
    with pytest.raises(EngineError, match="no-such-program: cannot be started: No such file"):
        Child(["no-such-program"])


def test_ends_and_last_words() -> None:
    assert how_it_ended(3) == "exited with code 3"
    assert how_it_ended(0) == "exited with code 0"
    assert how_it_ended(-signal.SIGSEGV) == "was killed by SIGSEGV"
    assert how_it_ended(-99) == "was killed by signal 99"
    assert last_words(b"") == "(no output)"
    assert last_words(b"one\n\ntwo\n") == "two"
    assert last_words(b"[F  1/ 2 op.cc:3 Init] Check failed: x\nlater\n") == "Check failed: x"
    assert last_words(b"SomeError: the reason\n  at line 3") == "SomeError: the reason"
