"""The pages and drawings, to be filled in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lite_opt.views.text import visible

__all__ = ["filled"]


def filled(name: str, **values: Any) -> str:
    """The template of that name in this folder with its values, which are escaped, and shown as
    `text.visible` has them.

    One that it asks for and that is missing raises, instead of leaving a hole.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=_finalized,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(name).render(**values)


def _finalized(value: Any) -> Any:
    return visible(value) if type(value) is str else value  # Markup is ours
