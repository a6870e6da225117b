"""The page of a comparison: planted cases come out as they should, and names are only text."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from test_cli import Command, command  # noqa: F401  a fixture
from test_compare import made, page_of

from lite_opt.judge.by_sample import apart
from lite_opt.judge.compare import compare
from lite_opt.judge.evidence import evidence
from lite_opt.judge.recommend import Offer, frontier, recommended
from lite_opt.views.report.judged import Judged, offers, recommendation
from lite_opt.views.report.names import names_of
from lite_opt.views.report.page import html_page
from lite_opt.views.report.sources import Counted, Known, known_of
from py_runner.formats.bundle import Bundle
from py_runner.formats.run import Run, SampleInfo

CLASSES = 20
LOGITS = np.random.default_rng(3).standard_normal((60, 1, CLASSES)).astype("float32") * 3
LABELS = [int(row.argmax()) for row in LOGITS]
NAMES = tuple(f"kind {c}" for c in range(CLASSES))
ARM: dict[str, Any] = {
    "engine": "native", "engine_version": "044ba5b", "device": "cpu", "machine": "Linux aarch64",
}  # fmt: skip
X86: dict[str, Any] = {"engine": "lite", "engine_version": "v2.13-rc", "machine": "Linux x86_64"}


class Page(HTMLParser):
    """What stands where on a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    @property
    def verdict(self) -> str:
        """The colour of the verdict."""
        classes = [attrs.get("class") or "" for _, attrs in self.tags]
        return next(name.split()[1] for name in classes if name.startswith("verdict "))


def samples(ids: Sequence[str], labels: Sequence[int | None]) -> tuple[SampleInfo, ...]:
    return tuple(SampleInfo(id_, f"hash {id_}", label) for id_, label in zip(ids, labels))


def run(values: np.ndarray[Any, Any] = LOGITS, labelled: bool = True, **fields: Any) -> Run:
    ids = [f"{n:03d}.png" for n in range(len(values))]
    named = samples(ids, (LABELS if labelled else [None] * len(ids))[: len(ids)])
    return replace(made(values), samples=named, labels=NAMES, **fields)


def flipped(places: Sequence[int]) -> np.ndarray[Any, Any]:
    """The two best classes of these samples change places."""
    values = LOGITS + np.float32(1e-6)
    for place in places:
        first, second = np.argsort(-values[place, 0])[:2]
        values[place, 0, [first, second]] = values[place, 0, [second, first]]
    return values


def shown_samples(page: str) -> list[str]:
    return re.findall(r"<p><b>(\d{3}\.png)</b>", page)


def test_the_worst_samples_are_first_and_what_is_not_finite_is_among_them() -> None:
    ((name, values),) = run().outputs.items()
    values = [value.copy() for value in values]
    values[5] += np.float32(0.5)
    values[7] += np.float32(0.25)
    values[9][:] = np.nan
    found = apart(run(), replace(run(), outputs={name: values}))
    ids = [info.id for info in run().samples]
    assert [one.id for one in found.worst_first()[:3]] == [ids[9], ids[5], ids[7]]
    assert [one.id for one in found.worst_first([ids[7], ids[3]])] == [ids[9], ids[7], ids[3]]


def test_five_flipped_labels_are_the_five_in_the_gallery_worst_first() -> None:
    places = [3, 17, 28, 41, 59]
    edge = run(flipped(places), **ARM)
    page = page_of(run(), edge)
    ids = shown_samples(page)
    assert sorted(ids) == [f"{n:03d}.png" for n in places]
    by_id = {one.id: one.difference for one in apart(run(), edge)}
    assert [by_id[id_] for id_ in ids] == sorted((by_id[id_] for id_ in ids), reverse=True)
    read = Page(page)
    assert page.count(">got worse</span>") == 5
    assert "5 of 5 are shown" in read.text and "5 got worse and 0 better" in read.text
    assert read.verdict == "failed"
    # Both answers with probabilities: the best class of either side, in bold.
    place = int(ids[0][:3])
    scores = np.exp(LOGITS[place, 0].astype("float64"))
    first, second = np.argsort(-scores)[:2]
    share = scores[first] / scores.sum()
    assert f"<b>{NAMES[first]}</b> <span class='share'>{share:.4f}</span>" in page
    assert f"<b>{NAMES[second]}</b> <span class='share'>{share:.4f}</span>" in page


