"""Runs of parts of one data set become one: what has to be alike, and what is put together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from py_runner.errors import UsageError
from py_runner.formats.lazy import joined
from py_runner.formats.run_samples import FailedSample, keys_of

if TYPE_CHECKING:
    from py_runner.formats.run import Run

__all__ = ["merged"]

_SHOWN = 5  # numbers of shards that are named


def merged(runs: Sequence[Run], names: Sequence[str]) -> dict[str, Any]:
    """The fields of the run of all, shards in their order. Raises UsageError, which names the runs,
    where they do not belong together."""
    if not runs:
        raise UsageError("no runs to merge")
    whole = _shard([run.shard for run in runs])
    if whole != runs[0].shard:
        order = sorted(range(len(runs)), key=lambda n: (runs[n].shard or {})["index"])
        runs, names = [runs[n] for n in order], [names[n] for n in order]
    first = runs[0]
    for name, other in zip(names[1:], runs[1:]):
        try:
            _check_alike(first, other)
        except UsageError as error:
            raise UsageError(f"{names[0]} and {name}: {error}") from None
    _check_disjoint(runs, names)
    fed = [r.fed for r in runs if r.fed is not None]
    return {
        "engine": _listed(r.engine for r in runs),
        "engine_version": _listed(r.engine_version for r in runs),
        "device": _listed(r.device for r in runs),
        "machine": _listed(r.machine for r in runs),
        "threads": max(r.threads for r in runs),
        "samples": joined([r.samples for r in runs]),
        "outputs": {name: joined([r.outputs[name] for r in runs]) for name in first.outputs},
        "latency_ms": joined([r.latency_ms for r in runs]),
        "warmup": min(r.warmup for r in runs),
        "peak_memory_bytes": max(r.peak_memory_bytes for r in runs),
        "wall_s": sum(r.wall_s for r in runs),
        "created": max(r.created for r in runs),
        "noise": {
            name: max(r.noise[name] for r in runs if name in r.noise)
            for name in dict.fromkeys(n for r in runs for n in r.noise)
        },
        "cpu": first.cpu if all(r.cpu == first.cpu for r in runs) else None,
        "sensors": _sensors([r.sensors for r in runs if r.sensors]),
        "failed": _failed(runs),
        "shard": whole,
        "side_by_side": max((r.side_by_side for r in runs if r.side_by_side), default=None),
        "fed": type(first).merge(fed) if fed else None,
    }


def _check_alike(first: Run, other: Run) -> None:
    if other.model != first.model or list(other.outputs) != list(first.outputs):
        raise UsageError(
            f"these runs are of different models: {first.model['name']} "
            f"{first.model['sha256'][:12]}, {other.model['name']} {other.model['sha256'][:12]}"
        )
    if other.precision != first.precision:
        raise UsageError(
            f"these runs are of different precisions, {first.precision} and {other.precision}: "
            "compare them, they do not merge"
        )
    if (other.task, other.labels) != (first.task, first.labels):
        raise UsageError("these runs were made for different tasks, or with other labels")
    if other.inputs != first.inputs:
        raise UsageError(
            f"these runs fed different inputs: {_names(first.inputs)}, {_names(other.inputs)}"
        )
    if other.image != first.image:
        raise UsageError("these runs made tensors of pictures in different ways")


def _names(inputs: Sequence[str] | None) -> str:
    return ", ".join(inputs) if inputs else "none that is known"


def _check_disjoint(runs: Sequence[Run], names: Sequence[str]) -> None:
    """Raise UsageError for a sample that two have."""
    keys = [keys_of(run.samples) for run in runs]
    every = np.concatenate(keys)
    order = np.argsort(every, kind="stable")
    again = order[1:][every[order][1:] == every[order][:-1]]
    if not len(again):
        return
    ends = np.cumsum([len(part) for part in keys])
    place = int(again.min())
    where = np.searchsorted(ends, np.flatnonzero(every == every[place])[:2], side="right").tolist()
    id_ = runs[where[1]].samples[place - int(ends[where[1]])].id
    more = f", and {len(again) - 1} more are in two" if len(again) > 1 else ""
    raise UsageError(
        f"{names[where[0]]} and {names[where[1]]}: both hold sample '{id_}'{more}: each sample is "
        "answered once"
    )


def _failed(runs: Sequence[Run]) -> tuple[FailedSample, ...]:
    """Of all, each once, without those that another run has an answer to."""
    found = {one.id: one for run in runs for one in run.failed}
    if not found:
        return ()
    answered = {info.id for run in runs for info in run.samples if info.id in found}
    return tuple(one for id_, one in found.items() if id_ not in answered)


def _shard(shards: Sequence[dict[str, int] | None]) -> dict[str, int] | None:
    """Which shard all are together; None where they are a whole data set."""
    if all(shard == shards[0] for shard in shards):
        return shards[0]
    divisions = {(one["of"], one["total"]) if one else None for one in shards}
    if None in divisions:
        raise UsageError("some of these runs are shards of a data set, and some are not")
    if len(divisions) > 1:
        (a, b), (c, d) = sorted(pair for pair in divisions if pair)[:2]
        raise UsageError(
            f"these runs are of different divisions: into {a} shards of {b} samples, and into {c} "
            f"of {d}"
        )
    there = {one["index"] for one in shards if one}
    ((count, _),) = (pair for pair in divisions if pair)
    missing = [str(index) for index in range(1, count + 1) if index not in there]
    if missing:
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        named = ", ".join(missing[:_SHOWN]) + more
        one = len(missing) == 1
        raise UsageError(
            f"{'shard' if one else 'shards'} {named} of {count} {'is' if one else 'are'} missing: "
            f"run {'it' if one else 'them'}, and merge all"
        )
    return None


def _listed(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(name for value in values for name in value.split(", ")))


def _sensors(found: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """From the beginning of the first run to the end of the last one."""
    if not found:
        return None
    throttled = dict.fromkeys(word for one in found for word in one["throttled"])
    return {
        "before": found[0]["before"],
        "after": found[-1]["after"],
        "throttled": list(throttled),
    }
