"""Whatever holds the data, the same samples come out, in the same order, or a named error."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from py_runner.data.dataset import Dataset, dataset
from py_runner.data.decode import open_image
from py_runner.data.image import ImageSpec
from py_runner.data.image_files import _images_below
from py_runner.data.labels import check_labels, read_labels
from py_runner.errors import DataError, UsageError
from py_runner.tensors import Sample, TensorSpec, sample_hash


@dataclass(frozen=True)
class Input:
    name: str = "x"
    dtype: str = "float32"
    shape: tuple[int, ...] = (-1, 3, 8, 8)


INPUTS = [Input()]
SPEC = ImageSpec(resize="exact", size=(8, 8))


def images(folder: Path, *names: str) -> None:
    """One PNG per name, each of its own colour."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9 + number % 5, 10), (number * 7 % 256, 40, 90)).save(path)


def of_images(path: Path, **options: Any) -> Dataset:
    return dataset(path, **{"inputs": INPUTS, "image": SPEC, **options})


def ids(data: Dataset) -> list[str]:
    return [sample.id for sample in data]


def threads() -> int:
    return sum(thread.name.startswith("paddle-edge-dataset") for thread in threading.enumerate())


def test_a_flat_folder(tmp_path: Path) -> None:
    images(tmp_path, "b.png", "a.PNG", "ä ö.png", ".hidden.png", ".cache/c.png")
    (tmp_path / "README.txt").write_text("not an image")
    (tmp_path / "empty").mkdir()
    data = of_images(tmp_path)
    assert len(data) == 3
    assert data.ids == ids(data) == ids(data) == ["a.PNG", "b.png", "ä ö.png"]
    sample = next(iter(data))
    assert sample.label is None
    assert list(sample.feeds) == ["x"]
    assert np.array_equal(sample.feeds["x"], SPEC.apply(open_image(tmp_path / "a.PNG")))


def test_a_single_image(tmp_path: Path) -> None:
    images(tmp_path, "a b.png")
    assert [(s.id, s.label, s.feeds["x"].shape) for s in of_images(tmp_path / "a b.png")] == [
        ("a b.png", None, (1, 3, 8, 8))
    ]


def test_one_folder_per_class(tmp_path: Path) -> None:
    images(tmp_path, "dog/1.png", "cat/2.png", "cat/1.png", "ant/deep/er/1.png")
    sorted_classes = [
        ("ant/deep/er/1.png", 0),
        ("cat/1.png", 1),
        ("cat/2.png", 1),
        ("dog/1.png", 2),
    ]
    assert [(s.id, s.label) for s in of_images(tmp_path)] == sorted_classes
    names = ["dog", "bee", "cat", "ant"]
    named = [("ant/deep/er/1.png", 3), ("cat/1.png", 2), ("cat/2.png", 2), ("dog/1.png", 0)]
    assert [(s.id, s.label) for s in of_images(tmp_path, labels=names)] == named
    assert ids(of_images(tmp_path, limit=2)) == ["ant/deep/er/1.png", "cat/1.png"]
    assert ids(of_images(tmp_path, limit=1)) == ["ant/deep/er/1.png"]


def test_a_class_folder_may_be_a_link(tmp_path: Path) -> None:
    images(tmp_path, "elsewhere/1.png", "data/ant/1.png")
    (tmp_path / "data/bee").symlink_to(tmp_path / "elsewhere")
    assert ids(of_images(tmp_path / "data")) == ["ant/1.png", "bee/1.png"]


def test_a_file_name_that_is_not_utf8(tmp_path: Path) -> None:
    images(tmp_path, os.fsdecode(b"\xff.png"))
    with pytest.raises(DataError, match=r"the file name '\\udcff.png' is not UTF-8: rename it"):
        of_images(tmp_path)


def test_class_folders_that_have_no_clear_number(tmp_path: Path) -> None:
    images(tmp_path, "cat/1.png", "dog/1.png")
    with pytest.raises(DataError, match=r"'dog' is not exactly one of the 2 labels \(cat, bee\)"):
        of_images(tmp_path, labels=["cat", "bee"])
    with pytest.raises(DataError, match="'cat' is not exactly one"):
        of_images(tmp_path, labels=["cat", "dog", "cat"])
    with pytest.raises(DataError, match=r"one of the 5 labels \(a, b, c, d, e\); name"):
        of_images(tmp_path, labels=list("abcde"))
    with pytest.raises(DataError, match=r"one of the 6 labels \(a, b, c, d, e, \.\.\.\); name"):
        of_images(tmp_path, labels=list("abcdef"))
    (tmp_path / "bee").mkdir()
    with pytest.raises(DataError, match="'bee' holds no images"):
        of_images(tmp_path)
    assert len(of_images(tmp_path, labels=["bee", "cat", "dog"])) == 2
    images(tmp_path, "stray.png")
    with pytest.raises(DataError, match="both images and folders"):
        of_images(tmp_path)


