"""Faults planted in reading text, with the trained PP-OCRv4 on both engines: each is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from lite_opt.conversion.convert import convert
from lite_opt.demo.packages import ocr_characters, ocr_model
from lite_opt.demo.text_lines import text_lines
from lite_opt.judge.compare import Report, compare
from lite_opt.judge.rates import Rate
from lite_opt.subject import opened
from py_runner.formats.run import Run
from py_runner.inference import run

pytestmark = pytest.mark.slow
COUNT = 40


@dataclass(frozen=True)
class Reading:
    """Lines with what they say, a dictionary, and a bundle of the recognizer."""

    data: Path
    truth: Path
    dictionary: Path
    bundle: Path
    server: Run

    def on_edge(
        self,
        *,
        dictionary: Path | None = None,
        image: str | None = None,
        engine: str = "lite",
        limit: int | None = None,
    ) -> Run:
        """What the bundle reads, or on engine paddle the model."""
        path = self.bundle if engine == "lite" else ocr_model("rec")
        with opened(
            path,
            engine=engine,
            image=image or ("ppocr-rec" if engine == "paddle" else None),
            labels=dictionary or self.dictionary,
            task="text-recognition",
        ) as subject:
            samples = subject.samples(self.data, limit=limit)
            return run(subject.model, samples, engine=engine)


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Reading:
    folder = tmp_path_factory.mktemp("reading")
    data = folder / "lines"
    data.mkdir()
    lines = text_lines(2 * COUNT, seed=4)[::2]
    for i, line in enumerate(lines):
        line.image.save(data / f"{i:03d}.png")
    truth = folder / "texts.txt"
    truth.write_text("".join(f"{i:03d}.png\t{line.text}\n" for i, line in enumerate(lines)))
    dictionary = folder / "keys.txt"
    dictionary.write_text("".join(f"{c}\n" for c in ocr_characters()[:-1]), encoding="utf-8")
    bundle = folder / "rec.bundle"
    convert(
        ocr_model("rec"),
        bundle,
        image="ppocr-rec",
        labels=dictionary,
        task="text-recognition",
        target=("x86",),
    )
    made = Reading(data, truth, dictionary, bundle, None)  # type: ignore[arg-type]
    return replace(made, server=made.on_edge(engine="paddle"))


def rate(report: Report, name: str) -> Rate:
    (found,) = [r for r in report.rates if r.name == name]
    return found


def test_server_and_edge_read_the_same_lines(reading: Reading) -> None:
    report = compare(reading.server, reading.on_edge(), truth=reading.truth)
    assert report, report.failures
    assert report.reference["task"] == {"name": "text-recognition"}
    assert rate(report, "lines read alike").value == 1.0
    assert rate(report, "right lines, reference").value > 0.9
    assert rate(report, "right lines, points lost").value == 0
    assert any("more samples would decide" in text for text in report.warnings)


@pytest.mark.parametrize(
    "turned", [lambda keys: [*keys[1:], keys[0]], lambda keys: [keys[-1], *keys[:-1]]]
)
def test_a_dictionary_off_by_one_is_found(
    reading: Reading, turned: Callable[[list[str]], list[str]], tmp_path: Path
) -> None:
    wrong = tmp_path / "keys.txt"
    keys = turned(reading.dictionary.read_text(encoding="utf-8").split("\n")[:-1])
    wrong.write_text("".join(f"{c}\n" for c in keys), encoding="utf-8")
    edge = reading.on_edge(dictionary=wrong)
    report = compare(reading.server, edge, truth=reading.truth)
    assert not report
    assert any("lines read alike" in text for text in report.failures)
    assert any("right lines, points lost" in text for text in report.failures)
    (note,) = [text for text in report.warnings if "dictionaries" in text]
    assert "from line 1 on" in note and f"{COUNT} of {COUNT} lines alike" in note


def test_another_order_of_the_colours_is_found(reading: Reading) -> None:
    """By the tensors that were fed: this recognizer reads most lines in either order."""
    spec = "resize=line:48x320,color=RGB,scale=1,divisor=255,mean=0.5,std=0.5"
    edge = reading.on_edge(image=spec, limit=2)
    report = compare(reading.server, edge)
    assert not report and report.culprit.startswith("preprocessing (2 of 2 samples")