def test_pictures_are_those_of_the_samples(tmp_path: Path) -> None:
    for place in (3, 17):
        Image.new("RGB", (40, 30), (9 * place, 0, 0)).save(tmp_path / f"{place:03d}.png")
    page = Page(page_of(run(), run(flipped([3, 17, 28]), **ARM), data=tmp_path))
    pictures = [attrs for tag, attrs in page.tags if tag == "img"]
    assert sorted(str(picture["alt"]) for picture in pictures) == ["003.png", "017.png"]
    assert all(str(p["src"]).startswith("data:image/jpeg;base64,") for p in pictures)
    assert "some are without a picture" in page.text and "028.png" in page.text


def test_nan_is_a_red_verdict_and_its_sample_is_shown() -> None:
    values = LOGITS.copy()
    values[7, 0, 2] = np.nan
    page = page_of(run(), run(values, **ARM))
    read = Page(page)
    assert read.verdict == "failed" and "Do not ship it" in read.text
    assert "NaN or Inf to" not in read.text and "is NaN or Inf" in read.text
    assert shown_samples(page)[0] == "007.png"


def test_what_x86_alone_has_seen_is_amber_and_says_so() -> None:
    read = Page(page_of(run(), run(**X86)))
    assert read.verdict == "unsure" and "not enough was seen to ship it" in read.text
    assert "The ARM file did not run" in read.text and "qemu-aarch64:pi5" in read.text
    assert Page(page_of(run(), run(**ARM))).verdict == "passed"
    board = "Linux aarch64 (Raspberry Pi 5 Model B Rev 1.0)"
    emulated = Page(page_of(run(), run(**{**ARM, "device": "qemu-aarch64:pi5", "machine": board})))
    assert emulated.verdict == "passed" and "Raspberry Pi 5" in emulated.text
    assert "how fast the board is was not seen" in emulated.text
    both = evidence(compare(run(), run(**{**ARM, "machine": "Linux aarch64, Linux x86_64"})))
    assert both.status == "unsure"
    server = Page(page_of(run(), run(**{**X86, "engine": "paddle"})))
    assert server.verdict == "unsure" and "No edge engine ran" in server.text
    onnx = Page(page_of(run(), run(**{**X86, "engine": "onnx"})))
    assert onnx.verdict == "unsure" and "The ONNX file ran" in onnx.text


def test_limits_that_the_samples_leave_open_are_amber() -> None:
    edge = run(**ARM, precision="int8")
    read = Page(page_of(run(), edge))
    assert compare(run(), edge) and read.verdict == "unsure"
    assert "do not decide about the limit 1" in read.text and "more would" in read.text


def test_without_labels_nobody_is_right() -> None:
    read = Page(page_of(run(labelled=False), run(flipped([4]), labelled=False, **ARM)))
    assert "No labels were given" in read.text and "label:" not in read.text
    assert shown_samples(page_of(run(labelled=False), run(flipped([4]), False, **ARM)))


def test_a_run_that_nobody_timed(tmp_path: Path, command: Command) -> None:  # noqa: F811
    untimed = run(**ARM, latency_ms=[[] for _ in LOGITS])
    opened = Run.open(untimed.save(tmp_path / "edge.run"))
    assert opened.latency == {"count": 0} and opened.latency_ms == untimed.latency_ms
    read = Page(page_of(run(), opened))
    assert read.verdict == "passed" and "Latency." in read.text  # the server's
    both = page_of(run(latency_ms=untimed.latency_ms), opened)
    assert "Latency." not in Page(both).text
    run().save(tmp_path / "server.run")
    assert command("compare", tmp_path / "server.run", tmp_path / "edge.run")[0] == 0