def test_a_text_list(tmp_path: Path) -> None:
    images(tmp_path, "a/my cat 2.png", "b.png", "grüße.png", "c 7.png")
    (tmp_path / "list.txt").write_bytes(
        "\ufeffa/my cat 2.png 281\r\n\r\nb.png\r\ngrüße.png\t0  \r\n./c 7.png\r\n".encode()
    )
    data = of_images(tmp_path / "list.txt", labels=[str(i) for i in range(282)])
    assert [(s.id, s.label) for s in data] == [
        ("a/my cat 2.png", 281),
        ("b.png", None),
        ("grüße.png", 0),
        ("c 7.png", None),
    ]


def test_a_csv_list(tmp_path: Path) -> None:
    images(tmp_path, "a, b.png", "c d 3.png", "e.png")
    (tmp_path / "list.csv").write_text('"a, b.png", 5\nc d 3.png,6\ne.png\n')
    data = of_images(tmp_path / "list.csv")
    assert [(s.id, s.label) for s in data] == [("a, b.png", 5), ("c d 3.png", 6), ("e.png", None)]


def test_a_list_may_name_files_elsewhere(tmp_path: Path) -> None:
    images(tmp_path, "photos/a.png")
    (tmp_path / "lists").mkdir()
    absolute = tmp_path / "photos/a.png"
    (tmp_path / "lists/list.txt").write_text(f"../photos/a.png 1\n{absolute} 2\n")
    data = of_images(tmp_path / "lists/list.txt")
    assert [(s.id, s.label) for s in data] == [("../photos/a.png", 1), (absolute.as_posix(), 2)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no samples"),
        (b"\n \n", "holds no samples"),
        (b"\xff\xfe\x00", "not a text file"),
        (b"a.png\0 1", "not a text file"),
        (b"a.png -1", "line 1: the label '-1'"),
        (b"b.png 1\na.png 99999999999", "line 2: the label '99999999999'"),
        (b"a.png 1\n./a.png 2", "line 2: './a.png' stands in the list twice"),
        (b"a.png 2", "a.png has the label 2, but there are 2 labels"),
    ],
)
def test_a_list_that_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        of_images(path, labels=["a", "b"])


def test_a_csv_header_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("path,label\na.png,1\n")
    with pytest.raises(DataError, match="line 1: the label 'label' is not an integer"):
        of_images(path)


def test_what_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such data set"):
        of_images(tmp_path / "missing")
    with pytest.raises(DataError, match="holds no samples"):
        of_images(tmp_path)
    (tmp_path / "x.pdf").write_text("")
    with pytest.raises(DataError, match="expected a folder, a list file"):
        of_images(tmp_path / "x.pdf")


def test_arguments_that_do_not_fit(tmp_path: Path) -> None:
    images(tmp_path, "a.png")
    with pytest.raises(UsageError, match="say how images become tensors"):
        of_images(tmp_path, image=None)
    with pytest.raises(UsageError, match="limit must be"):
        of_images(tmp_path, limit=0)
    with pytest.raises(UsageError, match="workers must be"):
        of_images(tmp_path, workers=-1)
    with pytest.raises(UsageError, match="there are none"):
        of_images(tmp_path, inputs=[])
    with pytest.raises(UsageError, match="unknown dtype 'floaty'"):
        of_images(tmp_path, inputs=[Input(dtype="floaty")])
    with pytest.raises(DataError, match=r"model has 2 \(a, b\): use .npz"):
        of_images(tmp_path, inputs=[Input("a"), Input("b")])


