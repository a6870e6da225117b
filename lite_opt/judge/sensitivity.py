"""Which layers lose by static int8, and which to keep in float.

losses = sensitivity(quantized, samples)             # each layer alone, worst first
mixed = quantized.with_float([losses[0].layer])      # a Program: the worst layer in float
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass

from lite_opt.judge.compare import Report
from lite_opt.judge.limits import Limits
from lite_opt.judge.metric import Loss, Metric
from lite_opt.judge.variants import Variants
from lite_opt.quant.mixed import Quantized
from py_runner.errors import DataError
from py_runner.tensors import Sample
from py_runner.watch import QUIET, Watch

__all__ = ["FloatLayers", "LayerLoss", "choose_float_layers", "layers_within", "sensitivity"]


_PLAIN = Metric()


@dataclass(frozen=True)
class LayerLoss:
    """What quantizing one layer alone costs, at the model's first output.

    `sqnr_db` is the signal to quantization noise ratio of the centred scores in dB: 10 log10 of
    the float scores' energy over that of the difference. `cosine` is of the same scores.
    `points` of a hundred are lost of `measure`, the task's own (`Metric`), None where nobody said
    what the outputs are.
    """

    layer: str
    op: str
    weight: str
    parameters: int
    sqnr_db: float
    cosine: float
    measure: str
    points: float | None


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
    losses, by_task = [], False
    for done, layer in enumerate(quantized.layers, start=1):
        report = metric.report(reference, variants.run(every - {layer.layer}))
        by_task = report.scores is not None
        known = by_task or report.top1_agreement is not None
        lost = metric.loss_in(report) if known else None
        first = report.outputs[0]
        losses.append(
            LayerLoss(
                **asdict(layer),
                sqnr_db=first.sqnr_db,
                cosine=first.cosine,
                measure=lost.measure if lost else "",
                points=lost.points if lost else None,
            )
        )
        watch.step("sensitivity", done, len(quantized.layers))
    if by_task:
        return tuple(sorted(losses, key=lambda loss: (-(loss.points or 0.0), loss.sqnr_db)))
    return tuple(sorted(losses, key=lambda loss: loss.sqnr_db))


@dataclass(frozen=True)
class FloatLayers:
    """What `choose_float_layers` found: the layers to keep in float, worst first.

    `drop` is the loss with them in percentage points, on the samples held out, `drop_int8` the
    loss with every layer in int8. The first `asked` of them are not found but the caller's.
    """

    layers: tuple[str, ...]
    drop: float
    drop_int8: float
    measure: str
    samples: int
    asked: int = 0


# More samples hardly change the order of the layers.
_RANKING_SAMPLES = 32


def choose_float_layers(
    quantized: Quantized,
    samples: Sequence[Sample],
    max_drop: float,
    *,
    always: Collection[str] = (),
    metric: Metric = _PLAIN,
    watch: Watch = QUIET,
) -> FloatLayers:
    """The fewest layers to keep in float such that the loss is at most `max_drop` points.

    The loss is what `metric` says on `samples`, which are held out from calibration. Layers are
    ranked by `sensitivity`; the shortest beginning of that ranking that holds the limit is found by
    doubling and bisection, and then every layer of it that is not needed after all goes back to
    int8. `always` stay.

    Raises UsageError where nobody said what the outputs are, DataError where the float model
    answers NaN or Inf to a sample, or finds nothing on all of them.
    """
    fixed = set(always)
    with Variants(quantized, samples) as variants:
        reference = variants.reference()
        measured: dict[frozenset[str], Loss] = {}

        def drop(layers: Collection[str]) -> float:
            return loss(frozenset(fixed.union(layers))).points

        def loss(key: frozenset[str]) -> Loss:
            if key not in measured:
                measured[key] = metric.loss(reference, variants.run(key))
            return measured[key]

        kept: list[str] = []
        if drop(()) > max_drop:
            with Variants(quantized, samples[:_RANKING_SAMPLES]) as few:
                losses = _sensitivity(few, quantized, metric, watch)
            ranked = [loss.layer for loss in losses if loss.layer not in fixed]
            kept = _fewest(ranked, lambda layers: drop(layers) <= max_drop)
        return FloatLayers(
            layers=(*always, *kept),
            drop=drop(kept),
            drop_int8=loss(frozenset()).points,
            measure=loss(frozenset(fixed.union(kept))).measure,
            samples=len(samples),
            asked=len(always),
        )


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
        kept = _fewest(ranked, lambda layers: bool(report(layers)))
        return tuple(kept), report(kept)


def _fewest(ranked: Sequence[str], suffices: Callable[[Sequence[str]], bool]) -> list[str]:
    """Of a ranking that does not suffice while it is empty, the few layers that do."""
    enough = 1
    while enough < len(ranked) and not suffices(ranked[:enough]):
        enough *= 2
    enough = min(enough, len(ranked))
    few = enough // 2
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (few, middle) if suffices(ranked[:middle]) else (middle, enough)
    kept = list(ranked[:enough])
    for layer in reversed(ranked[: enough - 1]):
        without = [name for name in kept if name != layer]
        if suffices(without):
            kept = without
    return kept
