"""One model fed what another run was fed, so that its graph is judged whatever came before it."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

from py_runner.data.dataset import dataset
from py_runner.data.image import ImageSpec
from py_runner.errors import UsageError
from py_runner.formats.run import Run
from py_runner.inference import run
from py_runner.tensors import Model, sample_hash

__all__ = ["fed_as"]


def fed_as(model: Model, data: str | Path, done: Run, against: Run, **how: Any) -> Run | None:
    """What a model answers to the tensors of the run `against`, of samples to which `done`, its own
    run, was fed others. None where there are none.

    The tensors are made again, from the pictures and by what that run says of itself, and count
    where their checksums are that run's. `how` are arguments of `inference.run`. Raises UsageError
    where that run does not say how pictures were fed.
    """
    own = {sample.id: sample.sha256 for sample in done.samples}
    wanted = {s.id: s.sha256 for s in against.samples if own.get(s.id, s.sha256) != s.sha256}
    if not wanted:
        return None
    if against.image is None:
        raise UsageError(
            "--against a run that was fed other tensors, and does not say how pictures became "
            "them: make it again with its --task, of pictures"
        )
    made = dataset(data, inputs=model.inputs, image=ImageSpec.from_json(against.image))
    part = made.select(i for i, id_ in enumerate(made.ids) if id_ in wanted)
    samples = (sample for sample in part if sample_hash(sample) == wanted[sample.id])
    first = next(samples, None)
    return None if first is None else run(model, chain([first], samples), **how)
