"""Random tensors mean something to a model: indices within tables, masks, sizes of images."""

from __future__ import annotations

from pathlib import Path

import make_model
import numpy as np
import pytest

from lite_opt.conversion.convert import convert
from lite_opt.model.draws import draws_of
from lite_opt.model.program import Program
from lite_opt.subject import opened
from py_runner.data.random_samples import Draws, random_samples
from py_runner.errors import UsageError
from py_runner.tensors import TensorSpec


def picks(op: str, slots: tuple[str, str], table: tuple[int, ...], **attrs: object) -> Program:
    """A table that an operator picks rows from, by an input that is cast and reshaped before."""
    b = make_model.Builder()
    ids = b.input("ids", (-1, 4), "int64")
    cast = b.op("cast", {"X": [ids]}, "cast", (-1, 4), in_dtype=3)
    flat = b.op("reshape2", {"X": [cast]}, "flat", (-1,), shape=[-1])
    inputs = {slots[0]: [flat], slots[1]: [b.param("table", table)]}
    return b.program(b.op(op, inputs, "out", (-1, 4), **attrs))


def language_model(words: int) -> Program:
    """ids -> embedding -> mean, with positions of a table of their own: [1, T] -> [1, 4]."""
    b = make_model.Builder()
    ids, places = b.input("ids", (-1, -1), "int64"), b.input("places", (-1, -1), "int64")
    embedded = [
        b.op("lookup_table_v2", {"Ids": [name], "W": [b.param(f"{name}.w", (rows, 4))]},
             f"{name}.e", (-1, -1, 4))
        for name, rows in ((ids, words), (places, 2))
    ]  # fmt: skip
    for op in b.ops:
        if op.type == "lookup_table_v2":
            op.set("padding_idx", -1, "LONG")
    total = b.op(
        "elementwise_add", {"X": [embedded[0]], "Y": [embedded[1]]}, "sum", (-1, -1, 4), axis=-1
    )
    return b.program(
        b.op("reduce_mean", {"X": [total]}, "out", (-1, 4), dim=[1], keep_dim=False,
             reduce_all=False)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("op", "slots", "table", "attrs", "below"),
    [
        ("lookup_table_v2", ("Ids", "W"), (7, 3), {}, 7),
        ("gather", ("Index", "X"), (7, 3), {"axis": 1}, 3),
        ("gather", ("Index", "X"), (7, 3), {}, 7),
        ("gather", ("Index", "X"), (7, 3), {"axis": -1}, 3),
        ("index_select", ("Index", "X"), (7, 3), {"dim": 1}, 3),
        ("index_sample", ("Index", "X"), (7, 3), {}, 3),
        ("take_along_axis", ("Index", "Input"), (7, 3), {"Axis": 1}, 3),
        ("scatter", ("Ids", "X"), (7, 3), {}, 7),
    ],
)
def test_an_index_stays_within_what_it_picks_from(
    op: str, slots: tuple[str, str], table: tuple[int, ...], attrs: dict[str, int], below: int
) -> None:
    draws = draws_of(picks(op, slots, table, **attrs))
    assert draws == Draws({"ids": below}, frozenset())
    samples = random_samples([TensorSpec("ids", "int64", (1, 400))], draws=draws)
    values = np.concatenate([sample.feeds["ids"] for sample in samples])
    assert values.min() == 0 and values.max() == below - 1 and values.dtype == np.int64


def test_the_smallest_table_decides() -> None:
    b = make_model.Builder()
    ids = b.input("ids", (-1,), "int32")
    for rows in (9, 4, 6):
        inputs = {"Ids": [ids], "W": [b.param(f"w{rows}", (rows, 2))]}
        b.op("lookup_table_v2", inputs, f"e{rows}", (-1, 2))
    hot = b.op("one_hot_v2", {"X": [ids]}, "hot", (-1, 5), depth=5)
    assert draws_of(b.program(hot)).below == {"ids": 4}


def test_a_class_is_below_the_depth_of_its_one_hot() -> None:
    b = make_model.Builder()
    hot = b.op("one_hot_v2", {"X": [b.input("ids", (-1,), "int32")]}, "hot", (-1, 5), depth=5)
    assert draws_of(b.program(hot)).below == {"ids": 5}


def test_what_is_known_only_when_the_model_runs_has_a_first_element() -> None:
    b = make_model.Builder()
    x, at = b.input("x", (-1, 4)), b.input("at", (2,), "int64")
    picked = b.op("gather", {"X": [x], "Index": [at]}, "picked", (2, 4), axis=0)
    assert draws_of(b.program(picked)).below == {"at": 1}


def test_an_index_of_several_columns() -> None:
    b = make_model.Builder()
    at = b.input("at", (5, 2), "int64")
    inputs = {"X": [b.param("w", (9, 3, 2))], "Index": [at]}
    assert draws_of(b.program(b.op("gather_nd", inputs, "y", (5, 2)))).below == {"at": 3}


def test_lengths_are_those_of_the_other_inputs() -> None:
    b = make_model.Builder()
    n = b.input("n", (-1,), "int64")
    mask = b.op("sequence_mask", {"X": [n]}, "mask", (-1, -1), slot="Y", maxlen=-1, out_dtype=5)
    draws = draws_of(b.program(mask))
    assert draws == Draws({}, frozenset({"n"}))
    specs = [TensorSpec("x", "float32", (1, 6, 8)), TensorSpec("n", "int64", (300,))]
    for names, given in (("n", draws), ("seq_len", Draws()), ("lengths", Draws())):
        (sample,) = random_samples(
            [specs[0], TensorSpec(names, "int64", (300,))], count=1, draws=given
        )
        assert set(sample.feeds[names].tolist()) == set(range(1, 7))


