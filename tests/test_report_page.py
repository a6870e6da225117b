"""The page of a comparison in a browser: it opens alone, anybody can read and search it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from test_report import ARM, X86, flipped, run

from lite_opt.judge.compare import compare
from lite_opt.views.report.judged import Judged
from lite_opt.views.report.page import html_page
from lite_opt.views.report.sources import Known

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WRONG = [3, 17, 28]
COUNTS = {"qemu-aarch64:pi4": 80_000_000, "qemu-aarch64:pi5": 50_000_000}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A page of two runs, and one of three against a fourth, by their addresses."""
    folder = tmp_path_factory.mktemp("pages")
    photos = folder / "photos"
    photos.mkdir()
    for place in WRONG:
        Image.new("RGB", (64, 48), (8 * place, 90, 120)).save(photos / f"{place:03d}.png")
    server = run()
    candidates = [run(flipped(WRONG), **ARM), run(**X86), run(**ARM, threads=2)]
    judged = [
        Judged(edge, compare(server, edge), "", Known(None, 5_000_000 + number, COUNTS))
        for number, edge in enumerate(candidates)
    ]
    pages = {"two": judged[:1], "many": judged}
    for name, of in pages.items():
        page = html_page(server, of, data=photos, command="paddle-edge report")
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
    return {name: (folder / f"{name}.html").as_uri() for name in pages}


@pytest.fixture
def opened(browser: Browser) -> Iterator[Any]:
    """Opens pages, and sees that they ask for nothing and complain of nothing."""
    said: list[str] = []
    contexts = []

    def open_(address: str, width: int = 1100, scheme: str = "light") -> Page:
        size = {"width": width, "height": 900}
        context = browser.new_context(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
        contexts.append(context)
        it = context.new_page()
        it.on("console", lambda message: said.append(message.text))
        it.on("pageerror", lambda error: said.append(str(error)))
        it.on("request", lambda request: said.append(request.url))
        it.goto(address)
        return it

    yield open_
    for context in contexts:
        context.close()
    assert [text for text in said if not text.startswith(("file:", "data:"))] == []
    assert sum(text.startswith("file:") for text in said) == len(contexts)


@pytest.mark.parametrize("name", ["two", "many"])
def test_anybody_can_read_it_light_and_dark_and_on_a_phone(
    opened: Any, places: dict[str, str], name: str
) -> None:
    for width, scheme in ((1100, "light"), (1100, "dark"), (390, "light")):
        page = opened(places[name], width, scheme)
        page.evaluate("document.querySelectorAll('details').forEach((d) => d.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        found = Axe().run(page).response["violations"]
        assert [(v["id"], v["nodes"][0]["html"]) for v in found] == []


def test_light_and_dark_are_two(opened: Any, places: dict[str, str]) -> None:
    ink = """() => getComputedStyle(document.querySelector("figure svg text")).fill"""
    light, dark = (opened(places["two"], scheme=s).evaluate(ink) for s in ("light", "dark"))
    assert light == "rgb(28, 30, 33)" and dark == "rgb(228, 230, 235)"


def test_every_chart_is_there_and_labelled(opened: Any, places: dict[str, str]) -> None:
    page = opened(places["many"])
    shared = ["Latency.", "ARM instructions.", "Size, cost and accuracy."]
    titles = page.locator("figcaption b").all_text_contents()
    assert titles == [*shared, *["Differences.", "Side against side."] * 3]
    axes = page.locator("figure").evaluate_all(
        """(all) => all.map((f) => [...f.querySelectorAll(".role-axis-title text")]
             .map((t) => t.textContent))"""
    )
    assert axes[0] == ["latency (ms)", "share of inferences"]
    assert axes[1] == ["ARM instructions an inference (millions)", "board"]
    assert axes[2][0] == "M instructions on qemu-aarch64:pi4"
    assert all(len(names) == 2 and all(names) for names in axes)
    named = page.locator("figure svg").evaluate_all(
        "(all) => all.every((s) => s.getAttribute('role') === 'img' && s.ariaLabel.length > 20)"
    )
    assert named and "Recommended is" in page.inner_text("main")


def test_marks_say_what_they_are_under_the_pointer(opened: Any, places: dict[str, str]) -> None:
    page = opened(places["two"])
    mark = page.locator('figure svg [aria-label^="017.png"]')
    mark.scroll_into_view_if_needed()
    mark.hover()
    assert page.inner_text("#tip").startswith("017.png: ")


def test_pictures_are_seen_searched_and_filtered(opened: Any, places: dict[str, str]) -> None:
    page = opened(places["two"])
    assert page.evaluate("[...document.images].every((i) => i.complete && i.naturalWidth > 0)")
    assert page.locator("img").count() == len(WRONG)
    page.fill("input[type=search]", "017")
    assert page.locator("li.sample:visible").count() == 1
    assert page.inner_text("[data-count]") == "1 shown"
    page.fill("input[type=search]", "")
    page.select_option("select", "better")
    assert page.locator("li.sample:visible").count() == 0
    page.select_option("select", "worse")
    assert page.locator("li.sample:visible").count() == len(WRONG)


def test_keys_reach_the_explanations_and_the_search(opened: Any, places: dict[str, str]) -> None:
    page = opened(places["two"])
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("document.activeElement.ariaLabel || document.activeElement.type || ''")
        )
    assert {"Runs", "What is cosine?", "search", "select-one"} <= set(reached)
    page.focus("[aria-label='What is cosine?']")
    page.keyboard.press("Enter")
    assert page.get_by_text("How alike the scores are").is_visible()


def test_what_is_folded_is_printed(opened: Any, places: dict[str, str]) -> None:
    page = opened(places["many"])
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.locator("details.run[open]").count() == 3
    assert page.locator("input").first.is_hidden()


def test_charts_say_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lite_opt.views.report.charts._drawer", lambda: None)
    page = html_page(run(), [Judged(run(**ARM), compare(run(), run(**ARM)))])
    assert "<svg" not in page and "pip install &#39;paddle-edge[report]&#39;" in page
