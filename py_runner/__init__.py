"""Runs bundles and source models, on hosts and boards, and keeps what they answered.

from py_runner import Bundle, Run, dataset, run
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from py_runner.data.dataset import Dataset, dataset
    from py_runner.data.image import ImageSpec
    from py_runner.data.image_text import image_spec
    from py_runner.formats.bundle import Bundle
    from py_runner.formats.pages import Pages
    from py_runner.formats.pipeline import Pipeline
    from py_runner.formats.run import Run
    from py_runner.inference import run
    from py_runner.pipeline.ocr import read_pages
    from py_runner.tensors import Model, Sample, TensorSpec
    from py_runner.watch import Watch

__all__ = [
    "Bundle",
    "Dataset",
    "ImageSpec",
    "Model",
    "Pages",
    "Pipeline",
    "Run",
    "Sample",
    "TensorSpec",
    "Watch",
    "dataset",
    "image_spec",
    "read_pages",
    "run",
]

# Where each of these is, imported when it is asked for: what is not used costs nothing.
_HOMES = {
    "Bundle": "formats.bundle",
    "Dataset": "data.dataset",
    "ImageSpec": "data.image",
    "Model": "tensors",
    "Pages": "formats.pages",
    "Pipeline": "formats.pipeline",
    "Run": "formats.run",
    "Sample": "tensors",
    "TensorSpec": "tensors",
    "Watch": "watch",
    "dataset": "data.dataset",
    "image_spec": "data.image_text",
    "read_pages": "pipeline.ocr",
    "run": "inference",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
