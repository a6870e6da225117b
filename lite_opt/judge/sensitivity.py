"""Which layers lose by static int8, and which to keep in float.

losses = sensitivity(quantized, samples)             # each layer alone, worst first
mixed = quantized.with_float([losses[0].layer])      # a Program: the worst layer in float
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass

from lite_opt.judge.compare import Report
from lite_opt.judge.limits import Limits
from lite_opt.judge.metric import Loss, Metric
from lite_opt.judge.numbers import noise_of
from lite_opt.judge.variants import Variants
from lite_opt.quant.mixed import Quantized
from py_runner.errors import DataError
from py_runner.tensors import Sample
from py_runner.watch import QUIET, Watch

__all__ = [
    "FloatLayers",
    "LayerLoss",
    "choose_float_layers",
    "float_share",
    "layers_within",
    "sensitivity",
    "shares_of",
]


_PLAIN = Metric()


@dataclass(frozen=True)
class LayerLoss:
    """What quantizing one layer alone costs, at the model's first output.

    `sqnr_db` is the signal to quantization noise ratio of the centred scores in dB: 10 log10 of
    the float scores' energy over that of the difference. `cosine` is of the same scores.
    `points` of a hundred are lost of `measure`, the task's own (`Metric`), None where nobody said
    what the outputs are. `share` is that of the model's multiply-adds, on the first sample.
    """

    layer: str
    op: str
    weight: str
    parameters: int
    sqnr_db: float
    cosine: float
    measure: str
    points: float | None
    share: float

    @property
    def noise(self) -> float:
        """The energy of the difference as a part of that of the scores: of layers it adds up."""
        return noise_of(self.sqnr_db) if math.isfinite(self.sqnr_db) else 0.0


def sensitivity(
    quantized: Quantized,
    samples: Sequence[Sample],
    *,
    metric: Metric = _PLAIN,
    watch: Watch = QUIET,
) -> tuple[LayerLoss, ...]:
    """Quantize each layer alone, on the server engine, and say what it costs; worst first: by the
    SQNR of scores of classes, by the points lost of any other task, whose tensors say less.

    Raises DataError without samples, and where the float model answers NaN or Inf to one, or finds
    nothing on them.
    """
    if not samples:
        raise DataError("sensitivity needs samples")
    with Variants(quantized, samples) as variants:
        return _sensitivity(variants, quantized, metric, watch)


def _sensitivity(
    variants: Variants, quantized: Quantized, metric: Metric, watch: Watch
) -> tuple[LayerLoss, ...]:
    every = {layer.layer for layer in quantized.layers}
    reference = variants.reference()
    shares = shares_of(variants)
    losses, by_task = [], False
    for done, layer in enumerate(quantized.layers, start=1):
        report = metric.report(reference, variants.run(every - {layer.layer}))
        by_task = report.scores is not None
        lost = _loss(metric, report)
        first = report.outputs[0]
        losses.append(
            LayerLoss(
                **asdict(layer),
                sqnr_db=first.sqnr_db,
                cosine=first.cosine,
                measure=lost.measure if lost else "",
                points=lost.points if lost else None,
                share=shares[layer.layer],
            )
        )
        watch.step("sensitivity", done, len(quantized.layers))
    if by_task:
        return tuple(sorted(losses, key=lambda loss: (-(loss.points or 0.0), loss.sqnr_db)))
    return tuple(sorted(losses, key=lambda loss: loss.sqnr_db))


def shares_of(variants: Variants) -> dict[str, float]:
    """Of each layer its share of the multiply-adds."""
    counts = variants.multiply_adds()
    total = max(1, sum(counts.values()))
    return {layer: count / total for layer, count in counts.items()}


@dataclass(frozen=True)
class FloatLayers:
    """What `choose_float_layers` found: the layers to keep in float, worst first.

    `drop` is the loss with them in percentage points, on the samples held out, `drop_int8` the
    loss with every layer in int8; None where the outputs are not scores of classes. `sqnr_db` and
    `sqnr_db_int8` are the signal to noise ratios of the first output. `share` is the part of the
    model's multiply-adds that is in float, what has no int8 kernel included. The first `asked`
    layers are not found but the caller's.
    """

    layers: tuple[str, ...]
    share: float
    drop: float | None
    drop_int8: float | None
    sqnr_db: float
    sqnr_db_int8: float
    measure: str
    samples: int
    asked: int = 0


# More samples hardly change the order of the layers.
_RANKING_SAMPLES = 16
# What is left of the noise may be so much more than with all that the budget pays for.
_SLACK = 1.05
# Of the layers found, how many are tried again in int8: those with the most multiply-adds.
_PRUNED = 8


def choose_float_layers(
    quantized: Quantized,
    samples: Sequence[Sample],
    max_drop: float | None = None,
    *,
    max_float: float | None = None,
    always: Collection[str] = (),
    metric: Metric = _PLAIN,
    watch: Watch = QUIET,
) -> FloatLayers:
    """Which layers to keep in float: the fewest multiply-adds such that the loss is at most
    `max_drop` points, or those that help most of at most `max_float` percent of all multiply-adds;
    of both, the fewest within that budget, which may not suffice. `always` stay.

    The loss is what `metric` says on `samples`, which are held out from calibration. Layers are
    ranked by what each alone loses, by multiply-add: of the signal, or of another task's own
    measure. For `max_drop` the shortest beginning of that ranking that holds the limit is found by
    doubling and bisection, and then layers that are not needed after all go back to int8, the
    largest first.

    Raises UsageError where `max_drop` is given and nobody said what the outputs are, DataError
    where the float model answers NaN or Inf to a sample, or finds nothing on all of them.
    """
    fixed = set(always)
    with Variants(quantized, samples) as variants:
        reference, shares = variants.reference(), shares_of(variants)
        measured: dict[frozenset[str], Report] = {}

        def report(layers: Collection[str]) -> Report:
            key = frozenset(fixed.union(layers))
            if key not in measured:
                measured[key] = metric.report(reference, variants.run(key))
            return measured[key]

        def suffices(layers: Collection[str]) -> bool:
            return max_drop is not None and metric.loss_in(report(layers)).points <= max_drop

        kept: list[str] = []
        if not suffices(()):
            with Variants(quantized, samples[:_RANKING_SAMPLES]) as few:
                losses = _sensitivity(few, quantized, metric, watch)
            ranked = _by_multiply_add(losses, fixed, by_task=report(()).scores is not None)
            if max_float is not None:
                budget = max_float / 100 - float_share(quantized, shares, fixed)
                ranked = _paid(ranked, budget, all_of_it=max_drop is not None)
            kept = [loss.layer for loss in ranked]
            if max_drop is not None and kept:
                kept = _fewest(kept, suffices, shares)
        alone = metric.report(reference, variants.run(())) if fixed else report(())
        found = report(kept)
        lost, lost_int8 = (_loss(metric, each) for each in (found, alone))
        return FloatLayers(
            layers=(*always, *kept),
            share=float_share(quantized, shares, fixed.union(kept)),
            drop=lost.points if lost else None,
            drop_int8=lost_int8.points if lost_int8 else None,
            sqnr_db=found.outputs[0].sqnr_db,
            sqnr_db_int8=alone.outputs[0].sqnr_db,
            measure=lost.measure if lost else "",
            samples=len(samples),
            asked=len(always),
        )


def _by_multiply_add(
    losses: Sequence[LayerLoss], fixed: Collection[str], *, by_task: bool
) -> list[LayerLoss]:
    """Layers by what each loses for its multiply-adds; of a task that is no classification, first
    by the points of its own measure."""

    def worth(loss: LayerLoss) -> tuple[float, float]:
        cost = max(loss.share, 1e-9)
        return ((loss.points or 0.0) / cost if by_task else 0.0, loss.noise / cost)

    return sorted((loss for loss in losses if loss.layer not in fixed), key=worth, reverse=True)


def float_share(
    quantized: Quantized, shares: Mapping[str, float], layers: Collection[str]
) -> float:
    """The share of multiply-adds in float, with these layers in float."""
    int8 = {layer.layer for layer in quantized.layers} - set(layers)
    return sum(share for layer, share in shares.items() if layer not in int8)


def _paid(ranked: Sequence[LayerLoss], budget: float, *, all_of_it: bool) -> list[LayerLoss]:
    """The beginning of a ranking that a share of the multiply-adds pays for, without layers that
    are too large; and not `all_of_it` where the rest would hardly help."""
    taken = []
    for loss in ranked:
        if loss.share <= budget:
            taken.append(loss)
            budget -= loss.share
    if all_of_it:
        return taken
    left = sum(loss.noise for loss in ranked)
    least = _SLACK * (left - sum(loss.noise for loss in taken))
    few = []
    for loss in taken:
        if left <= least:
            break
        few.append(loss)
        left -= loss.noise
    return few


def layers_within(
    quantized: Quantized,
    samples: Sequence[Sample],
    limits: Limits,
    losses: Sequence[LayerLoss],
    *,
    most: int,
    always: Collection[str] = (),
    metric: Metric = _PLAIN,
) -> tuple[tuple[str, ...], Report] | None:
    """The few layers to keep in float besides `always`, such that all limits hold on these samples,
    with the report that says so, which judges by `metric`'s task; None where `most` of them do not
    suffice. `losses` ranks them.
    """
    ranked = [loss.layer for loss in losses if loss.layer not in always][:most]
    with Variants(quantized, samples) as variants:
        reference = variants.reference()

        def report(layers: Sequence[str]) -> Report:
            return metric.report(reference, variants.run({*always, *layers}), limits=limits)

        if not ranked or not report(ranked):
            return None
        kept = _fewest(ranked, lambda layers: bool(report(layers)), shares_of(variants))
        return tuple(kept), report(kept)


def _fewest(
    ranked: Sequence[str],
    suffices: Callable[[Sequence[str]], bool],
    shares: Mapping[str, float],
) -> list[str]:
    """Of a ranking that does not suffice while it is empty, the few layers that do: its shortest
    beginning, without those of the largest that are not needed."""
    enough = 1
    while enough < len(ranked) and not suffices(ranked[:enough]):
        enough *= 2
    enough = min(enough, len(ranked))
    few = enough // 2
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (few, middle) if suffices(ranked[:middle]) else (middle, enough)
    kept = list(ranked[:enough])
    # Without the last of a beginning the one before did not suffice.
    for layer in sorted(ranked[: enough - 1], key=lambda name: -shares[name])[:_PRUNED]:
        without = [name for name in kept if name != layer]
        if suffices(without):
            kept = without
    return kept


def _loss(metric: Metric, report: Report) -> Loss | None:
    """What is lost, None where nobody said what the outputs are."""
    known = report.scores is not None or report.top1_agreement is not None
    return metric.loss_in(report) if known else None
