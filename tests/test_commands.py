"""The command lines of the documents end with exit code 0, in the order in which they stand."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from lite_opt.cli.main import main
from lite_opt.demo.packages import ocr_model
from lite_opt.demo.text_lines import text_lines

ROOT = Path(__file__).parents[1]
LINES = 48
DESCRIPTION = """
PreProcess:
  transform_ops:
  - DecodeImage: {channel_first: false, img_mode: BGR}
  - ClsResizeImg: {image_shape: [3, 48, 192]}
PostProcess: {name: ClsPostProcess, label_list: ['0', '180']}
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the documents take to be there: a trained model as Paddle exports it (the
    direction classifier of PP-OCR), pictures for it, and a list of them with labels."""
    shutil.copytree(ocr_model("cls"), tmp_path / "inference")
    (tmp_path / "inference" / "inference.yml").write_text(DESCRIPTION)
    (tmp_path / "photos").mkdir()
    listed = []
    for index, line in enumerate(text_lines(LINES, seed=4)):
        line.image.save(tmp_path / "photos" / f"{index:02d}.png")
        listed.append(f"photos/{index:02d}.png {line.label}\n")
    (tmp_path / "val.txt").write_text("".join(listed))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def commands(page: str) -> list[list[str]]:
    """The words of each `paddle-edge` line in the code blocks of a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```(?:bash)?\n(.*?)^```", text, re.S | re.M)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.startswith("paddle-edge ")]


def written(words: list[str]) -> list[Path]:
    """What a command makes, which it would not replace where another one made it before."""
    options = ("-o", "--save-quantized")
    return [Path(after) for word, after in zip(words, words[1:]) if word in options]


@pytest.mark.slow
@pytest.mark.parametrize(("page", "least"), [("README.md", 7), ("docs/quantising.md", 10)])
def test_the_commands_of_a_page_end_well(
    page: str, least: int, place: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    found = commands(page)
    assert len(found) >= least
    for words in found:
        for path in written(words):
            shutil.rmtree(path, ignore_errors=True)
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code, f"{shlex.join(words)}: {capfd.readouterr().err}"
        assert all(path.exists() for path in written(words))
