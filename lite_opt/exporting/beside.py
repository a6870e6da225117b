"""What is written beside an exported model: an inference.yml as PaddleClas writes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lite_opt.exporting.architecture import Architecture, transform_ops
from py_runner.data.image_text import image_spec
from py_runner.data.inference_yml import read_image
from py_runner.data.labels import read_labels
from py_runner.data.yml_steps import UnsupportedError
from py_runner.tensors import TensorSpec

__all__ = ["Beside"]

_FILE = "inference.yml"
_IMAGENET_CLASSES = 1000
_IMAGENET_LABELS = ("ppcls", "utils", "imagenet1k_label_list.txt")
_TOPK = 5


@dataclass(frozen=True)
class Beside:
    """Preprocessing and names of the classes of a network, as far as they are known.

    labels: the names, or None; those of ImageNet are PaddleClas' to give, see `write`.
    missing: a file of labels that a config names and that is not there.
    """

    name: str
    transforms: list[Any] | None
    labels: list[str] | None
    missing: Path | None = None

    @classmethod
    def of(
        cls, plan: Architecture, *, image: str | Path | None, labels: str | Path | None
    ) -> Beside:
        """As given, else as the plan has it. Raises UsageError and DataError for what is given."""
        transforms = plan.transforms if image is None else transform_ops(image_spec(image))
        file = Path(labels) if labels is not None else plan.label_file
        missing = labels is None and file is not None and not file.is_file()
        names = read_labels(file) if file is not None and not missing else None
        return cls(plan.name, transforms, names, file if missing else None)

    def write(self, folder: Path, package: str | None, outputs: Sequence[TensorSpec]) -> list[str]:
        """Write it into a model's folder, if there is something; returns what was left out and why.

        package: the folder of PaddleClas, which has ImageNet's names for a model of 1,000 classes.
        """
        left_out = []
        labels = self.labels
        if self.missing is not None:
            left_out.append(f"labels are left out: {self.missing}: there is no such file")
        elif labels is None and package and outputs[0].shape[-1:] == (_IMAGENET_CLASSES,):
            labels = read_labels(Path(package, *_IMAGENET_LABELS))
        sections: dict[str, Any] = {"Global": {"model_name": self.name}}
        if labels is not None:
            sections["PostProcess"] = {"Topk": {"topk": _TOPK, "label_list": labels}}
        if self.transforms is not None:
            sections["PreProcess"] = {"transform_ops": self.transforms}
        file = folder / _FILE
        if len(sections) == 1:
            return left_out
        file.write_text(_text(sections), encoding="utf-8")
        try:
            read_image(file)
        except UnsupportedError as error:
            reason = str(error).replace(f"{file}: ", "")
            left_out.append(f"preprocessing is left out: {reason}")
            del sections["PreProcess"]
            file.write_text(_text(sections), encoding="utf-8")
        return left_out


def _text(sections: dict[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(sections, sort_keys=False, allow_unicode=True)
