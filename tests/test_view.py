"""What a path holds, as a page: operators in their order, what joins them and what they cost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
import make_model
import pytest
from axe_playwright_python.sync_playwright import Axe
from click.testing import CliRunner

from lite_opt.cli.main import paddle_edge
from lite_opt.model.program import Program
from lite_opt.views.graph import counted_layers, of_model, of_nb
from lite_opt.views.view import page_of
from py_runner.errors import DataError, UsageError
from py_runner.formats.nb import read_nb
from py_runner.formats.run import Run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


def diamond() -> Program:
    """x -> a -> b -> c -> a + c -> a + it."""
    builder = make_model.Builder()
    shape = (-1, 4, 8, 8)
    a = builder.conv2d(
        builder.input("x", (-1, 3, 8, 8)), builder.param("w", (4, 3, 1, 1)), "a", shape
    )
    c = builder.op("tanh", {"X": [builder.op("relu", {"X": [a]}, "b", shape)]}, "c", shape)
    d = builder.op("elementwise_add", {"X": [a], "Y": [c]}, "d", shape, axis=-1)
    return builder.program(builder.op("elementwise_mul", {"X": [d], "Y": [a]}, "e", shape, axis=-1))


def test_rows_stand_in_the_order_of_execution_and_wires_pass_them() -> None:
    graph = of_model(diamond(), kernels={"conv2d", "relu"}, counted=None)
    assert [node.name for node in graph.nodes] == ["a", "b", "c", "d", "e"]
    assert [node.kernel for node in graph.nodes] == ["yes", "yes", "none", "none", "none"]
    assert graph.chained == (True, True, True, True, False)
    assert [(wire.start, wire.ends, wire.lane) for wire in graph.wires] == [(0, (3, 4), 0)]
    assert (graph.nodes[0].cost, graph.nodes[0].weights) == (8 * 8 * 4 * 3, 4 * 4 * 3)
    assert (graph.total, graph.unit) == (768, "multiply-adds")


def test_wires_that_run_beside_each_other_have_lanes_of_their_own() -> None:
    builder = make_model.Builder()
    names = [builder.input("x", (-1, 4))]
    for number in range(4):
        names.append(builder.op("relu", {"X": [names[-1]]}, f"r{number}", (-1, 4)))
    for reads in (("r0", "r2"), ("r1", "r3"), ("s0", "s1")):
        x, y = reads
        out = f"s{len(names) - 5}"
        names.append(builder.op("elementwise_add", {"X": [x], "Y": [y]}, out, (-1, 4), axis=-1))
    graph = of_model(builder.program(names[-1]), kernels=None, counted=None)
    wires = {wire.start: wire for wire in graph.wires}
    assert {start: wire.ends for start, wire in wires.items()} == {
        0: (4,), 1: (5,), 2: (4,), 3: (5,), 4: (6,),
    }  # fmt: skip
    assert len({wires[start].lane for start in range(4)}) == 4  # all run past row 3 to 4
    assert wires[4].lane == 0  # the first is free again


def test_counted_layers_colour_the_row_that_ends_them() -> None:
    document = {"layers": [
        {"layers": ["b", "z"], "ops": ["conv2d", "relu"], "instructions": 201},
        {"layers": ["c"], "ops": ["tanh"], "instructions": None},
    ]}  # fmt: skip
    graph = of_model(diamond(), kernels=None, counted=counted_layers(document))
    assert [node.cost for node in graph.nodes] == [None, 101, None, None, None]
    assert (graph.nodes[1].fused, graph.unit) == ("conv2d", "ARM instructions")


def test_a_file_for_a_device_is_shown_by_its_kernels(bundle: Path) -> None:
    nb = read_nb(bundle / "model.arm.nb")
    graph = of_nb(nb, counted=None)
    assert len(graph.nodes) == len(nb.ops) - 2  # but feed and fetch
    assert graph.total == sum(param.bytes for param in nb.params)
    assert {node.precision for node in graph.nodes} >= {"float"}
    assert all(node.kernel for node in graph.nodes)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"layers": [{}]}', '{"layers": [{"layers": [],'
                                  ' "ops": [], "instructions": 1}]}'])  # fmt: skip
def test_counts_that_are_something_else_are_told(model: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "counts.json").write_text(text)
    with pytest.raises(DataError, match="is not what bench --by-layer --json prints"):
        page_of(model, counts=tmp_path / "counts.json")


def test_a_run_has_no_layers_to_colour(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "counts.json").write_text('{"layers": []}')
    with pytest.raises(UsageError, match="is a run: layers are counted of a model"):
        page_of(bundle / "reference", counts=tmp_path / "counts.json")


def test_the_page_is_opened_or_written(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(click, "launch", lambda url: opened.append(url) or 0)
    page = tmp_path / "tiny.html"
    done = CliRunner().invoke(paddle_edge, ["view", str(bundle), "-o", str(page)])
    assert (done.exit_code, opened) == (0, [])
    assert "model.arm.nb" in page.read_text() and "model.x86.nb" in page.read_text()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    done = CliRunner().invoke(paddle_edge, ["view", str(bundle / "reference")])
    assert done.output.endswith(", opened\n")
    (url,) = opened
    text = Path(url.removeprefix("file://")).read_text()
    assert Run.open(bundle / "reference").samples[0].id in text
    done = CliRunner().invoke(paddle_edge, ["view", str(bundle), "--json"])
    assert Path(json.loads(done.output)["page"]).is_file() and len(opened) == 1


@pytest.fixture
def page(browser: Browser, model: Path, tmp_path: Path) -> Iterator[Page]:
    """The page of a model whose names are hostile, which says nothing and asks for nothing."""
    program = diamond()
    for op in program.ops:
        for slots in (op.inputs, op.outputs):
            for names in slots.values():
                names[:] = [HOSTILE if name == "b" else name for name in names]
    program.vars[HOSTILE] = program.vars.pop("b")
    folder = make_model.save(program, tmp_path / "diamond")
    path = tmp_path / "page.html"
    path.write_text(page_of(folder), encoding="utf-8")
    it = browser.new_page(viewport={"width": 390, "height": 800})
    said: list[str] = []
    it.on("console", lambda message: said.append(message.text))
    it.on("pageerror", lambda error: said.append(str(error)))
    it.on("request", lambda request: said.append(request.url))
    it.goto(path.as_uri())
    assert said == [path.as_uri()]
    yield it
    it.close()


HOSTILE = "<script>alert('b')</script>\u202e"


def test_a_browser_shows_it_and_finds_rows(page: Page) -> None:
    assert page.locator(".graph tbody tr").count() == 5
    assert page.locator(".graph circle").count() == 5
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.get_by_label("Search").fill("ELEMENTWISE")
    assert page.locator("tr.found").count() == 2
    assert page.locator("tr.other").count() == 3
    assert page.get_by_role("status").inner_text() == "2 found"
    middles = page.evaluate(
        "(s => [...document.querySelectorAll(s)].map(e => {"
        " const b = e.getBoundingClientRect(); return Math.round(b.top + b.height / 2); }))"
        "('.graph circle, .graph tbody tr')"
    )
    assert all(abs(dot - row) <= 1 for dot, row in zip(middles[:5], middles[5:]))
    violations = Axe().run(page).response["violations"]
    assert [(rule["id"], rule["nodes"][0]["html"]) for rule in violations] == []


@pytest.mark.parametrize("manifest", ["fleet.json", "trial.json", "matrix.json"])
@pytest.mark.parametrize("asked", ["inspect", "view"])
def test_a_folder_of_several_is_said_to_be_one(asked: str, manifest: str, tmp_path: Path) -> None:
    (tmp_path / "several").mkdir()
    (tmp_path / "several" / manifest).write_text("{}")
    page = tmp_path / "page.html"
    words = [asked, str(tmp_path / "several"), *(["-o", str(page)] if asked == "view" else [])]
    done = CliRunner().invoke(paddle_edge, words)
    assert isinstance(done.exception, UsageError) and not page.exists()
    assert "name one of what is in it" in str(done.exception)
