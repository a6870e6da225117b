"""`paddle-edge demo` holds what it promises, on the trained models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lite_opt.demo.demo import demo
from py_runner.errors import UsageError
from py_runner.formats.bundle import Bundle
from py_runner.formats.run import Run
from py_runner.watch import Watch


@pytest.mark.slow
def test_the_demo(tmp_path: Path) -> None:
    said: list[str] = []
    done = demo(tmp_path / "demo", lines=200, watch=Watch(say=said.append))
    assert done
    report = done.text_lines
    assert report.samples == 200 and report.top1_agreement == 1.0
    assert report.accuracy is not None
    assert min(report.accuracy["reference_top1"], report.accuracy["candidate_top1"]) >= 0.93
    page = done.page.report
    assert page and page.pages == 1 and not page.culprit
    rates = {rate.name: rate for rate in page.rates}
    assert rates["lines equal"].value == 1.0 and rates["lines equal"].units == 7
    assert rates["right lines, candidate"].value == 1.0
    with Image.open(tmp_path / "demo" / "page" / "page.png") as drawn:
        height, width = done.page.edge.pages[0].height, done.page.edge.pages[0].width
        assert drawn.width == 2 * width and drawn.height > 2 * height
        inside = np.asarray(drawn.convert("RGB"))[-height:]
        assert np.array_equal(inside[:, :width], inside[:, width:])  # they read the same
    by_photo = {server["id"]: (server["top"], edge["top"]) for server, edge in done.photos}
    for server, edge in by_photo.values():
        assert [c["name"] for c in server] == [c["name"] for c in edge]
    cat = [c["index"] for c in by_photo["chelsea.png"][1]]
    assert {281, 282, 285} == set(cat[:3])  # tabby, tiger cat, Egyptian cat
    assert by_photo["coffee.png"][1][0]["name"] == "espresso"
    for folder in ("text-direction", "photographs"):
        kept = tmp_path / "demo" / folder
        assert Bundle.open(kept / "bundle").check["status"] == "passed"
        assert Run.open(kept / "server.run").samples == Run.open(kept / "edge.run").samples
        assert "PASSED" in (kept / "report.html").read_text(encoding="utf-8")
    assert any("edge engine" in text for text in said)


def test_the_demo_needs_lines(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 2"):
        demo(tmp_path / "demo", lines=1)
    assert not list(tmp_path.iterdir())
