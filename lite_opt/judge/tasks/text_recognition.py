"""Text recognition: how many lines, and how many characters of them, two runs read alike."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from lite_opt.judge.rates import Rate, share
from lite_opt.judge.tasks.scores import Case, Scores, accuracies, ids_of
from lite_opt.judge.tasks.truth import of_samples, texts_of
from py_runner.errors import DataError
from py_runner.tasks.text_recognition import Line, lines

__all__ = ["score"]


def score(case: Case) -> Scores:
    """The share of lines that are exactly equal, and of characters that need no edit; with the
    truth also both runs' share of right lines, without regard to spaces (as PaddleOCR's RecMetric).

    Each run is read with its own dictionary; without any, classes are compared. Raises DataError
    where the outputs are no lines, a dictionary does not fit, or the truth is not PaddleOCR's.
    """
    left, right = lines(case.reference), lines(case.candidate)
    with_text = case.reference.labels is not None and case.candidate.labels is not None
    a, b = ([_read(line, with_text) for line in found] for found in (left, right))
    same = [x == y for x, y in zip(a, b)]
    rates: list[Rate | None] = [
        share("lines read alike", same, unit="lines", limit=case.limits.get("lines"))
    ]
    rates += _characters("characters read alike", a, b, case.limits.get("characters"))
    notes = _notes(case, left, right)
    if case.truth is not None:
        if not with_text:
            raise DataError(f"{case.truth}: texts need the recognizer's dictionary: --labels")
        ids = ids_of(case.reference)
        truth = of_samples(case.truth, texts_of(case.truth), ids)
        texts = [text.replace(" ", "") for text in truth.values()]
        read = [[(found[i].text or "").replace(" ", "") for i in truth] for found in (left, right)]
        hits = [[float(x == y) for x, y in zip(found, texts)] for found in read]
        rates += accuracies("right lines", hits[0], hits[1], case.limits.get("lines_drop"))
        for who, found in zip(("reference", "candidate"), read):
            rates += _characters(f"right characters, {who}", texts, found, None)
    return Scores(
        "text-recognition",
        tuple(rate for rate in rates if rate is not None),
        {},
        tuple(s.id for s, equal in zip(case.reference.samples, same) if not equal),
        judged=any(line.classes for line in (*left, *right)),
        notes=notes,
    )


def _read(line: Line, with_text: bool) -> Sequence[Hashable]:
    return line.text if with_text and line.text is not None else line.classes


def _characters(
    name: str,
    reference: Sequence[Sequence[Hashable]],
    candidate: Sequence[Sequence[Hashable]],
    limit: float | None,
) -> list[Rate | None]:
    """One less the character error rate, 0 at the least; nothing without rapidfuzz."""
    try:
        from rapidfuzz.distance import Levenshtein
    except ImportError:
        return []
    lengths = [len(text) for text in reference]
    edits = [Levenshtein.distance(a, b) for a, b in zip(reference, candidate)]
    hits = [max(0, length - edit) for length, edit in zip(lengths, edits)]
    return [share(name, hits, lengths, unit="characters", limit=limit)]


def _notes(case: Case, left: Sequence[Line], right: Sequence[Line]) -> tuple[str, ...]:
    """What the texts differ by, where it is not the graph."""
    a, b = case.reference.labels, case.candidate.labels
    if a is None or b is None or a == b:
        return ()
    place = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    first, second = (repr(d[place]) if place < len(d) else "nothing" for d in (a, b))
    alike = sum(x.classes == y.classes for x, y in zip(left, right))
    return (
        f"the dictionaries of the two runs differ from line {place + 1} on ({first} against "
        f"{second}); the graphs read {alike} of {len(left)} lines alike before the dictionary",
    )