def test_one_sample() -> None:
    read = Page(page_of(run(LOGITS[:1]), run(LOGITS[:1], **ARM)))
    assert read.verdict == "unsure" and "One sample does not show" in read.text
    tensor = np.ones((1, 4, 4), "float32")
    assert "within" in Page(page_of(made(tensor), made(tensor, **ARM))).text


def test_ten_thousand_samples_are_quick_and_small() -> None:
    values = np.random.default_rng(0).standard_normal((10_000, 1, 10)).astype("float32")
    other = values[:, :, ::-1].copy()
    server, edge = made(values, [1] * 10_000), made(other, [1] * 10_000, **ARM)
    report = compare(server, edge)
    start = time.process_time()
    page = html_page(server, [Judged(edge, report)])
    assert time.process_time() - start < 10
    assert len(page) < 10e6 and "are shown, the worst first" in page


def test_fifty_runs_in_one_report() -> None:
    judged = []
    for number in range(50):
        edge = run(flipped([number]), **ARM, threads=number % 4 + 1)
        judged.append(Judged(edge, compare(run(), edge), f"edge-{number}.run"))
    page = html_page(run(), judged, folder="server.run")
    read = Page(page)
    assert len(page) < 5e6 and "50 runs against one" in read.text
    assert sum(tag == "details" and attrs.get("class") == "run" for tag, attrs in read.tags) == 50
    assert "None of the 50 runs holds its limits" in read.text and read.verdict == "failed"


def test_sides_are_called_by_what_they_are() -> None:
    board = "Linux aarch64 (Raspberry Pi 5 Model B Rev 1.0)"
    emulated = run(**{**ARM, "device": "qemu-aarch64:pi5", "machine": board})
    abouts = [one.summary() for one in (run(), run(**X86), emulated)]
    assert names_of(abouts) == [
        "Paddle 3.3.1, fp32, on Linux",
        "Paddle Lite v2.13-rc, fp32, on x86-64",
        "Paddle Lite 044ba5b, fp32, on Raspberry Pi 5 Model B Rev 1.0 (emulated)",
    ]
    threads = [run(**X86, threads=count).summary() for count in (1, 4, 4)]
    assert [name.partition("x86-64")[2] for name in names_of(threads)] == [
        ", 1 thread", ", 4 threads #1", ", 4 threads #2",
    ]  # fmt: skip
    named = names_of(threads, ["a.run", "b.run", "c.run"])
    assert [name.rpartition(", ")[2] for name in named] == ["1 thread", "b.run", "c.run"]


def offer(status: str, cost: float | None, bytes_: int | None, loss: float | None = 0.0) -> Offer:
    return Offer(status, loss, cost, "M", bytes_)


def test_the_cheapest_of_the_best_proven_is_recommended() -> None:
    offers = [
        offer("passed", 80, 500), offer("passed", 50, 130, 0.01), offer("failed", 10, 100),
        offer("unsure", 20, 100),
    ]  # fmt: skip
    place, why = recommended(offers) or (None, "")
    assert place == 1 and "costs least (50 M)" in why
    assert recommended(offers[2:3]) is None
    assert recommended(offers[2:]) == (1, "the only one that holds its limits")
    place, why = recommended([offer("passed", None, 9), offer("passed", 3, 5)]) or (None, "")
    assert place == 1 and "is the smallest" in why
    assert frontier([offers[1], offer("passed", 50, 120, 0.01)]) == [1]  # alike but in size
    # The second costs less, the first loses less; the third is bettered by the second in all.
    assert frontier([*offers[:2], offer("passed", 60, 140, 0.02), offers[2]]) == [0, 1]


