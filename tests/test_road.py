"""docs/road.md: every command of the page is run, in order, and what it prints is looked at."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import road

PAGE = """
```bash
one
```

text

```bash
two --device qemu-aarch64:pi4
```

```
old
```

## end
"""


def test_outputs_are_put_below_their_blocks() -> None:
    assert road.blocks(PAGE) == ["one\n", "two --device qemu-aarch64:pi4\n"]
    once = road.with_outputs(PAGE, {"one\n": "said  \nmore"})
    assert "```bash\none\n```\n\n```\nsaid\nmore\n```\n\ntext" in once and "old" in once
    assert road.with_outputs(once, {"one\n": "said\nmore"}) == once
    assert "old" not in road.with_outputs(once, {road.blocks(PAGE)[1]: "new"})


def test_a_block_that_fails_is_told(tmp_path: Path) -> None:
    page = "```bash\necho first\n```\n\n```bash\necho said; false\n```\n"
    with pytest.raises(RuntimeError, match=r"(?s)ended with code 1:\nsaid"):
        road.walk(tmp_path, page, os.environ)
    assert road.walk(tmp_path, page.replace("false", "true"), os.environ) == {
        "echo first\n": "first",
        "echo said; true\n": "said",
    }


@pytest.mark.slow
def test_the_commands_of_the_road(tmp_path: Path) -> None:
    road.prepare(tmp_path)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    page = road.PAGE.read_text(encoding="utf-8")
    printed = [*road.walk(tmp_path, page, {**os.environ, "PATH": path}).values()]
    assert "answers as the network does" in printed[0]
    assert "stands alone" not in printed[3]
    answers = json.loads(printed[5].splitlines()[-1])
    assert answers["edge"]["engine"] == "lite" and answers["server"]["engine"] == "paddle"
    assert answers["agreement"]["passed"]
