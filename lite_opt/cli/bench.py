"""`paddle-edge bench`: latency for thread counts, or instructions on emulated boards."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from lite_opt.bench import Bench, bench, count
from lite_opt.bench import by_layer as layer_costs
from lite_opt.cli import options as opt
from lite_opt.cli.output import tell, watching
from lite_opt.views import latency
from lite_opt.views.table import Item
from py_runner.devices import BOARDS
from py_runner.errors import UsageError
from py_runner.files import manifest
from py_runner.files.folder import check_free, whole_folder
from py_runner.watch import Watch

__all__ = ["command"]


@click.command("bench", cls=opt.Command)
@click.argument("models", metavar="BUNDLE|MODEL...", nargs=-1, required=True, type=opt.Reads())
@opt.ENGINES
@opt.DEVICES
@opt.on_server(several=True)
@click.option(
    "--server",
    type=opt.Reads(),
    help="The model that a bundle was made from, for engine paddle.",
)
@click.option(
    "--batch",
    type=opt.NUMBERS,
    default="1",
    show_default=True,
    help="How many samples to feed at once: numbers to compare.",
)
@click.option(
    "--threads",
    type=opt.NUMBERS,
    default="1",
    show_default=True,
    help="Thread counts to compare.",
)
@click.option("--warmup", type=int, help="Unmeasured inferences.  [default: until stable]")
@click.option("--repeat", type=int, help="Measured inferences.  [default: 50]")
@click.option(
    "-o",
    "--out",
    type=opt.Writes(),
    help="Keep what was measured in this folder: a run for each row, for `report`, and bench.json.",
)
@click.option(
    "--by-layer",
    is_flag=True,
    help="Count the instructions of each layer of a source model, on an emulated board.",
)
@opt.PARAMS
@opt.check_shape("Shape of the random tensor.")
@opt.FORCE
@opt.JSON
@opt.DEBUG
def command(
    models: tuple[str, ...],
    devices: tuple[str, ...],
    out: str | None,
    by_layer: bool,
    force: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure the latency of one sample, for one or more engines, batches and thread counts.

    The percentiles have 95 % intervals, and inferences count from when the engine is warm on.
    Several engines take turns, so that what else the machine does is not one's misfortune.

    On an emulated board (--device qemu-aarch64, qemu-arm, qemu-aarch64:pi5 ...) latencies are the
    emulator's and say nothing: executed ARM instructions are counted instead, on one thread. They
    are a model of the cost, the same number each time, and not a latency. Several bundles, engines
    (native and onnx) and boards make a table.

    \b
    Examples:
      paddle-edge bench cat.bundle --threads 1,2,4
      paddle-edge bench inference/ --engine paddle --repeat 200
      paddle-edge bench cat.bundle --engine lite,onnx,paddle,native --server inference/
      paddle-edge bench inference/ --device gpu --batch 1,4,8 --precision fp32,fp16
      paddle-edge bench cat.bundle --engine native,onnx --device qemu-aarch64:pi4
      paddle-edge bench cat.bundle --engine native --device qemu-aarch64:pi5
      paddle-edge bench fp32.bundle int8.bundle --engine native --device qemu-aarch64:pi4 \\
          --device qemu-aarch64:pi5
      paddle-edge bench inference/ --by-layer --device qemu-aarch64:pi4
      paddle-edge bench cat.bundle --threads 1,2,4 -o speed
      paddle-edge report speed/*.run --reference speed/lite-t1.run -o speed.html
    """
    if out is not None:
        check_free(out, force=force)
    if out is not None and (by_layer or devices[0] in BOARDS):
        raise UsageError(
            "-o keeps latencies, and on emulated boards instructions are counted: --json"
        )
    # Of several engines on an emulated board: counts, as of several boards.
    side_by_side = "," in (options["engine"] or "") and devices[0] in BOARDS
    with watching(as_json) as watch:
        if by_layer:
            document, shown = _by_layer(models, devices, options, watch)
        elif len(models) == len(devices) == 1 and not side_by_side:
            found = bench(models[0], device=devices[0], watch=watch, **options)
            document, shown = found.to_json(), latency.view(found)
            if out is not None:
                _keep(found, Path(out), force=force)
        else:
            counted = count(models, devices, watch=watch, **options)
            document, shown = counted.to_json(), latency.counts(counted)
    tell(document, shown, as_json=as_json)


def _keep(found: Bench, out: Path, *, force: bool) -> None:
    """A run for each row, called by what they differ in, and bench.json, which is what --json
    prints."""
    named = [(one["engine"], one["threads"], one["batch"], one["precision"]) for one in found.runs]
    differ = [len(set(column)) > 1 for column in zip(*named)]
    with whole_folder(out, force=force) as folder:
        for measured, (engine, threads, batch, precision) in zip(found.measured, named):
            parts = [f"t{threads}"]
            parts += [f"b{batch}"] * differ[2] + [str(precision)] * differ[3]
            measured.save(folder / f"{'-'.join([engine, *parts])}.run")
        manifest.write(folder / "bench.json", found.to_json())


def _by_layer(
    models: tuple[str, ...], devices: tuple[str, ...], options: dict[str, Any], watch: Watch
) -> tuple[dict[str, Any], Iterable[Item]]:
    if len(models) > 1 or len(devices) > 1:
        raise UsageError("--by-layer takes one model and one --device")
    shapes = {name: given[0] for name, given in options["check_shape"].items()}
    (device,) = devices
    costs = layer_costs(
        models[0], device, params=options["params"], input_shape=shapes, watch=watch
    )
    return {"device": device, "layers": [asdict(c) for c in costs]}, latency.layers(costs, device)