@pytest.mark.parametrize(
    "wrong",
    [
        Input(dtype="uint8"),
        Input(dtype="float16"),
        Input(shape=(-1, 1, 8, 8)),
        Input(shape=(4, 3, 8, 8)),
        Input(shape=(1, 3, 8, 9)),
        Input(shape=(3, 8, 8)),
    ],
)
def test_images_that_do_not_fit_the_input(tmp_path: Path, wrong: Input) -> None:
    images(tmp_path, "a.png")
    with pytest.raises(
        DataError, match=r"expects .* but a sample is float32 .1, 3, 8, 8.|for a batch of 4"
    ) as caught:
        of_images(tmp_path, inputs=[wrong])
    assert str(list(wrong.shape)) in str(caught.value) or wrong.shape[0] == 4


def test_a_size_that_only_the_image_tells_is_checked_per_sample(tmp_path: Path) -> None:
    images(tmp_path, "a.png", "b.png")  # 9x10 and 10x10
    raw = ImageSpec(resize="none", size=None)
    data = of_images(tmp_path, image=raw, inputs=[Input(shape=(-1, 3, -1, 9))], skip_bad=True)
    iterator = iter(data)
    assert next(iterator).feeds["x"].shape == (1, 3, 10, 9)
    with pytest.raises(DataError, match=r"b\.png.*expects float32 .-1, 3, -1, 9."):
        next(iterator)


def with_bad_ones(folder: Path) -> Path:
    images(folder, *(f"{i:02}.png" for i in range(20)))
    (folder / "05.png").write_bytes((folder / "05.png").read_bytes()[:40])
    (folder / "11.png").write_text("no image")
    return folder


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_a_bad_image_raises_when_its_turn_comes(tmp_path: Path, workers: int) -> None:
    data = of_images(with_bad_ones(tmp_path), workers=workers)
    seen: list[str] = []
    with pytest.raises(DataError, match=r"05\.png"):
        seen.extend(sample.id for sample in data)
    assert seen == [f"{i:02}.png" for i in range(5)]
    assert threads() == 0


@pytest.mark.parametrize("workers", [0, 3])
def test_bad_images_are_skipped_and_listed(tmp_path: Path, workers: int) -> None:
    data = of_images(with_bad_ones(tmp_path), workers=workers, skip_bad=True)
    assert data.skipped == []
    for _ in range(2):
        assert ids(data) == [f"{i:02}.png" for i in range(20) if i not in (5, 11)]
        assert [name for name, _ in data.skipped] == ["05.png", "11.png"]
    assert str(tmp_path / "11.png") in data.skipped[1][1]
    assert len(data) == 20
    assert ids(of_images(tmp_path, skip_bad=True, limit=6)) == [f"{i:02}.png" for i in range(5)]


def test_too_small_and_missing_images_are_bad_ones(tmp_path: Path) -> None:
    images(tmp_path, "a.png", "b.png")  # 9 and 10 wide
    (tmp_path / "list.txt").write_text("a.png 0\nb.png 1\nmissing.png 2\n")
    crop = ImageSpec(resize="none", size=None, crop=(10, 10))
    data = of_images(
        tmp_path / "list.txt", image=crop, inputs=[Input(shape=(1, 3, 10, 10))], skip_bad=True
    )
    assert ids(data) == ["b.png"]
    assert [name for name, _ in data.skipped] == ["a.png", "missing.png"]
    assert "10x9" in data.skipped[0][1]
    assert str(tmp_path / "a.png") in data.skipped[0][1]


def test_nothing_but_bad_images_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(DataError, match=r"the only sample is bad: .*a\.png"):
        list(of_images(tmp_path, skip_bad=True))


def test_npy(tmp_path: Path) -> None:
    stacked = np.random.default_rng(0).random((4, 3, 8, 8), dtype=np.float32)
    stacked[2, 0] = np.nan
    for order in "CF":
        np.save(tmp_path / "s.npy", np.array(stacked, order=order))  # type: ignore[call-overload]
        data = dataset(tmp_path / "s.npy", inputs=INPUTS, limit=3)
        samples = list(data)
        assert len(data) == 3
        assert [s.id for s in samples] == ["s.npy[0]", "s.npy[1]", "s.npy[2]"]
        for sample, expected in zip(samples, stacked):
            feed = sample.feeds["x"]
            assert type(feed) is np.ndarray
            assert feed.flags.c_contiguous
            assert feed.flags.writeable
            assert np.array_equal(feed, expected[None], equal_nan=True)


