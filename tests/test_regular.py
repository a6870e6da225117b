"""Only regular files are opened: a pipe or a device in place of one is an error, never a wait."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lite_opt.model.load import load
from py_runner.data.array_files import array_items
from py_runner.data.decode import open_image
from py_runner.data.inference_yml import read_inference_yml
from py_runner.data.labels import read_labels
from py_runner.data.source import Wanted
from py_runner.errors import PaddleEdgeError
from py_runner.files import checksum
from py_runner.files.regular import load_array, open_regular, read_bytes, read_text
from py_runner.formats.bundle import Bundle
from py_runner.formats.nb import read_nb
from py_runner.formats.run import Run
from py_runner.tensors import TensorSpec

SPECIAL = "is a pipe, a socket or a device"
ONE = Wanted([TensorSpec("x", "float32", (1, 2))], None, None)


@pytest.fixture(autouse=True)
def no_wait() -> Iterator[None]:
    """Ends a test that waits for a writer of its pipe."""
    import signal

    def stop(*_: object) -> None:
        raise TimeoutError("waits for a pipe")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def pipe(path: Path) -> Path:
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    return path


@pytest.mark.parametrize(
    "read",
    [open_regular, read_bytes, read_text, load_array, lambda p: load_array(p, mapped=True)],
)
def test_what_is_no_file_is_refused_by_every_reader(
    read: Callable[[Path], object], tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        for special in (pipe(tmp_path / "p"), Path("/dev/zero"), tmp_path / "s"):
            with pytest.raises(OSError, match=SPECIAL):
                read(special)
    with pytest.raises(IsADirectoryError):
        read(tmp_path)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none")


def test_a_regular_file_is_read_through_links(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"a\r\nb")
    (tmp_path / "l").symlink_to("f")
    assert read_bytes(tmp_path / "l") == b"a\r\nb" and read_text(tmp_path / "l") == "a\nb"
    with open_regular(tmp_path / "l") as file:
        assert os.get_blocking(file.fileno()) is not None
    np.save(tmp_path / "a.npy", np.arange(3))
    assert load_array(tmp_path / "a.npy", mapped=True).tolist() == [0, 1, 2]
    (tmp_path / "b.npy").write_bytes(b"\x80\x04]")  # a pickle
    with pytest.raises(ValueError, match="does not begin"):
        load_array(tmp_path / "b.npy")


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("a.npy", lambda p: array_items(p, ONE)),
        ("a.npz", lambda p: array_items(p, ONE)),
        ("a.jpg", open_image),
        ("labels.txt", read_labels),
        ("inference.yml", read_inference_yml),
        ("model.nb", read_nb),
        ("inference.pdmodel", load),
    ],
)
def test_a_pipe_in_the_place_of_a_file_is_a_sentence(
    name: str, read: Callable[[Path], object], tmp_path: Path
) -> None:
    with pytest.raises(PaddleEdgeError, match=SPECIAL) as caught:
        read(pipe(tmp_path / name))
    assert name in str(caught.value)


@pytest.mark.parametrize("name", ["bundle.json", "model.x86.nb", "samples/0000.0.npy"])
def test_a_pipe_in_a_bundle(name: str, bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "b"))
    pipe(copy / name)
    with pytest.raises(PaddleEdgeError, match=name.replace(".", r"\.")):
        opened = Bundle.open(copy)
        opened.model("x86")
        opened.read_samples()


@pytest.mark.parametrize("name", ["run.json", "latency.csv", "output_0.npy"])
def test_a_pipe_in_a_run(name: str, bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundle / "reference", tmp_path / "r"))
    pipe(copy / name)
    with pytest.raises(PaddleEdgeError, match=SPECIAL):
        Run.open(copy)


def test_parameters_and_checksums(model: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(model, tmp_path / "m"))
    pipe(next(copy.glob("*.pdiparams")))
    with pytest.raises(PaddleEdgeError, match="parameters are missing|" + SPECIAL):
        load(copy)
    with pytest.raises(OSError, match=SPECIAL):
        checksum.sha256(pipe(tmp_path / "p"))


def test_a_pipe_among_pictures_is_one_bad_picture(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(PaddleEdgeError, match=r"b\.png: cannot decode this image: " + ".*pipe"):
        open_image(pipe(tmp_path / "b.png"))
    assert open_image(tmp_path / "a.png").size == (4, 4)
