"""A large Run's folder: samples in a file of their own, read bit by bit; and what is damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_run_folder import made

from py_runner.errors import ModelError, UsageError
from py_runner.files import placed
from py_runner.formats.lazy import Joined, Lazy, Made, View, chosen, joined
from py_runner.formats.run import MOST_INLINE, FailedSample, Run, SampleInfo

LARGE = MOST_INLINE + 300


def large(count: int = LARGE, start: int = 0, **fields: Any) -> Run:
    """A run of so many samples; each answer says whose it is."""
    numbers = range(start, start + count)
    values: dict[str, Any] = {
        "samples": tuple(
            SampleInfo(
                f"bild/é {n}.png",
                f"{n:064x}",
                n % 7 if n % 3 else None,
                f"p{n}"[: n % 2 * 9] or None,
            )
            for n in numbers
        ),
        "outputs": {
            "probs": [np.array([[n, 1.5]], np.float32) for n in numbers],
            "count": [np.array([n], np.int64) for n in numbers],
        },
        "latency_ms": [[n / 8, 1.0] for n in numbers],
    }
    return made(**{**values, **fields})


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return large().save(tmp_path_factory.mktemp("large") / "r")


def alike(a: Run, b: Run) -> bool:
    """Whether two runs hold the same, item by item."""
    return (
        a.summary(most_inline=10**6) == b.summary(most_inline=10**6)
        and list(map(list, a.latency_ms)) == list(map(list, b.latency_ms))
        and all(
            x.dtype == y.dtype and np.array_equal(x, y)
            for left, right in zip(a.outputs.values(), b.outputs.values())
            for x, y in zip(left, right, strict=True)
        )
    )


def test_a_large_run_is_read_as_it_was_saved(saved: Path) -> None:
    opened, run = Run.open(saved), large()
    assert alike(opened, run)
    document = json.loads((saved / "run.json").read_text())
    assert (document["format"], document["samples"]) == (2, LARGE)
    lines = (saved / "samples.jsonl").read_text().splitlines()
    assert json.loads(lines[3]) == {
        "id": "bild/é 3.png",
        "sha256": f"{3:064x}",
        "label": None,
        "pixels": "p3",
    }
    assert isinstance(opened.samples, Lazy) and isinstance(opened.outputs["probs"], Lazy)
    for place in (0, 63, 64, 1000, LARGE - 1, -1):
        assert opened.samples[place] == run.samples[place]
        assert opened.latency_ms[place] == run.latency_ms[place]
        assert opened.outputs["count"][place] == run.outputs["count"][place]
    with pytest.raises(IndexError):
        opened.samples[LARGE]


def test_a_small_run_is_as_it_always_was(tmp_path: Path) -> None:
    path = large(MOST_INLINE).save(tmp_path / "r")
    document = json.loads((path / "run.json").read_text())
    assert document["format"] == 1 and len(document["samples"]) == MOST_INLINE
    assert not (path / "samples.jsonl").exists()


def test_runs_of_before_are_still_read(tmp_path: Path) -> None:
    """Format 1 of any size: as every version before wrote it."""
    run = large()
    (tmp_path / "old").mkdir()
    run.write(tmp_path / "old", most_inline=10**6)
    assert json.loads((tmp_path / "old" / "run.json").read_text())["format"] == 1
    assert alike(Run.open(tmp_path / "old"), run)


def test_samples_are_chosen_in_any_order(saved: Path) -> None:
    opened, run = Run.open(saved), large()
    for places in ([5, 4, 1200, 64, 65, 66], range(10, 200), range(900, 100, -7), []):
        if not places:
            with pytest.raises(UsageError, match="holds no samples"):
                opened.select(places)
            continue
        assert alike(opened.select(places), run.select(places))
        some = range(0, len(places), 2)
        assert alike(opened.select(places).select(some), run.select(places).select(some))
    assert alike(opened.first(70), run.first(70))
    with pytest.raises(IndexError):
        opened.select([0, LARGE])


def test_answers_of_other_shapes_are_a_file_each(tmp_path: Path) -> None:
    values = [np.ones((n % 3, 6), np.float32) * n for n in range(LARGE)]
    run = large(outputs={"boxes": values})
    opened = Run.open(run.save(tmp_path / "r"))
    assert alike(opened, run)
    (tmp_path / "r" / "output_0" / "001299.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(ModelError, match="damaged run"):
        Run.open(tmp_path / "r")
    (tmp_path / "r" / "output_0" / "001299.npy").unlink()
    with pytest.raises(ModelError, match=r"damaged run: .*001299.npy"):
        Run.open(tmp_path / "r")


def test_inferences_are_counted_by_sample(tmp_path: Path) -> None:
    """Rows in any order, of samples with other numbers of repeats, and cells that look like
    formulas, as they are written here and by others."""
    ids = ["=a", "'=b", "c,d", '"e"', "-", "'"]
    run = made(
        samples=tuple(SampleInfo(i, i, None) for i in ids),
        outputs={"out": [np.zeros(1)] * 6},
        latency_ms=[[float(n)] * (1 + n % 2) for n in range(6)],
    )
    path = run.save(tmp_path / "r")
    assert Run.open(path).latency_ms == run.latency_ms
    header, *rows = (path / "latency.csv").read_text().splitlines()
    (path / "latency.csv").write_text("\n".join([header, *rows[::-1]]))
    assert Run.open(path).latency_ms == run.latency_ms
    raw = [row.removeprefix("'") if row.startswith("'=a") else row for row in rows]
    (path / "latency.csv").write_text("\n".join([header, *raw]))
    assert Run.open(path).latency_ms == run.latency_ms


def lines(change: Callable[[list[str]], Sequence[str]]) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        file = path / "samples.jsonl"
        file.write_text("".join(change(file.read_text().splitlines(keepends=True))))

    return edit


def cut(name: str, count: int) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        data = (path / name).read_bytes()
        (path / name).write_bytes(data[: len(data) - count])

    return edit


def told(**fields: Any) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        document = json.loads((path / "run.json").read_text())
        (path / "run.json").write_text(json.dumps({**document, **fields}))

    return edit


DAMAGED: dict[str, tuple[Callable[[Path], None], str]] = {
    "a-sample-less": (lines(lambda x: x[1:]), f"holds {LARGE - 1} whole samples, and .* {LARGE}"),
    "a-sample-more": (lines(lambda x: [*x, x[0].replace("é", "e")]), f"holds {LARGE + 1} whole"),
    "torn-tail": (cut("samples.jsonl", 1), f"holds {LARGE - 1} whole samples"),
    "torn-line": (cut("samples.jsonl", 9), "damaged run: "),
    "no-samples-file": (lambda p: (p / "samples.jsonl").unlink(), "samples.jsonl"),
    "twice": (lines(lambda x: [*x[:-1], x[5]]), "holds sample 'bild/é 5.png' twice"),
    "not-json": (lines(lambda x: ["{\n", *x[1:]]), "damaged run: "),
    "another-type": (lines(lambda x: [x[0].replace("null", '"cat"'), *x[1:]]), "samples.label"),
    "field-missing": (lines(lambda x: ['{"id": "x", "label": 1}\n', *x[1:]]), "samples.sha256"),
    "no-object": (lines(lambda x: ["7\n", *x[1:]]), "'samples' is not of its type"),
    "half-a-character": (lines(lambda x: [x[0].replace("é", "\\ud800"), *x[1:]]), "damaged run"),
    "answers-cut": (cut("output_0.npy", 1), "too short"),
    "answers-fewer": (
        lambda p: np.save(p / "output_0.npy", np.zeros((5, 1, 2), np.float32)),
        f"does not hold the {LARGE} samples",
    ),
    "answers-of-another-type": (
        lambda p: np.save(p / "output_0.npy", np.zeros((LARGE, 1, 2))), "does not hold"
    ),
    "answers-are-objects": (
        lambda p: np.save(p / "output_0.npy", np.array([None] * LARGE), allow_pickle=True),
        "objects of Python",
    ),
    "latency-cut": (cut("latency.csv", 99), "not every sample has a latency"),
    "latency-of-another": (
        lambda p: (p / "latency.csv").write_text("sample,repeat,ms\nwho,0,1\n"),
        "sample 'who' is not in run.json",
    ),
    "count-is-a-text": (told(samples="1300"), "'samples' is not of its type"),
    "count-of-others": (told(samples=LARGE - 1), "run.json says"),
    "format-of-later": (told(format=3), "is of format 3, and .* of format 1 or 2"),
    "failed-without-why": (told(failed=[{"id": "x"}]), "'failed.reason' is missing"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_what_is_damaged_is_told(saved: Path, tmp_path: Path, name: str) -> None:
    damage, telling = DAMAGED[name]
    path = Path(shutil.copytree(saved, tmp_path / "r"))
    assert alike(Run.open(path), large())
    damage(path)
    with pytest.raises(ModelError, match=telling):
        Run.open(path)


def test_merged_files_are_those_of_the_whole(saved: Path, tmp_path: Path) -> None:
    """Sixteen parts, opened and joined, are written byte for byte as the whole."""
    sizes = np.diff(np.linspace(0, LARGE, 17).astype(int))
    starts = np.cumsum([0, *sizes])
    parts = []
    for number, (start, size) in enumerate(zip(starts, sizes)):
        part = large(int(size), int(start), wall_s=1.5 / 16)
        folder = tmp_path / f"{number}"
        folder.mkdir()
        part.write(folder, most_inline=number)  # some have their samples in a file, some have not
        parts.append(Run.open(folder))
    merged = Run.merge(parts)
    assert isinstance(merged.samples, Joined)
    merged.save(tmp_path / "all")
    names = {file.name for file in saved.iterdir()}
    assert names == {file.name for file in (tmp_path / "all").iterdir()}
    for name in names:
        assert (tmp_path / "all" / name).read_bytes() == (saved / name).read_bytes(), name
    assert alike(merged.select([1299, 0, 700]), large().select([1299, 0, 700]))


def test_failures_and_the_shard_are_kept(tmp_path: Path) -> None:
    failed = (FailedSample("x", "the engine was ended by SIGSEGV"),)
    shard = {"index": 2, "of": 3, "total": 9}
    opened = Run.open(made(failed=failed, shard=shard).save(tmp_path / "r"))
    assert opened.failed == failed and opened.shard == shard
    assert not {"failed", "shard"} & made().summary().keys()


def test_who_failed_in_one_run_and_was_answered_in_another_has_not_failed() -> None:
    failed = (FailedSample("c", "died"), FailedSample("d", "died too"))
    merged = Run.merge([made("ab", failed=failed), made("c", failed=failed[1:])])
    assert merged.failed == failed[1:]


def test_many_files_are_read_with_few_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placed, "_MOST_OPEN", 3)
    letters = "abcdefghijkl"
    runs = [Run.open(made(letter).save(tmp_path / letter)) for letter in letters]
    assert len(placed._USED) == 3
    merged = Run.merge(runs)
    assert [int(v[0, 0]) for v in merged.outputs["out"]] == list(map(ord, letters))
    # What was replaced since, and had been closed, is told; what is open is read as it was.
    made("a", wall_s=2.0).save(tmp_path / "a", force=True)
    for _ in range(2):
        with pytest.raises(ModelError, match="was changed while it was read"):
            list(merged.outputs["out"])
    shutil.rmtree(tmp_path / "l")
    assert int(merged.outputs["out"][11][0, 0]) == ord("l")


def test_lists_stay_lists() -> None:
    assert chosen((1, 2, 3), [2, 0]) == (3, 1) and chosen([1, 2], range(1)) == [1]
    assert joined([(1,), (2,)]) == (1, 2) and joined([[1], [2]]) == [1, 2]
    doubled = Made(lambda n: 2 * n, [1, 2, 3, 4])
    assert list(doubled) == [2, 4, 6, 8] and doubled[-1] == 8 and doubled[1:3] == [4, 6]
    assert Joined([[1], doubled, [9]]) == [1, 2, 4, 6, 8, 9]
    assert list(View(Joined([[1], doubled, [9]]), [5, 0, 1, 2, 4, 4])) == [9, 1, 2, 4, 8, 8]
    assert doubled != [2, 4] and doubled != "2468"


def test_a_run_of_views_is_saved_and_read(saved: Path, tmp_path: Path) -> None:
    part = replace(Run.open(saved), wall_s=0.0).select(range(0, LARGE, 2))
    opened = Run.open(part.save(tmp_path / "half"))
    assert alike(opened, part) and len(opened.samples) == LARGE // 2
