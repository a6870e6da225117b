"""A source model with what lies beside it, as the server engine takes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lite_opt.model.load import load, save
from lite_opt.model.program import ModelFiles, Program
from lite_opt.passes.half import computes_in_half, widen_half
from lite_opt.quant.operators import is_quantized
from py_runner.data.image import ImageSpec
from py_runner.data.image_text import image_spec
from py_runner.data.inference_yml import read_inference_yml
from py_runner.data.labels import check_labels, read_labels
from py_runner.errors import DataError
from py_runner.tensors import Model, TensorSpec

__all__ = ["Source"]


@dataclass(frozen=True)
class Source:
    """A source model with what lies beside it: how to preprocess, and the names of the classes.

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

    @classmethod
    def of(
        cls,
        program: Program,
        *,
        image: str | Path | None = None,
        labels: str | Path | None = None,
    ) -> Source:
        """Preprocessing and labels as given, or else from `inference.yml` beside the model.

        One beside the model that we cannot follow (detection, say) becomes a `warning`.
        """
        beside = program.files.model.with_name("inference.yml")
        spec, names, warning = None, None, ""
        if beside.is_file() and (image is None or labels is None):
            try:
                spec, names = read_inference_yml(beside)
            except DataError as error:
                warning = f"preprocessing is left out: {error}"
        if image is not None:
            spec = image_spec(image)
        if labels is not None:
            names = read_labels(labels)
        half = computes_in_half(program)
        if half:
            told = "it computes in half floats: the server runs it in float32 as well"
            warning = f"{warning}; {told}" if warning else told
        check_labels(names, program.outputs)
        return cls(
            program.files,
            tuple(program.inputs),
            spec,
            None if names is None else tuple(names),
            "int8" if is_quantized(program) else "fp32",
            warning,
            half,
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
        )
