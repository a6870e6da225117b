"""`paddle-edge run`: what an engine answers to samples, and how fast."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from lite_opt.cli import options as opt
from lite_opt.cli import pages
from lite_opt.cli.output import tell, watching
from lite_opt.cli.spreading import workers_for
from lite_opt.cli.stopping import stopping
from lite_opt.fleet import run_each
from lite_opt.subject import Subject, opened
from lite_opt.views import answers
from lite_opt.views.devices import fleet
from lite_opt.views.pictures import annotated, check_drawable, save_pictures
from py_runner.errors import PaddleEdgeError, UsageError
from py_runner.evaluation import check_place, evaluate
from py_runner.files.folder import check_free
from py_runner.files.url import Url, shown
from py_runner.formats.pipeline import is_pipeline
from py_runner.formats.run import Run
from py_runner.job import Job
from py_runner.pipeline.alone import fed_as
from py_runner.tasks import decode, name_of

__all__ = ["command"]


@click.command("run", cls=opt.Command)
@click.argument("model", metavar="BUNDLE|MODEL", type=opt.Reads())
@click.option(
    "-o",
    "--out",
    type=opt.Writes(urls=True),
    required=True,
    help="The run to write, a folder or a URL such as s3://bucket/edge.run.",
)
@click.option(
    "--data",
    type=opt.Reads(urls=True),
    help="Images, a list file `path label`, one folder a class, .npy or .npz, or a URL of such. "
    "Default: the bundle's samples, or random tensors for a model.",
)
@opt.ENGINE
@opt.FLEET
@opt.on_server()
@click.option("--threads", type=int, default=1, show_default=True, help="CPU threads.")
@click.option("--warmup", type=int, default=1, show_default=True, help="Unmeasured inferences.")
@click.option("--repeat", type=int, default=1, show_default=True, help="Inferences a sample.")
@click.option("--limit", type=opt.COUNT, help="Only the first samples.")
@click.option(
    "--shard",
    type=opt.SHARD,
    help="Only this part of the samples, 3/16 the third of 16: `paddle-edge merge` puts the runs "
    "of all parts together.",
)
@click.option(
    "--skip-bad",
    is_flag=True,
    help="Go on without images that cannot be read and samples that the engine fails at, and name "
    "them.",
)
@click.option(
    "--on",
    type=opt.ON,
    help="Answer on several engines side by side: local[4] here, or on the nodes of a Ray cluster, "
    "ray where RAY_ADDRESS says or this machine is one of it. Latencies are then not those of an "
    "engine alone.",
)
@click.option(
    "--spread",
    is_flag=True,
    help="Spread the samples over several devices, each with a --device, into one run.",
)
@click.option("--resume", is_flag=True, help="Go on where this run stopped, if it had begun.")
@click.option(
    "--keep-every",
    "part_s",
    type=float,
    default=10.0,
    show_default=True,
    help="Seconds after which answers are on disk, for --resume.",
)
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
    out: str | Url,
    data: str | Url | None,
    engine: str | None,
    devices: tuple[str, ...],
    limit: int | None,
    shard: tuple[int, int] | None,
    skip_bad: bool,
    on: str | None,
    spread: bool,
    resume: bool,
    part_s: float,
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
) -> bool:
    """Run a bundle or a pipeline on the edge engine, or a source model on the server engine.

    Answers are on disk as they come, and -o is a run under way until all are there: --resume goes
    on with it after Ctrl-C, a crash or a full disk. Exits 130 or 143 after Ctrl-C or SIGTERM.

    Of several devices each makes a Run, in the folder of -o, called after it; where one fails the
    others go on. A table names those that are unlike the others. Exits 1 where a device failed, or
    answers otherwise than most.

    \b
    Examples:
      paddle-edge run cat.bundle --data photos/ -o edge.run
      paddle-edge run inference/ --data photos/ -o server.run --threads 2
      paddle-edge run cat.bundle --data imagenet/ -o edge.run --skip-bad --resume
      paddle-edge run cat.bundle --data imagenet/ -o part3.run --shard 3/16
      paddle-edge run det.bundle --data pages/ -o edge.run --draw drawn/
      paddle-edge run inference/ --data photos/ -o gpu.run --device gpu --tensorrt --precision fp16
      paddle-edge run ocr.bundle --data pages/ -o server.run --engine paddle \\
        --server detection=det/ --server direction=cls/ --server recognition=rec/
      paddle-edge run ocr.bundle --data pages/ -o edge.run --against server.run
      paddle-edge run det.bundle --data photos/ -o edge.run --against server.run
      paddle-edge run cat.bundle --data imagenet/ -o edge.run --on local[4]
      paddle-edge run cat.bundle --data /shared/imagenet -o edge.run --on ray://head:10001
      paddle-edge run cat.bundle --data s3://bucket/imagenet -o s3://bucket/edge.run --resume
      paddle-edge run cat.bundle --device ssh://pi4 --device ssh://pi5 -o fleet
      paddle-edge run cat.bundle --data imagenet/ -o edge.run --device ssh://pi4 \\
        --device ssh://pi5 --spread
    """
    if on is not None and on.startswith("ray") and isinstance(data, str):
        data = str(Path(data).absolute())  # nodes work in folders of their own
    workers = workers_for(on, devices, data, spread=spread, threads=options["threads"])
    _check_here(
        model,
        out,
        data,
        {"--draw": draw, "--against": against},
        several=len(devices) > 1 and not spread,
    )
    if len(devices) > 1 and not spread:
        beside_one = {"--draw": draw, "--against": against, "--server": servers or None}
        return _on_each(
            model, devices, str(out), beside_one, force=force, resume=resume, as_json=as_json
        )
    device = devices[0]
    if draw:
        check_free(draw, force=force or resume)
    beside = {"params": params, "image": image, "labels": labels, "task": task}
    if is_pipeline(model):
        given: dict[str, Any] = {f"--{name}": value for name, value in beside.items()}
        others = {
            "--check-shape": check_shape or None,
            "--shard": shard,
            "--resume": resume or None,
            "--on": on,
            "--spread": spread or None,
        }
        pages.refuse(model, {**given, **others})
        check_free(out, force=force)
        pages.run(
            model,
            str(out),
            None if data is None else str(data),
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
        return True
    check_place(out, resume=resume, force=force)
    if servers:
        raise UsageError(f"{model}: --server is for pipelines")
    if against and data is None:
        raise UsageError("--against feeds the pictures of another run: give --data")
    other = Run.open(against) if against else None
    warnings: list[str] = []
    again = opt.again_words(("--force", "--resume"))
    with opened(model, engine=engine, device=device, **beside) as subject:
        if draw:
            inputs = [spec.name for spec in subject.model.inputs]
            pictures = None if data is None else str(data)
            check_drawable(pictures, subject.image, name_of(subject.model.task), inputs)
        samples = subject.samples(data, shapes=check_shape, limit=limit, skip_bad=skip_bad)
        of_all = None
        if shard:
            of_all = {"index": shard[0], "of": shard[1], "total": len(samples)}
            samples = samples.part(*shard)
        job = Job(
            subject.model,
            subject.engine,
            ", ".join(devices),
            part_s=part_s,
            failed=[] if skip_bad else None,
            **options,
        )
        with watching(as_json) as watch, stopping() as wish:

            def document(done: Run) -> dict[str, Any]:
                # A person is shown the first answers only: those of 50,000 take their time.
                shown = done if as_json else done.first(answers.SHOWN)
                return {
                    "run": str(out),
                    **done.summary(most_inline=sys.maxsize if as_json else 0),
                    "skipped": [{"id": id_, "reason": why} for id_, why in samples.skipped],
                    "predictions": _decoded(shown, subject, top, warnings),
                    "warnings": list(dict.fromkeys(warnings)),
                }

            told: dict[str, Any] = {}

            def finish(done: Run) -> Run:
                if other is not None:
                    how = {**options, "engine": subject.engine, "device": device, "watch": watch}
                    done = replace(done, fed=fed_as(subject.model, str(data), done, other, **how))
                told.update(document(done))  # what it is made of is read here anyway
                return done

            evaluate(
                job,
                samples,
                out,
                command=("paddle-edge", *map(shown, again), "--resume"),
                shard=of_all,
                resume=resume,
                force=force,
                finish=finish,
                on=workers,
                watch=replace(watch, warn=warnings.append, enough=wish),
            )
        told = told or document(Run.open(out))
    if draw:
        _draw(Run.open(out), subject, str(data), draw, force=force or resume)
    tell(told, answers.view(told), as_json=as_json)
    return True


def _check_here(
    model: str,
    out: str | Url,
    data: str | Url | None,
    reading: Mapping[str, str | None],
    *,
    several: bool,
) -> None:
    """Raise UsageError for a URL where a folder here is needed; options that are `reading` the
    pictures once more need those here, too."""
    used = next((name for name, value in reading.items() if value is not None), None)
    if isinstance(data, Url) and used:
        raise UsageError(f"{data}: {used} needs the pictures on this machine")
    for url in (one for one in (out, data) if isinstance(one, Url)):
        if is_pipeline(model):
            raise UsageError(f"{url}: a pipeline reads and writes folders of this machine")
        if several and url is out:
            raise UsageError(f"{url}: runs of several devices are written to a folder here")


def _on_each(
    model: str,
    devices: Sequence[str],
    out: str,
    beside_one: Mapping[str, Any],
    *,
    force: bool,
    resume: bool,
    as_json: bool,
) -> bool:
    """The command that is running, on each device; `beside_one` are options that only one takes."""
    given = [name for name, value in beside_one.items() if value is not None]
    if given or is_pipeline(model):
        what = given[0] if given else f"{model}: a pipeline"
        raise UsageError(f"{what} is for one --device, not {len(devices)}")
    folder = Path(out)
    if folder.exists() and not (force or resume):
        raise UsageError(f"{out}: exists already; choose another name or pass --force")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{out}: is a file, and a folder is to be written there")
    words = opt.again_words(("--device", "-o", "--out", "--json"))
    with watching(as_json) as watch, stopping() as wish:
        document = run_each(words, devices, folder, replace(watch, enough=wish))
    tell(document, fleet(document), as_json=as_json)
    return bool(document["passed"])


def _decoded(done: Run, subject: Subject, top: int, warnings: list[str]) -> list[dict[str, Any]]:
    """The answers by their task; where they are not of it, a warning: the run is there already."""
    try:
        return list(decode(done, subject.labels, top=top))
    except PaddleEdgeError as error:
        warnings.append(f"the answers are not decoded: {error}")
        return []


def _draw(done: Run, subject: Subject, data: str, folder: str, *, force: bool) -> None:
    """Write the pictures of a run with what was found, numbered as its samples."""
    assert subject.image is not None  # `check_drawable` has seen to it
    pictures = annotated(
        done, data, subject.image, [spec.name for spec in subject.model.inputs], subject.labels
    )
    save_pictures(pictures, folder, force=force)
