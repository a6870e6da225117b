"""The page at the root of a server, in a browser: a picture dropped, both answers shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from serving_process import Serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

# Drops a file on the page as a person does, which no browser lets a script do by the mouse.
_DROP = """([name, bytes]) => {
  const held = new DataTransfer();
  held.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
  const event = { bubbles: true, cancelable: true, dataTransfer: held };
  document.getElementById("drop").dispatchEvent(new DragEvent("drop", event));
}"""


@pytest.fixture(scope="module")
def serving(bundle: Path, model: Path) -> Iterator[Serving]:
    with Serving(bundle, "--server", model) as server:
        yield server


@pytest.fixture
def said() -> list[str]:
    """What the page told the console, and whom else it asked: nothing, and nobody."""
    return []


@pytest.fixture
def page(browser: Browser, serving: Serving, said: list[str]) -> Iterator[Page]:
    """The page on a phone."""
    context = browser.new_context(viewport={"width": 360, "height": 740}, color_scheme="dark")
    it = context.new_page()
    it.on("console", lambda message: said.append(message.text))
    it.on("pageerror", lambda error: said.append(str(error)))
    it.on("request", lambda request: said.extend(elsewhere(request.url, serving)))
    it.goto(serving.http)
    it.wait_for_selector("#model option", state="attached")
    yield it
    context.close()
    assert said == []


def elsewhere(url: str, serving: Serving) -> list[str]:
    return [] if url.startswith((serving.http, "data:", "blob:")) else [url]


def answered(page: Page) -> list[Any]:
    """The cards, when there are two."""
    page.locator("article").nth(1).wait_for()
    return page.locator("article").all()


def test_a_picture_that_is_dropped_shows_both_answers(page: Page, photos: Path) -> None:
    file = photos / "picture_2.png"
    page.evaluate(_DROP, [file.name, list(file.read_bytes())])
    edge, server = answered(page)
    assert "Edge: lite" in edge.inner_text() and "Server: paddle" in server.inner_text()
    tables = [card.locator("td:first-child").all_inner_texts() for card in (edge, server)]
    assert len(tables[0]) == 5 and tables[0] == tables[1]
    assert "ms in the engine" in edge.inner_text()
    assert page.evaluate("[...document.images].every((i) => i.complete && i.naturalWidth > 0)")
    status = page.inner_text("#status")
    assert "picture_2.png" in status and "Edge and server agree" in status
    # On a phone's width nothing is wider than it, and one card is below the other.
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert server.bounding_box()["y"] > edge.bounding_box()["y"]
    page.set_viewport_size({"width": 1000, "height": 700})
    assert server.bounding_box()["y"] == edge.bounding_box()["y"]


def test_it_works_by_keyboard(page: Page, photos: Path) -> None:
    reached, choosers = [], []
    page.on("filechooser", lambda chooser: choosers.append(chooser))
    for _ in range(4):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
    assert reached[:3] == ["model", "both", "file"]
    page.focus("#both")
    page.keyboard.press("Space")
    page.focus("#file")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    while not choosers:
        page.wait_for_timeout(50)
    choosers[0].set_files(photos / "picture_1.png")
    page.wait_for_selector("article")
    assert page.locator("article").count() == 1  # the server was not to be asked


def test_a_file_that_is_no_picture_is_told(page: Page, said: list[str]) -> None:
    page.evaluate(_DROP, ["<b>notes</b>.txt", [1, 2, 3]])
    page.wait_for_selector("#status.bad")
    assert "not an image" in page.inner_text("#status")
    assert page.locator("article").count() == 0
    assert "status of 400" in said.pop()  # the browser's own words


def test_light_and_dark(browser: Browser, serving: Serving) -> None:
    seen = {}
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme)
        it = context.new_page()
        it.goto(serving.http)
        seen[scheme] = it.evaluate("""() => ["backgroundColor", "color"].map((name) =>
            getComputedStyle(document.body)[name].match(/\\d+/g).map(Number)
            .reduce((a, b) => a + b, 0))""")
        context.close()
    (light, ink), (dark, chalk) = seen["light"], seen["dark"]
    assert light - ink > 500 and chalk - dark > 500


def test_a_server_with_a_token_asks_for_it(
    browser: Browser, bundle: Path, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("0123456789abcdef")
    with Serving(bundle, "--token-file", tmp_path / "token") as serving:
        context = browser.new_context()
        it = context.new_page()
        it.goto(serving.http)
        it.wait_for_selector("#token-form:not([hidden])")
        it.fill("#token", "0123456789abcdef")
        it.keyboard.press("Enter")
        it.wait_for_selector("#model option", state="attached")
        it.set_input_files("#file", photos / "picture_1.png")
        it.wait_for_selector("article")
        assert it.locator("#token-form").is_hidden()
        context.close()
