"""What several test files need: tools that must be there in CI, and made models and bundles."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import make_model
import numpy as np
import pytest
from make_int8 import repaired, samples_of

from lite_opt.conversion.convert import convert
from lite_opt.model.load import load
from lite_opt.quant.calibrate import calibrate
from lite_opt.quant.mixed import Quantized
from lite_opt.recipes import Calibration
from py_runner.data.dataset import Dataset, dataset
from py_runner.engines import lite
from py_runner.errors import EngineError
from py_runner.files.url import Place
from py_runner.formats.bundle import Bundle
from py_runner.formats.run import Run
from py_runner.inference import run
from py_runner.tensors import Model

if TYPE_CHECKING:
    from playwright.sync_api import Browser

COUNT = 40  # pictures of a longer run
_STATES: dict[str, Any] = {}  # of each module's RANDOM as the module was imported


def need(condition: bool, what: str) -> None:
    """Skip where a tool is missing on a laptop; fail where CI lacks it."""
    if not condition:
        if os.environ.get("CI"):
            pytest.fail(f"CI needs {what}")
        pytest.skip(f"needs {what}")


@pytest.fixture(autouse=True)
def same_draws(request: pytest.FixtureRequest) -> None:
    """What a module's RANDOM gives a test does not hang on which tests came before."""
    random = getattr(request.module, "RANDOM", None)
    if isinstance(random, np.random.Generator):
        random.bit_generator.state = _STATES.setdefault(
            request.module.__name__, random.bit_generator.state
        )


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium of the system."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("chromium-browser")
    need(program is not None, "chromium")
    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as driver:
        it = driver.chromium.launch(executable_path=program, args=root)
        yield it
        it.close()


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the tiny classifier."""
    return make_model.save(make_model.classifier(), tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def image_spec() -> str:
    """Preprocessing that fits the tiny classifier."""
    return f"resize=short:20,crop={make_model.SIDE}"


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of six small pictures."""
    return make_model.pictures(tmp_path_factory.mktemp("photos") / "photos")


@pytest.fixture(scope="session")
def bundle(
    model: Path, image_spec: str, photos: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The tiny classifier as a bundle for arm and x86, checked on the pictures."""
    try:
        lite.interpreter()
    except EngineError as error:
        need(False, str(error))
    out = tmp_path_factory.mktemp("bundle") / "tiny.bundle"
    assert convert(model, out, image=image_spec, samples=photos)
    return out


@pytest.fixture(scope="session")
def edge(bundle: Path) -> Model:
    """What that bundle has for x86."""
    return Bundle.open(bundle).model("x86")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of `COUNT` small pictures."""
    return make_model.pictures(tmp_path_factory.mktemp("many") / "pictures", COUNT)


def data_of(bundle: Path, path: Place, **options: Any) -> Dataset:
    """What is at a path, as the bundle takes it."""
    opened = Bundle.open(bundle)
    return dataset(path, inputs=opened.inputs, image=opened.image, **options)


@pytest.fixture(scope="session")
def data(bundle: Path, pictures: Path) -> Dataset:
    """Those pictures."""
    return data_of(bundle, pictures)


@pytest.fixture(scope="session")
def undisturbed(edge: Model, data: Dataset) -> Run:
    """What one engine answers to them."""
    return run(edge, data)


def same(a: Run, b: Run) -> bool:
    """Whether ids, order and answers are bit by bit the same."""
    return list(a.samples) == list(b.samples) and all(
        x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()
        for name in a.outputs
        for x, y in zip(a.outputs[name], b.outputs[name])
    )


@pytest.fixture(scope="session")
def calibrated(model: Path) -> Quantized:
    """The tiny classifier in int8, next to its repaired float form."""
    program = repaired(load(model))
    return Quantized.of(calibrate(program, samples_of(program), Calibration()), program)


@pytest.fixture(scope="session")
def calibration_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve random tensors for the tiny classifier, and their first classes as labels."""
    path = tmp_path_factory.mktemp("calibration") / "data.npy"
    shape = (12, 3, make_model.SIDE, make_model.SIDE)
    np.save(path, np.random.default_rng(0).standard_normal(shape).astype("float32"))
    return path


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `cmake --install` makes of the host's build."""
    from test_native import built

    need(importlib.util.find_spec("paddlelite") is not None, "paddlelite")
    out = tmp_path_factory.mktemp("build") / "lite_run"
    host = built("host", "lite_run_command", PADDLE_EDGE_LITE_PYTHON=sys.executable)
    argv = ["cmake", "--install", str(host), "--prefix", str(out)]
    subprocess.run(argv, check=True, capture_output=True)
    return out
