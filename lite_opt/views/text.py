"""Names of files, labels and models as they may be shown: they are somebody else's text."""

from __future__ import annotations

import re

__all__ = ["one_line", "visible"]

# Control characters but tab and end of line, marks of the direction of writing, lone surrogates.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


def visible(text: str) -> str:
    """The text with an escape, such as "\\x1b", for what would move a cursor, colour, turn the
    direction of writing, or cannot be encoded or stand in XML."""
    return _UNSEEN.sub(lambda found: ascii(found[0])[1:-1], text)


def one_line(text: str) -> str:
    """`visible`, with ends of lines as escapes."""
    return visible(text).replace("\n", r"\n")
