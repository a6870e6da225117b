"""The page at the root: drop a picture, see what edge and server say."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache

from lite_opt.views.templates import filled

__all__ = ["page"]


@cache
def page() -> tuple[str, str]:
    """The page, and the policy that it comes with: its own style and script and nothing else, and
    requests to the server that it is from."""
    text = filled("serving.html")
    allowed = {
        tag: " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}'"
            for part in re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        )
        for tag in ("script", "style")
    }
    return text, (
        "default-src 'none'; img-src blob: data:; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; "
        f"script-src {allowed['script']}; style-src {allowed['style']}"
    )