def test_a_folder_of_npz_is_all_of_their_samples(tmp_path: Path) -> None:
    inputs = [Input("ids", "int64", (-1, 2)), Input("x", "float32", (-1, 3))]
    for name, count in (("b", 1), ("a", 2)):
        feeds = {"ids": np.full((count, 2), count), "x": np.full((count, 3), count, np.float32)}
        np.savez(tmp_path / f"{name}.npz", label=np.arange(count), **feeds)
    samples = list(dataset(tmp_path, inputs=inputs))
    assert [(s.id, s.label) for s in samples] == [("a.npz[0]", 0), ("a.npz[1]", 1), ("b.npz[0]", 0)]
    assert [s.feeds["ids"].tolist() for s in samples] == [[[2, 2]], [[2, 2]], [[1, 1]]]
    np.save(tmp_path / "c.npy", np.zeros((1, 3), np.float32))
    with pytest.raises(DataError, match=r"holds both c.npy and a.npz: give one kind alone"):
        dataset(tmp_path, inputs=inputs)


@pytest.mark.parametrize("batch", [(1,), ()])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_a_list_of_arrays_one_sample_each(
    batch: tuple[int, ...], suffix: str, tmp_path: Path
) -> None:
    inputs = [Input("x", "float32", (-1, 3, 4))]
    for number in range(3):
        array = np.full((*batch, 3, 4), number, np.float32)
        if suffix == ".npy":
            np.save(tmp_path / f"{number}.npy", array)
        else:
            np.savez(tmp_path / f"{number}.npz", x=array)
    listed = tmp_path / "list.txt"
    listed.write_text(f"2{suffix} 7\n0{suffix}\n")
    samples = list(dataset(listed, inputs=inputs))
    assert [(s.id, s.label) for s in samples] == [(f"2{suffix}", 7), (f"0{suffix}", None)]
    assert [s.feeds["x"].shape for s in samples] == [(1, 3, 4)] * 2
    assert [s.feeds["x"].max() for s in samples] == [2, 0]
    listed.with_suffix(".csv").write_text(f"1{suffix},5\n")
    assert [s.label for s in dataset(listed.with_suffix(".csv"), inputs=inputs)] == [5]
    (tmp_path / "folder").mkdir()
    (tmp_path / f"1{suffix}").rename(tmp_path / "folder" / f"1{suffix}")
    (one,) = dataset(tmp_path / "folder", inputs=inputs)
    assert one.feeds["x"].shape == (1, 3, 4)


def test_a_list_of_arrays_of_several_inputs_and_of_what_is_none(tmp_path: Path) -> None:
    inputs = [Input("a", "float32", (-1, 3)), Input("b", "int64", (-1, 2))]
    feeds = {"a": np.zeros((2, 3), np.float32), "b": np.zeros((2, 2), np.int64)}
    np.savez(tmp_path / "s.npz", **feeds)
    listed = tmp_path / "list.txt"
    listed.write_text("s.npz 4\n")
    samples = list(dataset(listed, inputs=inputs))
    assert [(s.id, s.label) for s in samples] == [("s.npz[0]", 4), ("s.npz[1]", 4)]
    listed.write_text("s.npz\nphoto.png\n")
    with pytest.raises(DataError, match=r"list.txt: lists both s.npz and photo.png"):
        dataset(listed, inputs=inputs)
    listed.write_text("s.npz\ngone.npz\n")
    with pytest.raises(DataError, match=r"list.txt: gone.npz: no such file"):
        dataset(listed, inputs=inputs)


def test_npz(tmp_path: Path) -> None:
    inputs = [Input("ids", "int64", (1, -1)), Input("x", "float32", (-1, 2))]
    feeds: dict[str, Any] = {
        "ids": np.arange(6).reshape(3, 2),
        "x": np.arange(6, dtype=np.float32).reshape(3, 2),
    }
    np.savez_compressed(tmp_path / "s.npz", label=np.array([4, 0, 2], np.int32), **feeds)
    samples = list(dataset(tmp_path / "s.npz", inputs=inputs))
    assert [(s.id, s.label) for s in samples] == [("s.npz[0]", 4), ("s.npz[1]", 0), ("s.npz[2]", 2)]
    assert samples[1].feeds["ids"].tolist() == [[2, 3]]
    assert samples[1].feeds["x"].tolist() == [[2, 3]]
    with pytest.raises(DataError, match=r"s.npz\[0\] has the label 4, but there are 3 labels"):
        dataset(tmp_path / "s.npz", inputs=inputs, labels=["a", "b", "c"])
    np.savez(tmp_path / "s.npz", label=feeds["ids"])  # an input that is called label
    assert (
        next(iter(dataset(tmp_path / "s.npz", inputs=[Input("label", "int64", (1, 2))]))).label
        is None
    )