def test_lengths_are_those_of_the_shortest() -> None:
    specs = [
        TensorSpec("n", "int64", (300,)),
        *(TensorSpec(f"x{side}", "float32", (1, side)) for side in (5, 3, 4)),
    ]
    (sample,) = random_samples(specs, count=1, draws=Draws({}, frozenset({"n"})))
    assert set(sample.feeds["n"].tolist()) == {1, 2, 3}
    (same,) = random_samples(specs, count=1, draws=Draws({}, frozenset({"n"})), seed=0)
    assert all(np.array_equal(sample.feeds[name], same.feeds[name]) for name in same.feeds)


def test_inputs_of_detectors_fit_each_other() -> None:
    specs = [
        TensorSpec("im_shape", "float32", (-1, 2)),
        TensorSpec("image", "float32", (-1, 3, 64, 96)),
        TensorSpec("scale_factor", "float32", (-1, 2)),
        TensorSpec("im_info", "float32", (-1, 3)),
        TensorSpec("img_size", "int32", (-1, 2)),
    ]
    for sample in random_samples(specs):
        assert sample.feeds["im_shape"].tolist() == sample.feeds["img_size"].tolist() == [[64, 96]]
        assert sample.feeds["im_info"].tolist() == [[64, 96, 1]]
        assert sample.feeds["img_size"].dtype == np.int32
        assert np.abs(sample.feeds["scale_factor"] - 1).max() <= 0.1
        assert sample.feeds["image"].std() > 0.5
        assert all(value.flags["C_CONTIGUOUS"] for value in sample.feeds.values())
    (channels_last,) = random_samples([specs[0], TensorSpec("x", "uint8", (1, 8, 9, 3))], count=1)
    assert channels_last.feeds["im_shape"].tolist() == [[8, 9]]
    # Without an image it is a number as any.
    (alone,) = random_samples(specs[:1], count=1)
    assert alone.feeds["im_shape"].shape == (1, 2)


@pytest.mark.parametrize("dtype", ["int64", "float32", "bool"])
def test_masks_are_of_ones_and_then_zeros(dtype: str) -> None:
    samples = random_samples([TensorSpec("attention_mask", dtype, (2, 5))], count=30)
    values = np.concatenate([sample.feeds["attention_mask"] for sample in samples])
    assert str(values.dtype) == dtype and set(np.unique(values).tolist()) == {0, 1}
    assert np.all(values[:, 0] == 1) and np.all(np.diff(values.astype(int)) <= 0)
    assert set(values.astype(int).sum(-1).tolist()) == {1, 2, 3, 4, 5}


def test_truth_values_are_both() -> None:
    (sample,) = random_samples([TensorSpec("flags", "bool", (100,))], count=1)
    assert 30 < sample.feeds["flags"].sum() < 70


@pytest.mark.parametrize(
    ("dtype", "shape", "told"),
    [
        ("int64", (-1, -1), "--check-shape x=1,16,"),
        ("float32", (-1, -1, 80), "--check-shape x=1,16,80,"),
        ("float32", (-1, 3, -1, -1), "--check-shape x=1,3,224,224,"),
        ("float32", (-1, 1, 32, -1), "--check-shape x=1,1,32,224,"),
        ("float32", (-1, -1, -1, 3), "--check-shape x=1,224,224,3,"),
        ("float32", (2, 3, -1, 112, 112), "--check-shape x=2,3,8,112,112,"),
        ("float32", (-1, -1, -1, -1, -1, 4), "--check-shape x=1,16,16,16,16,4,"),
    ],
)
def test_the_advice_is_a_shape_that_fits(dtype: str, shape: tuple[int, ...], told: str) -> None:
    spec = TensorSpec("x", dtype, shape)
    with pytest.raises(UsageError) as caught:
        random_samples([spec])
    assert told in str(caught.value)
    example = tuple(map(int, told.split("=")[1].rstrip(",").split(",")))
    assert random_samples([spec], shapes={"x": [example]})


def test_the_advice_names_every_input_that_is_open() -> None:
    specs = [TensorSpec("ids", "int64", (-1, -1)), TensorSpec("mask", "float32", (-1, -1))]
    told = r"'ids' is int64\[\?, \?\] and input 'mask' .*--check-shape ids=1,16 --check-shape mask="
    with pytest.raises(UsageError, match=told):
        random_samples(specs)


def test_a_language_model_is_checked_with_words_that_it_has(tmp_path: Path) -> None:
    folder = make_model.save(language_model(5), tmp_path / "m")
    shapes = {"ids": [(1, 12)], "places": [(1, 12)]}
    with opened(folder) as subject:
        assert all(s.feeds["ids"].max() < 5 for s in subject.samples(shapes=shapes))
    done = convert(folder, tmp_path / "b", check_shape=shapes)
    assert done and done.bundle
    samples = done.bundle.read_samples()
    assert {int(i) for s in samples for i in s.feeds["ids"].ravel()} == set(range(5))
    assert {int(i) for s in samples for i in s.feeds["places"].ravel()} == {0, 1}
