"""Judge what a pipeline read on pages against another run of it: end to end, and step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lite_opt.judge.limits import ROUNDED, task_limits_for
from lite_opt.judge.pairs import lacks
from lite_opt.judge.rates import Rate, bootstrapped, share
from lite_opt.judge.steps import Step, guilty, steps_of
from lite_opt.judge.tasks.scores import matched
from lite_opt.judge.tasks.text_detection import overlaps
from lite_opt.judge.tasks.truth import lines_of, of_samples
from py_runner.errors import DataError, UsageError
from py_runner.formats.pages import Line, Page, Pages

__all__ = ["PagesReport", "compare_pages", "paired"]

_Array = npt.NDArray[Any]
_STRICT, _LOOSE = 0.9, 0.5


@dataclass(frozen=True)
class PagesReport:
    """The verdict on a candidate. `bool(report)` is whether it holds all limits and there was a
    line to judge.

    `rates` are end to end, `steps` of each step on the same input; `culprit` says in words which
    step makes the difference, "" where none does. `fed` is whether the candidate was fed the
    reference's own inputs. `differing` are the pages whose lines differ.
    """

    reference: dict[str, Any]
    candidate: dict[str, Any]
    pages: int
    rates: tuple[Rate, ...]
    figures: dict[str, float]
    steps: tuple[Step, ...]
    fed: bool
    culprit: str
    differing: tuple[str, ...]
    failures: tuple[str, ...]
    warnings: tuple[str, ...]

    def __bool__(self) -> bool:
        return not self.failures

    def to_json(self) -> dict[str, Any]:
        """All of it, with the verdict as "passed"."""
        return {"passed": bool(self), **asdict(self)}


def compare_pages(
    reference: Pages,
    candidate: Pages,
    *,
    common: bool = False,
    task_limits: Mapping[str, float] | None = None,
    truth: str | Path | None = None,
) -> PagesReport:
    """Judge `candidate` against `reference` on the pages that both have.

    Lines are the same where their polygons overlap by an IoU of 0.5, and equal where they say
    exactly the same. A candidate that lacks pages of its reference fails, but with `common`.

    Args:
        task_limits: replace those of task "ocr" in the candidate's precision (`task_limits_for`).
        truth: PaddleOCR's list of lines on pages: both runs are then held against it, too.

    Raises DataError where the runs have no page in common or the truth is not for them, UsageError
    where there is no such limit or the libraries of the extra `ocr` are not installed.
    """
    theirs = {page.id for page in candidate.pages}
    every = [page.id for page in reference.pages]
    ids = [id_ for id_ in every if id_ in theirs]
    if not ids:
        raise DataError("these runs have no page in common: run both on the same pages")
    if reference.kind != candidate.kind:
        raise UsageError(f"pipelines of kind {reference.kind} and {candidate.kind} do not compare")
    limits = task_limits_for("ocr", _precision(candidate), **(task_limits or {}))
    left, right = reference.select(ids), candidate.select(ids)
    pairs = [_matched(a, b) for a, b in zip(left.pages, right.pages)]
    rates, figures, differing = _end_to_end(left, right, pairs, limits)
    if truth is not None:
        rates += _by_labels(left, right, Path(truth), limits)
    steps, fed = steps_of(left, right, limits)
    blamed = guilty(steps)
    failures = [] if common else lacks(every, theirs, "pages")
    failures += [rate.failure for rate in rates if rate.broken]
    failures += [step.failure for step in steps if step.broken]
    if not any(page.text for page in (*left.pages, *right.pages)):
        failures.append("no line was read on any page, by either run: nothing was judged")
    return PagesReport(
        reference=_about(reference),
        candidate=_about(candidate),
        pages=len(ids),
        rates=tuple(rates),
        figures=figures,
        steps=steps,
        fed=fed,
        culprit=blamed.said if blamed is not None else "",
        differing=differing,
        failures=tuple(failures),
        warnings=tuple(_warnings(reference, candidate, rates, len(ids), fed=fed)),
    )


def paired(left: Page, right: Page) -> list[tuple[Line | None, Line | None]]:
    """The lines of two runs of a page that stand in the same place, in the order of the left one;
    None beside a line that the other run does not have there."""
    found = dict(_matched(left, right)[_LOOSE])
    pairs: list[tuple[Line | None, Line | None]] = [
        (line, right.text[found[i]] if i in found else None) for i, line in enumerate(left.text)
    ]
    alone = set(range(len(right.text))) - set(found.values())
    return pairs + [(None, right.text[j]) for j in sorted(alone)]


def _precision(run: Pages) -> str:
    """That of the stage which is rounded most."""
    found = [stage.precision for stage in run.stages.values()]
    return next((name for name in (*ROUNDED, "fp16", "int16-weights") if name in found), "fp32")


def _polygons(page: Page) -> list[_Array]:
    return [np.array(line.points, np.float64) for line in page.text]


def _matched(left: Page, right: Page) -> dict[float, list[tuple[int, int]]]:
    """Pairs of lines of two runs of a page, by their least overlap."""
    likeness = overlaps(_polygons(left), _polygons(right))
    return {least: matched(likeness, least) for least in (_LOOSE, _STRICT)}


def _end_to_end(
    left: Pages,
    right: Pages,
    pairs: Sequence[Mapping[float, Sequence[tuple[int, int]]]],
    limits: Mapping[str, float],
) -> tuple[list[Rate], dict[str, float], tuple[str, ...]]:
    """Rates of the texts that two runs make of pages, figures, and the pages that differ."""
    equal, either, characters, lengths = [], [], [], []
    for a, b, found in zip(left.pages, right.pages, pairs):
        same = found[_LOOSE]
        equal.append(sum(a.text[i].text == b.text[j].text for i, j in same))
        either.append(len(a.text) + len(b.text) - len(same))
        hits, length = _characters(a, b, same)
        characters.append(hits)
        lengths.append(length)
    rates = [
        share("lines equal", equal, either, unit="lines", limit=limits["lines"]),
        share("characters", characters, lengths, unit="characters", limit=limits["characters"]),
    ]
    figures = {}
    both = sum(len(page.text) for page in (*left.pages, *right.pages))
    for least, limit in ((_LOOSE, limits["texts"]), (_STRICT, None)):
        agreed = [len(found[least]) for found in pairs]
        of = [len(a.text) + len(b.text) - n for a, b, n in zip(left.pages, right.pages, agreed)]
        rates.append(share(f"boxes at IoU {least:g}", agreed, of, unit="boxes", limit=limit))
        figures[f"hmean at IoU {least:g}"] = 2 * sum(agreed) / both if both else 1.0
    differing = [page.id for page, n, of in zip(left.pages, equal, either) if n < of]
    return [rate for rate in rates if rate is not None], figures, tuple(differing)


def _characters(left: Page, right: Page, same: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """How many characters of a page need no edit, and how many there are in the left one's lines;
    what only the right one has counts against it."""
    try:
        from rapidfuzz.distance import Levenshtein
    except ImportError:
        raise UsageError("characters need rapidfuzz: pip install 'paddle-edge[ocr]'") from None
    edits = sum(Levenshtein.distance(left.text[i].text, right.text[j].text) for i, j in same)
    matched_left, matched_right = {i for i, _ in same}, {j for _, j in same}
    alone = [line for k, line in enumerate(left.text) if k not in matched_left]
    alone += [line for k, line in enumerate(right.text) if k not in matched_right]
    edits += sum(len(line.text) for line in alone)
    length = sum(len(line.text) for line in left.text)
    return max(0, length - edits), length


def _by_labels(left: Pages, right: Pages, path: Path, limits: Mapping[str, float]) -> list[Rate]:
    """Both runs held against labels: boxes at IoU 0.5 and whole lines, without regard to spaces."""
    labels = of_samples(path, lines_of(path), [page.id for page in left.pages])
    tables = []  # by run, a row a page: right lines, boxes matched, boxes found, lines labelled
    for run in (left, right):
        rows = []
        for place, wanted in labels.items():
            page = run.pages[place]
            found = matched(overlaps(_polygons(page), [corners for _, corners in wanted]), _LOOSE)
            hits = sum(_bare(page.text[i].text) == _bare(wanted[j][0]) for i, j in found)
            rows.append((hits, len(found), len(page.text), len(wanted)))
        tables.append(np.array(rows, np.float64))

    def right_lines(table: _Array, weights: _Array) -> float:
        hits, _, _, count = weights @ table
        return float(hits / count) if count else 1.0

    def hmean(table: _Array, weights: _Array) -> float:
        _, found, boxes, count = weights @ table
        return float(2 * found / (boxes + count)) if boxes + count else 1.0

    rates = []
    for what, figure, key in (
        ("right lines", right_lines, "lines_drop"),
        ("hmean by labels", hmean, "hmean_drop"),
    ):
        for who, table in zip(("reference", "candidate"), tables):
            rates.append(
                bootstrapped(
                    f"{what}, {who}",
                    lambda w, f=figure, t=table: f(t, w),  # type: ignore[misc]
                    len(labels),
                )
            )
        rates.append(
            bootstrapped(
                f"{what}, points lost",
                lambda w, f=figure: (f(tables[0], w) - f(tables[1], w)) * 100,  # type: ignore[misc]
                len(labels),
                limit=limits[key],
                at_most=True,
                largest=100.0,
            )
        )
    return rates


def _bare(text: str) -> str:
    return "".join(text.split())


def _warnings(
    reference: Pages, candidate: Pages, rates: Sequence[Rate], count: int, *, fed: bool
) -> list[str]:
    """What is to be said beside the verdict."""
    texts = []
    if reference.key == candidate.key:
        texts.append("these are one and the same run: that they agree proves nothing")
    most = max(len(reference.pages), len(candidate.pages))
    if count < most:
        texts.append(f"only {count} of {most} pages are in both runs")
    if list(reference.stages) != list(candidate.stages):
        texts.append(
            f"the stages are {', '.join(reference.stages)} in the reference and "
            f"{', '.join(candidate.stages)} in the candidate"
        )
    for name, value in asdict(reference.options).items():
        other = getattr(candidate.options, name)
        if value != other:
            texts.append(f"{name} is {value} in the reference and {other} in the candidate")
    if not fed:
        texts.append(
            "steps are judged only where their inputs happened to be the same: run the candidate "
            "with --against REFERENCE_RUN, and each stage is fed the reference's own inputs"
        )
    texts += [
        f"{rate.name}: {rate.value:.4g} of {rate.samples} pages does not decide about the limit "
        f"{rate.limit:g} (95 % interval {rate.low:.4g} to {rate.high:.4g})"
        + (f": {rate.more} more pages would decide" if rate.more else "")
        for rate in rates
        if not rate.decided
    ]
    return texts


def _about(run: Pages) -> dict[str, Any]:
    """A run without its pages."""
    document = run.to_json()
    return {key: document[key] for key in document if key not in ("format", "pages", "fed")}