@pytest.mark.parametrize(
    ("array", "actual"),
    [
        (np.zeros((2, 3, 8, 8)), r"float64 \[1, 3, 8, 8\]"),
        (np.zeros((2, 3, 8, 8), np.uint8), r"uint8 \[1, 3, 8, 8\]"),
        (np.zeros((2, 3, 8, 8), ">f4"), r">f4 \[1, 3, 8, 8\]"),
        (np.zeros((2, 8, 8, 3), np.float32), r"float32 \[1, 8, 8, 3\]"),
        (np.zeros((8, 8), np.float32), r"float32 \[1, 8\]"),
        (np.zeros((4, 8, 8), np.float32), r"float32 \[1, 4, 8, 8\]"),
    ],
)
def test_arrays_that_do_not_fit_the_input(
    tmp_path: Path, array: np.ndarray[Any, Any], actual: str
) -> None:
    np.save(tmp_path / "s.npy", array)
    np.savez(tmp_path / "s.npz", x=array)
    for name in ("s.npy", "s.npz"):
        with pytest.raises(DataError, match=rf"expects float32 .-1, 3, 8, 8., but .* {actual}"):
            dataset(tmp_path / name, inputs=INPUTS)


def test_npz_whose_arrays_are_not_the_inputs(tmp_path: Path) -> None:
    def refused(message: str, **arrays: Any) -> None:
        np.savez(tmp_path / "s.npz", **arrays)
        with pytest.raises(DataError, match=message):
            dataset(tmp_path / "s.npz", inputs=INPUTS)

    x = np.zeros((2, 3, 8, 8), np.float32)
    refused(r"holds the arrays \['y'\], but the model's inputs are \['x'\]", y=x)
    refused(r"\['x', 'y'\]", x=x, y=x)
    refused("different numbers of samples: {'x': 2, 'label': 3}", x=x, label=[1, 2, 3])
    refused("integers >= 0.*-1", x=x, label=[1, -1])
    refused("integers >= 0.*float64", x=x, label=[1.0, 2.0])
    refused("single number", x=np.float32(1))
    refused("no samples", x=x[:0])
    refused("not a readable .npz", x=x, label=np.array([{}, {}]))


def test_npy_with_a_model_of_two_inputs(tmp_path: Path) -> None:
    np.save(tmp_path / "s.npy", np.zeros((2, 2)))
    with pytest.raises(DataError, match=r"model has 2 \(a, b\): use .npz"):
        dataset(tmp_path / "s.npy", inputs=[Input("a"), Input("b")])


