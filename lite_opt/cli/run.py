"""`paddle-edge run`: what an engine answers to samples, and how fast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from lite_opt.cli import options as opt
from lite_opt.cli import pages
from lite_opt.cli.output import tell, watching
from lite_opt.subject import Subject, opened
from lite_opt.views import answers
from lite_opt.views.pictures import annotated, check_drawable
from py_runner.errors import PaddleEdgeError, UsageError
from py_runner.files.folder import check_free, whole_folder
from py_runner.formats.pipeline import is_pipeline
from py_runner.formats.run import Run
from py_runner.inference import run
from py_runner.pipeline.alone import fed_as
from py_runner.tasks import decode, name_of

__all__ = ["command"]


@click.command("run", cls=opt.Command)
@click.argument("model", metavar="BUNDLE|MODEL", type=opt.Reads())
@click.option("-o", "--out", type=opt.Writes(), required=True, help="The run to write.")
@click.option(
    "--data",
    type=opt.Reads(),
    help="Images, a list file `path label`, one folder a class, .npy or .npz. "
    "Default: the bundle's samples, or random tensors for a model.",
)
@opt.ENGINE
@opt.DEVICE
@opt.on_server()
@click.option("--threads", type=int, default=1, show_default=True, help="CPU threads.")
@click.option("--warmup", type=int, default=1, show_default=True, help="Unmeasured inferences.")
@click.option("--repeat", type=int, default=1, show_default=True, help="Inferences a sample.")
@click.option("--limit", type=opt.COUNT, help="Only the first samples.")
@click.option("--skip-bad", is_flag=True, help="Skip images that cannot be read, and name them.")
@click.option("--time-limit", "time_limit_s", type=float, help="Seconds that a sample may take.")
@click.option(
    "--memory-limit",
    "memory_limit_gb",
    type=float,
    help="GB that the engine may take. Default: by the sizes of model and sample.",
)
@click.option(
    "--top", type=opt.COUNT, default=1, show_default=True, help="Classes to show a sample."
)
@click.option(
    "--unsafe-int8",
    is_flag=True,
    help="Run int8 kernels on engine lite all the same: they compute wrong numbers on x86.",
)
@click.option(
    "--draw",
    type=opt.Writes(),
    help="Write the pictures here, with the boxes, masks or text that were found.",
)
@click.option(
    "--server",
    "servers",
    type=opt.StageModel(),
    multiple=True,
    help="Of a pipeline on engine paddle: the model that a stage was made from; one a stage.",
)
@click.option(
    "--against",
    type=opt.Reads(),
    help="A run of the same pictures, whose inputs the model, or each stage of a pipeline, is fed "
    "as well, so that `compare` tells which step makes a difference.",
)
@opt.PARAMS
@opt.IMAGE
@opt.LABELS
@opt.TASK
@opt.check_shape("Shape of random tensors.")
@opt.FORCE
@opt.JSON
@opt.DEBUG
def command(
    model: str,
    out: str,
    data: str | None,
    engine: str | None,
    device: str,
    limit: int | None,
    skip_bad: bool,
    top: int,
    draw: str | None,
    servers: Sequence[tuple[str, str]],
    against: str | None,
    params: str | None,
    image: str | None,
    labels: str | None,
    task: str | None,
    check_shape: Mapping[str, Sequence[tuple[int, ...]]],
    force: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Run a bundle or a pipeline on the edge engine, or a source model on the server engine.

    \b
    Examples:
      paddle-edge run cat.bundle --data photos/ -o edge.run
      paddle-edge run inference/ --data photos/ -o server.run --threads 2
      paddle-edge run det.bundle --data pages/ -o edge.run --draw drawn/
      paddle-edge run inference/ --data photos/ -o gpu.run --device gpu --tensorrt --precision fp16
      paddle-edge run ocr.bundle --data pages/ -o server.run --engine paddle \\
        --server detection=det/ --server direction=cls/ --server recognition=rec/
      paddle-edge run ocr.bundle --data pages/ -o edge.run --against server.run
      paddle-edge run det.bundle --data photos/ -o edge.run --against server.run
    """
    check_free(out, force=force)
    if draw:
        check_free(draw, force=force)
    beside = {"params": params, "image": image, "labels": labels, "task": task}
    if is_pipeline(model):
        given = {f"--{name}": value for name, value in beside.items()}
        pages.refuse(model, {**given, "--check-shape": check_shape or None})
        pages.run(
            model,
            out,
            data,
            engine=engine or "lite",
            device=device,
            servers=dict(servers),
            against=against,
            draw=draw,
            force=force,
            as_json=as_json,
            limit=limit,
            skip_bad=skip_bad,
            **options,
        )
        return
    if servers:
        raise UsageError(f"{model}: --server is for pipelines")
    if against and data is None:
        raise UsageError("--against feeds the pictures of another run: give --data")
    other = Run.open(against) if against else None
    warnings: list[str] = []
    with opened(model, engine=engine, device=device, **beside) as subject:
        if draw:
            inputs = [spec.name for spec in subject.model.inputs]
            check_drawable(data, subject.image, name_of(subject.model.task), inputs)
        samples = subject.samples(data, shapes=check_shape, limit=limit, skip_bad=skip_bad)
        with watching(as_json) as watch:
            done = run(
                subject.model,
                samples,
                engine=subject.engine,
                device=device,
                watch=replace(watch, warn=warnings.append),
                **options,
            )
            if other is not None:
                how = {**options, "engine": subject.engine, "device": device, "watch": watch}
                done = replace(done, fed=fed_as(subject.model, str(data), done, other, **how))
    done.save(out, force=force)
    if draw:
        _draw(done, subject, str(data), draw, force=force)
    skipped = getattr(samples, "skipped", ())
    document = {
        "run": out,
        **done.summary(),
        "skipped": [{"id": id_, "reason": reason} for id_, reason in skipped],
        "predictions": _decoded(done, subject, top, warnings),
        "warnings": warnings,
    }
    tell(document, answers.view(document), as_json=as_json)


def _decoded(done: Run, subject: Subject, top: int, warnings: list[str]) -> list[dict[str, Any]]:
    """The answers by their task; where they are not of it, a warning: the run is there already."""
    try:
        return decode(done, subject.labels, top=top)
    except PaddleEdgeError as error:
        warnings.append(f"the answers are not decoded: {error}")
        return []


def _draw(done: Run, subject: Subject, data: str, folder: str, *, force: bool) -> None:
    """Write the pictures of a run with what was found, numbered as its samples."""
    assert subject.image is not None  # `check_drawable` has seen to it
    pictures = annotated(
        done, data, subject.image, [spec.name for spec in subject.model.inputs], subject.labels
    )
    with whole_folder(folder, force=force) as place:
        for number, (id_, picture) in enumerate(pictures):
            picture.save(place / f"{number:06d}_{Path(id_).stem}.png")
