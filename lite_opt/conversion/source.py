"""A source model with what lies beside it, as the server engine takes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lite_opt.judge.metric import Metric
from lite_opt.model.draws import draws_of
from lite_opt.model.load import load, save
from lite_opt.model.program import ModelFiles, Program
from lite_opt.passes.half import computes_in_half, widen_half
from lite_opt.quant.operators import is_quantized
from py_runner.data.image import ImageSpec
from py_runner.data.image_text import image_spec
from py_runner.data.inference_yml import read_image, read_label_list, read_task
from py_runner.data.labels import check_labels, read_labels
from py_runner.data.random_samples import Draws
from py_runner.data.roles import picture_input
from py_runner.data.task_spec import task_spec
from py_runner.data.yml_steps import UnsupportedError, beside
from py_runner.errors import DataError
from py_runner.tensors import Model, TensorSpec

__all__ = ["Source"]


@dataclass(frozen=True)
class Source:
    """A source model with what lies beside it: how to preprocess, the names of the classes, and
    what it does.

    draws: what random integers have to be to mean something to it.
    half: whether it computes in half floats. The server has few kernels for these on a CPU, and
    other numbers where it has them: there it runs with the same weights in float32.
    """

    files: ModelFiles
    inputs: tuple[TensorSpec, ...]
    image: ImageSpec | None
    labels: tuple[str, ...] | None
    precision: str = "fp32"
    warning: str = ""
    half: bool = False
    draws: Draws = field(default_factory=Draws)
    task: dict[str, Any] | None = None

    @classmethod
    def of(
        cls,
        program: Program,
        *,
        image: str | Path | None = None,
        labels: str | Path | None = None,
        task: str | None = None,
    ) -> Source:
        """Preprocessing, labels and task as given, or else from the `inference.yml` (or
        `infer_cfg.yml`, `deploy.yaml`) beside the model.

        What is there that we cannot follow becomes a `warning` where none is given. Raises
        DataError where that file is broken.
        """
        there = beside(program.files.model.parent)
        spec, names, does = None, None, None
        left_out = []
        if labels is not None:
            names = read_labels(labels)
        elif there:
            names = read_label_list(there)
        if image is not None:
            spec = image_spec(image)
        elif there:
            try:
                spec = read_image(there)
            except UnsupportedError as error:
                left_out.append(f"preprocessing is left out: {error}")
        if task is not None:
            does = task_spec(task)
        elif there:
            try:
                does = read_task(there)
            except UnsupportedError as error:
                left_out.append(f"the task is left out: {error}")
            except DataError:
                if image is None or labels is None:  # with both given the file is not needed
                    raise
        warning = "; ".join(left_out)
        half = computes_in_half(program)
        if half:
            told = "it computes in half floats: the server runs it in float32 as well"
            warning = f"{warning}; {told}" if warning else told
        check_labels(names, program.outputs, does)
        return cls(
            program.files,
            tuple(program.inputs),
            _fitting(spec, program.inputs),
            None if names is None else tuple(names),
            "int8" if is_quantized(program) else "fp32",
            warning,
            half,
            draws_of(program),
            does,
        )

    @property
    def name(self) -> str:
        """The file's own name, or the folder's where every model file is called alike."""
        stem = self.files.model.stem
        plain = ("inference", "model", "__model__")
        return self.files.model.absolute().parent.name if stem in plain else stem

    def model(self, folder: Path, *, sha256: str | None = None) -> Model:
        """The model as the server engine takes it; old forms are rewritten into `folder`."""
        files = self.files
        if files.model.suffix not in (".pdmodel", ".json") or files.params is None or self.half:
            program = load(files.model, params=files.params)
            if self.half:
                widen_half(program)
            files = save(program, folder)
        assert files.params is not None
        return Model(
            self.name,
            sha256 or self.files.sha256(),
            self.precision,
            (files.model, files.params),
            self.inputs,
            self.task,
            None if self.labels is None else tuple(self.labels),
            None if self.image is None else self.image.to_json(),
        )

    def metric(self, truth: str | Path | None = None) -> Metric:
        """By what its answers are judged; `truth` holds labels of whole samples."""
        return Metric(self.task, self.labels, None if truth is None else Path(truth))


def _fitting(spec: ImageSpec | None, inputs: Sequence[TensorSpec]) -> ImageSpec | None:
    """The preprocessing for a model whose width is fixed: a line of text then does not grow."""
    picture = picture_input(inputs)
    if spec is None or spec.resize != "line" or picture is None or len(picture.shape) != 4:
        return spec
    height, width = picture.shape[2:]
    return spec if width < 0 or height < 0 else replace(spec, resize="pad", size=(height, width))
