"""The ONNX file of a bundle, made from whichever form of the model comes out right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lite_opt.conversion import judges
from lite_opt.conversion.judges import Case, CheckFailedError, Verdict
from lite_opt.conversion.source import Source
from lite_opt.conversion.steps import Models
from lite_opt.model.load import stage
from lite_opt.onnx.exporter import Form, export_onnx
from py_runner.errors import ConvertError, EngineError
from py_runner.files.folder import temporary_folder
from py_runner.formats.bundle import Target
from py_runner.watch import Watch

__all__ = ["make_onnx"]

_FILE = "model.onnx"


def make_onnx(
    models: Models, source: Source, folder: Path, case: Case | None, watch: Watch
) -> tuple[Target, Verdict | None]:
    """Write `model.onnx` into `folder` and have ONNX Runtime judge it; unjudged without a case.

    The repaired model is tried first, then the source model as it is: the first that is right is
    taken, and the Target says which. Raises CheckFailedError where one is wrong and none right,
    ConvertError where Paddle2ONNX refuses both, or ONNX Runtime what it makes.
    """
    out = folder / _FILE
    wrong: CheckFailedError | None = None
    refused: list[str] = []
    with temporary_folder() as temporary:
        for form in _forms(models, source, temporary):
            watch.say(f"making the ONNX file from {form.name}")
            try:
                made = export_onnx(form, out)
                return made, None if case is None else judges.onnx(case, out)
            except CheckFailedError as failed:
                watch.say(f"ONNX Runtime is wrong on the file made from {form.name}")
                wrong = wrong or failed
            except (ConvertError, EngineError) as error:
                refused.append(f"from {form.name}: {str(error).replace(str(folder), source.name)}")
    if wrong is not None:
        raise wrong
    raise ConvertError(
        f"{source.files.model}: no ONNX file can be made; {'; '.join(refused)}; "
        "leave onnx out of --target"
    )


def _forms(models: Models, source: Source, folder: Path) -> Iterator[Form]:
    yield Form("the repaired model", stage(models.program, folder))
    files = source.files
    combined = files.params is not None and files.params.is_file()
    if combined and files.model.suffix in (".json", ".pdmodel") and source.precision == "fp32":
        yield Form("the source model", files)
