"""What lite_run makes of names, files, signals and limits that mean it no good."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import make_model
import numpy as np
import pytest
from PIL import Image
from test_native import Native, edit, hands_on, host, native, refused

from lite_opt.judge.compare import compare
from py_runner.data.dataset import dataset
from py_runner.data.source import IMAGE_SUFFIXES
from py_runner.formats.bundle import Bundle, save_samples
from py_runner.formats.run import Run
from py_runner.inference import run
from py_runner.tensors import Sample

__all__ = ["hands_on", "host", "native"]

ROOT = Path(__file__).parents[1]
MANY = 20_000  # files that take a while to write
# Colours, a C1 control, one that turns the direction of writing, and a byte that is no UTF-8.
NASTY = "\x1b[31mred\x9b2J\u202e"


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "copy.bundle"))


def test_pictures_that_cannot_be_decoded_are_counted_and_missed(
    native: Native, bundle: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    make_model.pictures(data)
    some = Image.open(data / "picture_0.png")
    for name in ("a.bmp", "b.BMP", "c.gif", "d.tiff", "e.webp", "f.jfif"):
        some.save(data / name, "jpeg" if name == "f.jfif" else None)
    done = native(bundle, data, "-o", tmp_path / "edge")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("lite_run: warning: left out, ")
    assert done.stderr.endswith(": 2 .bmp, 1 .gif, 1 .tiff, 1 .webp\n")
    as_json = json.loads(native(bundle, data, "--json").stdout)
    assert as_json["left_out"] == {".bmp": 2, ".gif": 1, ".tiff": 1, ".webp": 1}
    edge = Run.open(tmp_path / "edge")
    assert {s.id for s in edge.samples} >= {"f.jfif", "picture_0.png"}
    opened = Bundle.open(bundle)
    server = run(opened.model("x86"), dataset(data, inputs=opened.inputs, image=opened.image))
    assert not compare(server, edge)
    assert compare(server, edge, common=True)
    (tmp_path / "only").mkdir()
    some.save(tmp_path / "only" / "a.bmp")
    refused(native(bundle, tmp_path / "only"), 3, "no JPEG or PNG pictures, only 1 .bmp")


def test_pictures_end_alike_in_both_languages() -> None:
    source = (ROOT / "armlinux/command/inputs.cc").read_text()
    lists = re.findall(r"> k(?:Decoded|Others) = \{([^}]*)\}", source)
    assert set(re.findall(r'"([^"]+)"', "".join(lists))) == IMAGE_SUFFIXES


def test_pictures_have_the_same_limit_in_both_languages() -> None:
    pixels = (ROOT / "armlinux/src/decode/pixels.h").read_text()
    most = re.search(r"kMaxPixels = (\d+);", pixels)
    assert most and int(most[1]) == Image.MAX_IMAGE_PIXELS


def test_a_link_that_leads_back_up_is_refused(native: Native, bundle: Path, tmp_path: Path) -> None:
    make_model.pictures(tmp_path / "data" / "inner")
    (tmp_path / "data" / "inner" / "up").symlink_to(tmp_path / "data")
    refused(native(bundle, tmp_path / "data"), 3, "up: is a link that leads back up")


def test_too_few_labels_are_refused_as_by_python(native: Native, copy: Path) -> None:
    edit(copy, lambda d: d.update(labels=["a", "b"]))
    refused(native(copy), 2, "2 labels for a model of 10 classes")


def test_names_reach_no_terminal_raw(
    native: Native, copy: Path, photos: Path, tmp_path: Path
) -> None:
    edit(copy, lambda d: d.update(labels=[f"{NASTY}{i}" for i in range(10)]))
    data = tmp_path / f"pictures{NASTY}"
    data.mkdir()
    shutil.copy(photos / "picture_0.png", data / f"{NASTY}.png")
    shutil.copy(photos / "picture_1.png", data / "é 字.png")
    run_folder = tmp_path / f"run{NASTY}"
    evil = Path(shutil.copytree(copy, tmp_path / f"evil{NASTY}.bundle"))
    calls = [
        (evil, data), (evil, data, "--json"), (evil, data, "-o", run_folder), (evil,),
        (evil, tmp_path / f"none{NASTY}.jpg"), (evil, f"--{NASTY}"), (evil, "--threads", NASTY),
    ]  # fmt: skip
    for call in calls:
        done = native(*call)
        assert not re.search(
            "[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e]", done.stdout + done.stderr
        )
        assert done.stdout + done.stderr
    shown = native(evil, data).stdout
    assert r"\x1b[31mred\x9b2J\u202e.png" in shown and "é 字.png" in shown
    told = json.loads(native(evil, data, "--json").stdout)
    assert told["samples"][0]["id"] == f"{NASTY}.png"  # escaped, and the same
    (data / os.fsdecode(b"\xff\x1b.png")).write_bytes(b"")
    assert r"/\xff .png: not a JPEG" in native(evil, data).stderr


def test_what_is_read_is_never_overwritten(
    native: Native, bundle: Path, copy: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert native(bundle, "-o", out).returncode == 0
    shutil.copy(photos / "picture_0.png", out / "a.png")
    shutil.copytree(copy, out / "inner.bundle")
    (tmp_path / "link").symlink_to(out)
    before = sorted(p.name for p in out.rglob("*"))
    for arguments in (
        (bundle, out / "a.png", "-o", out),
        (bundle, photos, out, "-o", out),
        (bundle, tmp_path / "link" / "a.png", "-o", out),
        (bundle, out / "a.png", "-o", tmp_path / "link"),
        (bundle, "--samples", out, "-o", out),
        (out / "inner.bundle", photos, "-o", out),
    ):
        refused(native(*arguments, "--force"), 2, "which is read; choose another name")
        assert sorted(p.name for p in out.rglob("*")) == before
    assert native(bundle, photos, "-o", out, "--force").returncode == 0


def test_only_regular_files_are_opened(
    native: Native, copy: Path, photos: Path, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "data").mkdir()
    os.mkfifo(tmp_path / "data" / "a.jpg")
    os.mkfifo(tmp_path / "pipe.npy")
    (tmp_path / "samples").mkdir()
    os.mkfifo(tmp_path / "samples" / "samples.json")
    for arguments in (
        (copy, tmp_path / "pipe.png"),
        (copy, tmp_path / "data"),
        (copy, tmp_path / "pipe.npy"),
        (copy, "--samples", tmp_path / "samples"),
    ):
        refused(native(*arguments), 3, "not a regular file")
    for name in ("samples/0000.0.npy", "reference/run.json", "model.x86.nb", "bundle.json"):
        file = next(iter(sorted(copy.glob(name.replace("0000.0", "*")))))
        file.unlink()
        os.mkfifo(file)
        refused(native(copy), 3, "not a regular file")


def test_a_sample_may_take_so_long_and_the_engine_so_much(
    native: Native, bundle: Path, photos: Path
) -> None:
    start = time.monotonic()
    done = native(bundle, "--repeat", 10_000_000, "--time-limit", 0.5, "--json")
    assert time.monotonic() - start < 20
    assert done.returncode == 3
    assert done.stderr == "lite_run: the engine gave no answer within 0.5 s\n"
    assert json.loads(done.stdout)["exit_code"] == 3
    # The clock begins anew with every sample.
    one = native(bundle, photos, "--repeat", 2000, "--json")
    slowest = max(json.loads(one.stdout)["latency"]["mean_ms"] * 2, 1)
    assert native(bundle, photos, "--repeat", 2000, "--time-limit", slowest * 3).returncode == 0
    refused(native(bundle, "--memory-limit", 1e-5), 3, "give --memory-limit")
    for value in (0, -1, "nan", "inf", "1e7", "1s", ""):
        refused(native(bundle, "--time-limit", value), 2, "--time-limit takes a number above 0")
        refused(native(bundle, "--memory-limit", value), 2, "--memory-limit takes a number above 0")


def test_a_signal_ends_it_and_what_is_being_written_becomes_whole(
    host: Path, hands_on: Path, tmp_path: Path
) -> None:
    argv = [str(host / "armlinux" / "lite_run"), str(hands_on)]
    busy = subprocess.Popen([*argv, "--repeat", "10000000"], stdout=subprocess.DEVNULL)
    time.sleep(1)
    busy.terminate()
    assert busy.wait(10) == -signal.SIGTERM
    # Shapes that differ: a file a sample, and a second or more to write them.
    samples = [Sample(str(i), {"x": np.zeros((1 + i, 10), "float32")}) for i in range(2)]
    feeds = [saved.feeds for saved in save_samples(tmp_path, samples)]
    entries = [
        {"id": str(i), "label": None, "sha256": None, "feeds": feeds[i % 2]} for i in range(MANY)
    ]
    (tmp_path / "samples.json").write_text(json.dumps(entries))
    out = tmp_path / "out"
    out.mkdir()
    arguments = ["--samples", str(tmp_path), "--out", str(out / "run")]
    writing = subprocess.Popen([*argv, *arguments], stdout=subprocess.DEVNULL)
    while not any(out.iterdir()):
        assert writing.poll() is None
        time.sleep(0.001)
    assert not (out / "run").exists()
    writing.terminate()
    assert writing.wait(60) == -signal.SIGTERM
    assert [p.name for p in out.iterdir()] == ["run"]
    assert len(Run.open(out / "run").samples) == MANY


def test_a_full_disk_is_a_sentence_and_what_was_there_stays(
    native: Native, bundle: Path, tmp_path: Path
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        assert native(bundle, "-o", small / "run").returncode == 0
        before = (small / "run" / "run.json").read_bytes()
        (small / "fill").write_bytes(bytes(40_000 - 20_000))
        data = tmp_path / "many.npy"
        np.save(data, np.zeros((500, *Bundle.open(bundle).inputs[0].shape[1:]), "float32"))
        refused(native(bundle, data, "-o", small / "run", "--force"), 3, "the disk is full")
        assert (small / "run" / "run.json").read_bytes() == before
        assert sorted(p.name for p in small.iterdir()) == ["fill", "run"]
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


@pytest.mark.slow
def test_long_work_tells_every_few_seconds(
    native: Native, bundle: Path, photos: Path, tmp_path: Path
) -> None:
    quick = json.loads(native(bundle, photos, "--repeat", 5000, "--json").stdout)
    repeat = int(3000 / quick["latency"]["p50_ms"])  # about 3 s a sample
    done = native(bundle, photos, "--repeat", repeat, "-o", tmp_path / "run")
    assert done.returncode == 0
    lines = done.stderr.splitlines()
    assert 1 <= len(lines) <= 6
    assert all(re.fullmatch(r"lite_run: \d samples answered", line) for line in lines)