@pytest.mark.parametrize("name", ["s.npy", "s.npz"])
def test_array_files_that_are_broken(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    stacked = np.random.default_rng(0).random((4, 3, 8, 8), dtype=np.float32)
    if name == "s.npy":
        np.save(path, stacked)
    else:
        np.savez_compressed(path, x=stacked)
    good = path.read_bytes()
    damaged = bytearray(good)
    damaged[len(good) // 2] ^= 0xFF
    broken = [good[:n] for n in (0, 3, 8, 40, len(good) // 2, len(good) - 1)] + [b"text" * 99]
    broken += [bytes(damaged)] if name == "s.npz" else []  # a .npy has no checksum
    for content in broken:
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"{name}: not a readable") as caught:
            dataset(path, inputs=INPUTS)
        assert "pickle" not in str(caught.value) or name == "s.npz"
    np.save(tmp_path / "o.npy", np.array([{}, {}]))
    with pytest.raises(DataError, match="not a readable"):
        dataset(tmp_path / "o.npy", inputs=INPUTS)


def test_an_empty_npy(tmp_path: Path) -> None:
    np.save(tmp_path / "s.npy", np.zeros((0, 3, 8, 8), np.float32))
    with pytest.raises(DataError, match=r"s\.npy"):
        dataset(tmp_path / "s.npy", inputs=INPUTS)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    started: list[str] = []

    def opened(path: Path, spec: ImageSpec | None = None) -> Image.Image:
        started.append(Path(path).name)
        if Path(path).name == "00.png":
            time.sleep(0.05)  # the others overtake it
        return open_image(path, spec)

    monkeypatch.setattr("py_runner.data.image_files.open_image", opened)
    return started


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_order_is_kept_and_work_ahead_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    images(tmp_path, *(f"{i:02}.png" for i in range(30)))
    started = counted(monkeypatch)
    seen: list[str] = []
    for sample in of_images(tmp_path, workers=workers):
        seen.append(sample.id)
        time.sleep(0.002)
        assert len(started) - len(seen) <= 2 * workers
        assert threads() <= workers
    assert seen == [f"{i:02}.png" for i in range(30)]
    assert sorted(started) == seen
    assert threads() == 0


def test_without_workers_nothing_is_done_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images(tmp_path, "00.png", "01.png", "02.png")
    started = counted(monkeypatch)
    data = of_images(tmp_path, workers=0)
    assert started == []
    iterator = iter(data)
    next(iterator)
    assert started == ["00.png"]
    assert threads() == 0


@pytest.mark.parametrize(("cpus", "workers"), [(None, 1), (3, 3), (64, 4)])
def test_workers_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpus: int | None, workers: int
) -> None:
    images(tmp_path, "a.png")
    monkeypatch.setattr(os, "cpu_count", lambda: cpus)
    assert of_images(tmp_path)._workers == workers


def test_leaving_early_ends_the_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images(tmp_path, *(f"{i:02}.png" for i in range(30)))
    started = counted(monkeypatch)
    iterator = iter(of_images(tmp_path, workers=3))
    next(iterator)
    iterator.close()  # type: ignore[attr-defined]
    assert threads() == 0
    assert len(started) < 10
    for _ in of_images(tmp_path, workers=3):
        break
    assert threads() == 0


def test_two_iterations_at_once(tmp_path: Path) -> None:
    images(tmp_path, *(f"{i:02}.png" for i in range(12)))
    data = of_images(tmp_path, workers=2)
    assert [(a.id, b.id) for a, b in zip(data, data)] == [(name, name) for name in data.ids]


def test_sample_hash_is_what_its_docstring_says() -> None:
    feeds = {"y": np.array([[True]]), "x": np.array([[1, 2]], np.float32)}
    text = b"x\0float32\x001,2\0" + np.array([1, 2], "<f4").tobytes() + b"y\0bool\x001,1\0\x01"
    assert sample_hash(Sample("a", feeds)) == hashlib.sha256(text).hexdigest()


def test_sample_hash_depends_on_the_feeds_only() -> None:
    x = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    expected = sample_hash(Sample("a", {"x": x}))
    same = [x.astype(">f4"), np.asfortranarray(x), np.repeat(x, 2, axis=2)[..., ::2]]
    assert {sample_hash(Sample("b", {"x": array}, 3)) for array in same} == {expected}
    other = [x.reshape(1, 3, 2), x.astype(np.int32), x + 1, x[:, :1]]
    hashes = {sample_hash(Sample("a", {"x": array})) for array in other}
    assert len(hashes | {expected, sample_hash(Sample("a", {"z": x}))}) == 6


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("tench\ngold fish\n", ["tench", "gold fish"]),
        ("\ufeff0 tench\r\n1 gold fish\r\n\r\n", ["tench", "gold fish"]),
        ("0 tench\n2 gold fish", ["0 tench", "2 gold fish"]),
        ("1 tench\n2 gold fish", ["1 tench", "2 gold fish"]),
        ("0\n180\n", ["0", "180"]),
        ("0 0\n1 180\n", ["0", "180"]),
        ("Kätzchen\n猫\n", ["Kätzchen", "猫"]),
    ],
)
def test_read_labels(tmp_path: Path, content: str, expected: list[str]) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(content.encode())
    assert read_labels(path) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no labels"),
        (b"\n\n", "holds no labels"),
        (b"\x80\x02}q\x00", "not a text file"),
        (b"a\0b", "not a text file"),
        (b"a\n\nb\n", "line 2 is empty"),
    ],
)
def test_labels_that_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_labels(path)


def test_labels_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_labels(tmp_path / "labels.txt")
    with pytest.raises(DataError, match=os.fspath(tmp_path)):
        read_labels(tmp_path)


