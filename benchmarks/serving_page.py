"""Writes docs/serving-light.png and docs/serving-dark.png: the page of a server with a cat on it.

    python benchmarks/serving_page.py

EfficientNet-Lite0, trained on ImageNet, on the x86 engine, and the server engine beside it; in
light on a desktop's width, in dark on a phone's. Needs the group `demo` and chromium.
"""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright
from serving import serving_bundle

from lite_opt.conversion.convert import convert
from lite_opt.demo.efficientnet_lite import efficientnet_lite0
from lite_opt.demo.packages import imagenet_labels, photos

DOCS = Path(__file__).parents[1] / "docs"
_PICTURE = "chelsea.png"


def main() -> None:
    cat = next(file for file in photos() if file.name == _PICTURE)
    with tempfile.TemporaryDirectory() as folder:
        model = efficientnet_lite0(Path(folder) / "EfficientNet-Lite0")
        names = Path(folder) / "names.txt"
        names.write_text("\n".join(imagenet_labels()), encoding="utf-8")
        bundle = Path(folder) / "cat.bundle"
        assert convert(model, bundle, target=["x86"], samples=cat, labels=names)
        with (
            serving_bundle(bundle, ["--server", str(model)]) as (_, address),
            sync_playwright() as driver,
        ):
            root = ["--no-sandbox"] if os.geteuid() == 0 else []
            it = driver.chromium.launch(executable_path=shutil.which("chromium"), args=root)
            _picture(it, address, cat, "light", 1000)
            _picture(it, address, cat, "dark", 390)


def _picture(browser: Browser, address: str, file: Path, scheme: str, width: int) -> None:
    page = browser.new_page(
        viewport={"width": width, "height": 700},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    page.goto(address)
    page.wait_for_selector("#model option", state="attached")
    for _ in range(2):  # the first answer of an engine is its slowest
        page.set_input_files("#file", [])
        page.set_input_files("#file", file)
        page.wait_for_selector("#status strong")
    page.locator("article").nth(1).wait_for()
    taken = Image.open(io.BytesIO(page.screenshot(full_page=True)))
    taken.quantize(128).save(DOCS / f"serving-{scheme}.png", optimize=True)
    page.close()
    print(f"wrote serving-{scheme}.png")


if __name__ == "__main__":
    main()
