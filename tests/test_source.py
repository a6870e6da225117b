"""What lies beside a model: followed, left out with a word, or refused, and nothing of it lost."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lite_opt.conversion.source import Source
from lite_opt.model.load import load
from py_runner.errors import DataError

NAMES = "PostProcess:\n  Topk:\n    label_list: [" + ", ".join("abcdefghij") + "]\n"
DETECTION = "Preprocess:\n  - type: Resize\n" + NAMES


def with_yml(model: Path, folder: Path, text: str) -> Path:
    copy = Path(shutil.copytree(model, folder / "m"))
    (copy / "inference.yml").write_text(text)
    return copy


def test_labels_stay_where_the_preprocessing_cannot_be_followed(
    model: Path, image_spec: str, tmp_path: Path
) -> None:
    program = load(with_yml(model, tmp_path, DETECTION))
    classes = program.outputs[0].shape[-1]
    if classes != 10:
        names = ", ".join(f"c{i}" for i in range(classes))
        (tmp_path / "m" / "inference.yml").write_text(
            "Preprocess: []\nPostProcess:\n  Topk:\n    label_list: [" + names + "]\n"
        )
    left_out = Source.of(program)
    assert left_out.warning.startswith("preprocessing is left out: ")
    assert left_out.image is None and left_out.labels is not None
    given = Source.of(program, image=image_spec)
    assert given.warning == "" and given.image is not None
    assert given.labels is not None and len(given.labels) == classes


@pytest.mark.parametrize(
    ("text", "telling"),
    [
        ("PreProcess: {", "not a YAML file"),
        ("- 1", "it has no sections"),
        ("PreProcess: 3", "PreProcess has no list"),
        ("PreProcess:\n  transform_ops:\n  - 3", "which is no op"),
        ("PostProcess:\n  Topk:\n    label_list: 3", "label_list is no list"),
    ],
)
def test_a_broken_file_is_an_error(text: str, telling: str, model: Path, tmp_path: Path) -> None:
    program = load(with_yml(model, tmp_path, text))
    with pytest.raises(DataError, match=telling):
        Source.of(program)


def test_a_broken_file_that_is_not_needed_is_not_read(
    model: Path, image_spec: str, tmp_path: Path
) -> None:
    program = load(with_yml(model, tmp_path, "PreProcess: {"))
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(f"c{i}" for i in range(program.outputs[0].shape[-1])))
    assert Source.of(program, image=image_spec, labels=labels).warning == ""