def test_labels_are_as_many_as_classes() -> None:
    def output(*shape: int) -> list[TensorSpec]:
        return [TensorSpec("y", "float32", shape), TensorSpec("z", "float32", (1, 7))]

    with pytest.raises(UsageError, match="2 labels for a model of 3 classes: give the right file"):
        check_labels(["a", "b"], output(2, 3))
    with pytest.raises(UsageError, match="2 labels for a model of 1 classes"):
        check_labels(["a", "b"], output(1, 1))
    check_labels(["a", "b"], output(3, 2))
    check_labels(None, output(1, 3))
    check_labels(["a", "b"], output(1, -1))  # the file does not say
    check_labels(["a", "b"], output(1, 0))
    check_labels(["a", "b"], output())


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("0 a\n1 b c\n", ["a", "b c"]),
        ("3 c3\n1 c1\n0 c0\n2 c2\n", ["c0", "c1", "c2", "c3"]),  # any order
        ("0 items\n1 items\n3 items\n", ["0 items", "1 items", "3 items"]),  # counts
        ("1 a\n2 b\n", ["1 a", "2 b"]),
        ("0 a\n0 b\n", ["0 a", "0 b"]),
        ("00 a\n01 b\n", ["00 a", "01 b"]),
        ("0 a\nb\n", ["0 a", "b"]),
        ("\u3000\na\n", ["\u3000", "a"]),  # the dictionaries of PP-OCR begin so
        ("a\n \nb\n", ["a", " ", "b"]),
        ("a\nb\n ", ["a", "b", " "]),
        ("  a  \n\tb\n\n\n", ["a", "b"]),
        ("0 tench\r\n1 shark\r\n", ["tench", "shark"]),
    ],
)
def test_numbers_and_spaces_of_label_files(text: str, labels: list[str], tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_bytes(text.encode())
    assert read_labels(file) == labels


def pictures(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(folder / name, "PNG")
    return folder


def test_a_link_that_leads_back_up_is_refused(tmp_path: Path) -> None:
    root = pictures(tmp_path / "d", "cat/a.png", "dog/b.png")
    assert len(_images_below(root)) == 2
    for place, target in ((root / "dog" / "all", root), (root / "cat" / "me", root / "cat")):
        place.symlink_to(target)
        with pytest.raises(DataError, match=f"{place.name}: is a link that leads back up"):
            _images_below(root)
        place.unlink()
    # Another folder may be linked to, also from two places: it is two classes.
    pictures(tmp_path / "far", "c.png")
    for name in ("x", "y"):
        (root / name).symlink_to(tmp_path / "far")
    assert _images_below(root) == ["cat/a.png", "dog/b.png", "x/c.png", "y/c.png"]


def test_a_jfif_is_a_picture(tmp_path: Path) -> None:
    assert _images_below(pictures(tmp_path, "a.jfif", "b.JFIF", "c.text")) == ["a.jfif", "b.JFIF"]


def test_a_folder_of_arrays_is_data(tmp_path: Path) -> None:
    for number in range(3):
        np.save(tmp_path / f"{number:04}.0.npy", np.full((1, 3, 8, 8), number, np.float32))
    np.save(tmp_path / "more.npy", np.zeros((2, 3, 8, 8), np.float32))
    found = dataset(tmp_path, inputs=[Input()])
    names = [f"{n:04}.0.npy[0]" for n in range(3)] + ["more.npy[0]", "more.npy[1]"]
    assert found.ids == names
    assert [float(s.feeds["x"][0, 0, 0, 0]) for s in found] == [0, 1, 2, 0, 0]
    two = [Input(), Input("y")]
    with pytest.raises(DataError, match=r"more\.npy: the model has 2 inputs: name the files"):
        dataset(tmp_path, inputs=two)
    (tmp_path / "more.npy").unlink()
    with pytest.raises(DataError, match=r"sample '0000' has arrays for the inputs \[0\]"):
        dataset(tmp_path, inputs=two)
    for number in range(3):
        np.save(tmp_path / f"{number:04}.1.npy", np.full((1, 3, 8, 8), -number, np.float32))
    found = dataset(tmp_path, inputs=two)
    assert found.ids == ["0000", "0001", "0002"]
    assert [float(s.feeds["y"][0, 0, 0, 0]) for s in found] == [0, -1, -2]
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert of_images(tmp_path).ids == ["a.png"]


def test_what_was_looked_for_is_said(tmp_path: Path) -> None:
    (tmp_path / ".hidden.png").write_bytes(b"")
    with pytest.raises(
        DataError, match=r"holds no samples: no image \(\.bmp, .*no folder of \.npy"
    ):
        of_images(tmp_path)
    (tmp_path / "l.txt").write_text("\n")
    with pytest.raises(DataError, match="the list is empty"):
        of_images(tmp_path / "l.txt")