def test_sizes_and_costs_are_those_of_the_bundle_that_ran(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    arm = opened.targets["arm"]
    about = run(**X86, model={"name": "m", "sha256": opened.sha256}).summary()
    counts = [Counted(opened.sha256, "pi4", 7), Counted("another", "pi5", 8)]
    known = known_of(about, [opened], counts)
    assert (known.bytes, known.instructions) == (arm.bytes, {"pi4": 7})
    twin = replace(opened, targets={**opened.targets, "arm": replace(arm, precision="int8")})
    assert known_of(about, [twin], []).bytes is None  # what ran is not what ships
    assert (
        known_of({**about, "model": {"name": "m", "sha256": "0"}}, [opened], counts).bytes is None
    )


def test_costs_are_those_of_the_board_that_ran() -> None:
    counts = [{"pi4": 70, "pi5": 60}, {"pi4": 80, "pi5": 50}]
    edges = [run(**{**ARM, "device": "pi5", "threads": n}) for n in (1, 2)]
    judged = [
        Judged(edge, compare(run(), edge), "", Known(None, None, count))
        for edge, count in zip(edges, counts)
    ]
    assert [one.unit for one in offers(judged)] == ["M instructions on pi5"] * 2
    assert (recommendation(judged) or (None,))[0] == 1
    timed = [Judged(edge, one.report) for edge, one in zip(edges, judged)]
    assert {one.unit for one in offers(timed)} == {"ms on aarch64, pi5"}


def test_the_command_judges_many(
    bundle: Path,
    tmp_path: Path,
    command: Command,  # noqa: F811
) -> None:
    model = {"name": "m", "sha256": Bundle.open(bundle).sha256}
    run().save(tmp_path / "server.run")
    run(**ARM, model=model).save(tmp_path / "good.run")
    run(flipped(range(9)), **ARM, threads=2).save(tmp_path / "bad.run")
    counts = {"counts": [{"model": "b", "device": "pi4", "arm_instructions": 5_000_000, **model}]}
    (tmp_path / "counts.json").write_text(json.dumps(counts))
    page = tmp_path / "page.html"
    runs = [tmp_path / "good.run", tmp_path / "bad.run", "--reference", tmp_path / "server.run"]
    more = ["--bundle", bundle, "--counts", tmp_path / "counts.json", "-o", page]
    code, text, error = command("report", *runs, *more)
    assert code == 0, error
    assert "M instructions, pi4" in text and "5.00" in text
    read = Page(page.read_text(encoding="utf-8"))
    assert read.verdict == "passed" and "1 of 2 hold their limits, 1 of them" in read.text
    assert "ARM instructions." in read.text and "paddle-edge report" in read.text
    assert command("report", *runs, *more)[0] == 2  # the page is there
    code, text, _ = command("report", *runs[1:], "-o", page, "--force", "--json")
    document = json.loads(text)
    assert code == 1 and document["recommended"] is None
    assert document["reports"][0]["status"] == "failed"
    (tmp_path / "counts.json").write_text("[]")
    code, _, error = command("report", *runs, *more, "--force")
    assert code == 3 and "is not what bench --json prints" in error


EVIL = "\"'><script>alert(1)</script>\n\x1b[31m\u202ex|`*<b>\ud800&amp;"


def test_hostile_names_are_text_on_the_page() -> None:
    named = samples([f"{EVIL}{n}" for n in range(60)], LABELS)
    fields: dict[str, Any] = {"samples": named, "labels": tuple(f"{EVIL}{c}" for c in NAMES)}
    server = replace(run(), **fields, model={"name": EVIL, "sha256": EVIL})
    edge = replace(run(flipped([3, 5]), **ARM), **fields, engine_version=EVIL, created=EVIL)
    page = html_page(server, [Judged(edge, compare(server, edge), EVIL)], folder=EVIL, command=EVIL)
    page.encode()  # no lone surrogates
    assert not set(page) & set("\x1b\u202e") and r"\x1b[31m\u202ex" in page
    read = Page(page)
    assert sum(tag == "script" for tag, _ in read.tags) == 1  # ours
    assert not [tag for tag, attrs in read.tags if tag in ("iframe", "link", "object")]
    assert "alert(1)" in read.text
