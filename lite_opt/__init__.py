"""Makes bundles of Paddle models for ARM, and judges runs against each other.

from lite_opt import compare, convert
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lite_opt.conversion.convert import Conversion, convert
    from lite_opt.judge.compare import Report, compare
    from lite_opt.judge.layers import bundle_layers, first_difference
    from lite_opt.judge.limits import Limits
    from lite_opt.judge.pages import PagesReport, compare_pages
    from lite_opt.judge.vote import Vote, vote
    from lite_opt.model.load import load, save
    from lite_opt.model.program import Program
    from lite_opt.passes.repair import repair
    from lite_opt.recipes import Recipe, recipe

__all__ = [
    "Conversion",
    "Limits",
    "PagesReport",
    "Program",
    "Recipe",
    "Report",
    "Vote",
    "bundle_layers",
    "compare",
    "compare_pages",
    "convert",
    "first_difference",
    "load",
    "recipe",
    "repair",
    "save",
    "vote",
]

# Where each of these is, imported when it is asked for: what is not used costs nothing.
_HOMES = {
    "Conversion": "conversion.convert",
    "Limits": "judge.limits",
    "PagesReport": "judge.pages",
    "Program": "model.program",
    "Recipe": "recipes",
    "Report": "judge.compare",
    "Vote": "judge.vote",
    "bundle_layers": "judge.layers",
    "compare": "judge.compare",
    "compare_pages": "judge.pages",
    "convert": "conversion.convert",
    "first_difference": "judge.layers",
    "load": "model.load",
    "recipe": "recipes",
    "repair": "passes.repair",
    "save": "model.load",
    "vote": "judge.vote",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
