"""Weights that training saved become an inference model, which answers as the network does."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lite_opt.conversion.source import Source
from lite_opt.exporting import network_child
from lite_opt.exporting.architecture import Architecture, architecture
from lite_opt.exporting.beside import Beside
from lite_opt.exporting.checkpoint import fitted, read_checkpoint
from lite_opt.exporting.environment import interpreter
from lite_opt.model.load import load
from py_runner.data.image import ImageSpec
from py_runner.data.random_samples import random_samples
from py_runner.engines.worker import Worker
from py_runner.errors import EngineError
from py_runner.files import manifest
from py_runner.files.checksum import sha256
from py_runner.files.folder import check_free, temporary_folder, whole_folder
from py_runner.inference import run
from py_runner.tensors import TensorSpec
from py_runner.watch import QUIET, Watch

__all__ = ["EXPORT", "MOST_DIFFERENCE", "Exported", "export"]

MOST_DIFFERENCE = 1e-5  # of an output's largest value: float32 that is summed in another order
EXPORT, _FORMAT = "export.json", 1
_MEMORY_BYTES = 8 << 30  # besides the weights, several times

_Array = npt.NDArray[Any]
_Shapes = Mapping[str, Sequence[tuple[int, ...]]]


class _WrongError(Exception):
    """The model does not answer as the network does: nothing is to be left of it."""


@dataclass(frozen=True)
class Exported:
    """An inference model and how it was made; `bool(exported)` is whether it is right: only then
    is it at `path`.

    parameters: how many numbers were trained; `prefix` is what their names began with besides.
    difference: the largest between the network and the model on the server engine, on random
        tensors, relative to the largest value of its output.
    image, labels: what was written beside the model; None where nothing was.
    """

    path: Path
    network: str
    paddle: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    parameters: int
    prefix: str
    difference: float
    image: ImageSpec | None
    labels: int | None
    warnings: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.difference <= MOST_DIFFERENCE

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "path": str(self.path) if self else None,
            "network": self.network,
            "paddle": self.paddle,
            "inputs": [spec.to_json() for spec in self.inputs],
            "outputs": [spec.to_json() for spec in self.outputs],
            "parameters": self.parameters,
            "prefix": self.prefix,
            "difference": self.difference if math.isfinite(self.difference) else None,
            "most_difference": MOST_DIFFERENCE,
            "image": self.image.to_json() if self.image else None,
            "labels": self.labels,
            "warnings": [*self.warnings],
        }


def export(
    network: str,
    out: str | Path,
    *,
    weights: str | Path,
    inputs: Sequence[TensorSpec] = (),
    arguments: Mapping[str, Any] | None = None,
    prefix: str | None = None,
    softmax: bool = True,
    image: str | Path | None = None,
    labels: str | Path | None = None,
    check_shape: _Shapes | None = None,
    install: bool = False,
    force: bool = False,
    watch: Watch = QUIET,
) -> Exported:
    """Build a network, give it trained weights, save it as an inference model, and compare both.

    Args:
        network, inputs, arguments: see `architecture`. PaddleClas' take one image, of any batch
            where they can.
        out: the folder to make: inference.json, inference.pdiparams, inference.yml with
            preprocessing and labels, and export.json, which says where it is from.
        weights: a `.pdparams` or `.npz`, see `read_checkpoint`; `prefix`: see `fitted`.
        softmax: whether a classifier of PaddleClas ends in probabilities, as by its own exporter.
        image, labels: preprocessing and names of the classes, instead of those of PaddleClas.
        check_shape: shapes of the random tensors that both are compared on, where dimensions stay
            open.
        install: whether an environment with PaddleClas may be made where there is none.

    The network runs in a child: it is Python of somebody, and may abort.

    Raises UsageError, DataError and ModelError, which name what is wrong with the call, a config,
    the weights or the network; EngineError where Paddle is missing or dies of it.
    """
    out = Path(out)
    plan = architecture(network, inputs=inputs, arguments=arguments)
    code = plan.module if plan.module.endswith(".py") else None
    check_free(out, force=force, keep=[weights, image, labels, code])
    beside = Beside.of(plan, image=image, labels=labels)
    arrays = read_checkpoint(weights)
    python = interpreter(install=install, watch=watch) if plan.is_classifier else sys.executable

    def attempt(plan: Architecture, folder: Path) -> Exported:
        with _opened(plan, python, folder, arrays, softmax=softmax) as worker:
            described = json.loads(_ask(worker)["described"].tobytes())
            specs = [TensorSpec(n, t, tuple(shape)) for n, t, shape in described["parameters"]]
            state, found = fitted(arrays, specs, weights, prefix=prefix)
            watch.say(f"{plan.name}: saving it with {len(state)} parameters")
            _ask(worker, {network_child.PARAMETERS + n: array for n, array in state.items()})
            program = load(folder)
            left_out = beside.write(folder, described["package"], program.outputs)
            source = Source.of(program)
            watch.say(f"{plan.name}: comparing what was saved with the network")
            difference = _difference(plan, worker, source, check_shape or {})
            version = str(worker.ready["version"])
        return Exported(
            out,
            network,
            version,
            source.inputs,
            tuple(program.outputs),
            sum(array.size for array in state.values()),
            found,
            difference,
            source.image,
            len(source.labels) if source.labels else None,
            (*left_out, *([source.warning] if source.warning else [])),
        )

    # Some networks can be traced for any batch, but keep that of the tracing, or cannot.
    plans = [plan] if inputs else [plan, plan.of_one()]
    with suppress(_WrongError), whole_folder(out, force=force) as folder:
        done = _first_right(attempt, plans, folder)
        if not done:
            raise _WrongError
        origin = {"network": network, "weights": Path(weights).name, "paddle": done.paddle}
        origin["sha256"] = sha256(Path(weights))
        manifest.write(folder / EXPORT, {"format": _FORMAT, **origin})
    return done


def _first_right(
    attempt: Callable[[Architecture, Path], Exported], plans: Sequence[Architecture], folder: Path
) -> Exported:
    """The first right model of several plans, else what comes of the last one."""
    for plan in plans[:-1]:
        with suppress(EngineError):
            done = attempt(plan, folder)
            if done:
                return done
    return attempt(plans[-1], folder)


def _opened(
    plan: Architecture,
    python: str,
    folder: Path,
    arrays: Mapping[str, _Array],
    *,
    softmax: bool,
) -> Worker:
    """The child that has built the network."""
    config = {
        "module": plan.module,
        "name": plan.name,
        "arguments": plan.arguments,
        "inputs": [[spec.name, spec.dtype, spec.shape] for spec in plan.inputs],
        "classifier": plan.is_classifier,
        "softmax": softmax,
        "prefix": str(folder / "inference"),
        "warmup": 0,
        "repeat": 1,
    }
    return Worker(
        network_child.SCRIPT,
        name=f"paddle, with {plan.name} of {plan.module},",
        python=(python,),
    ).begin(
        config,
        memory_limit_bytes=_MEMORY_BYTES + 6 * sum(array.nbytes for array in arrays.values()),
    )


def _ask(worker: Worker, arrays: Mapping[str, _Array] | None = None) -> dict[str, _Array]:
    worker.send({}, arrays or {})
    return worker.receive(time_limit_s=None)[1]


def _difference(plan: Architecture, worker: Worker, source: Source, shapes: _Shapes) -> float:
    """The largest difference between the network and the model, relative to its output's largest
    value; infinite where outputs are missing, of another shape, or not finite."""
    batches = {
        spec.name: [(count, *spec.shape[1:]) for count in (1, 2)]
        for spec in source.inputs
        if spec.shape[:1] == (-1,) and -1 not in spec.shape[1:]
    }
    samples = random_samples(
        source.inputs,
        count=2,
        image=source.image,
        shapes={**batches, **shapes},
        draws=source.draws,
    )
    with temporary_folder() as temporary:
        done = run(source.model(temporary), samples, engine="paddle")
    worst = 0.0
    for index, sample in enumerate(samples):
        answers = _ask(
            worker, {f"inputs/{i}": sample.feeds[s.name] for i, s in enumerate(plan.inputs)}
        )
        said = [values[index] for values in done.outputs.values()]
        if len(said) != len(answers):
            return math.inf
        worst = max(worst, *(_relative(answers[str(i)], value) for i, value in enumerate(said)))
    return worst


def _relative(expected: _Array, value: _Array) -> float:
    if expected.shape != value.shape:
        return math.inf
    if not expected.size:
        return 0.0
    wide = np.asarray(expected, np.float64)
    most = float(np.abs(value - wide).max()) / max(float(np.abs(wide).max()), 1e-30)
    return most if math.isfinite(most) else math.inf
