"""Which layers lose by static int8, and which to keep in float.

losses = sensitivity(quantized, samples)             # each layer alone, worst first
mixed = quantized.with_float([losses[0].layer])      # a Program: the worst layer in float
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass

from lite_opt.judge.compare import Report, compare
from lite_opt.judge.limits import Limits
from lite_opt.judge.variants import Variants
from lite_opt.quant.mixed import Quantized
from py_runner.errors import DataError, UsageError
from py_runner.tensors import Sample
from py_runner.watch import QUIET, Watch

__all__ = ["FloatLayers", "LayerLoss", "choose_float_layers", "layers_within", "sensitivity"]


@dataclass(frozen=True)
class LayerLoss:
    """What quantizing one layer alone costs, at the model's first output.

    `sqnr_db` is the signal to quantization noise ratio of the centred scores in dB: 10 log10 of
    the float scores' energy over that of the difference. `cosine` is of the same scores,
    `top1_agreement` the share of samples whose best class stays.
    """

    layer: str
    op: str
    weight: str
    parameters: int
    sqnr_db: float
    cosine: float
    top1_agreement: float | None


def sensitivity(
    quantized: Quantized, samples: Sequence[Sample], *, watch: Watch = QUIET
) -> tuple[LayerLoss, ...]:
    """Quantize each layer alone, on the server engine, and say what it costs; worst first.

    Raises DataError without samples, and where the float model answers NaN or Inf to one.
    """
    if not samples:
        raise DataError("sensitivity needs samples")
    with Variants(quantized, samples) as variants:
        return _sensitivity(variants, quantized, watch)


def _sensitivity(variants: Variants, quantized: Quantized, watch: Watch) -> tuple[LayerLoss, ...]:
    every = {layer.layer for layer in quantized.layers}
    reference = variants.reference()
    losses = []
    for done, layer in enumerate(quantized.layers, start=1):
        report = compare(reference, variants.run(every - {layer.layer}))
        first = report.outputs[0]
        losses.append(
            LayerLoss(
                **asdict(layer),
                sqnr_db=first.sqnr_db,
                cosine=first.cosine,
                top1_agreement=report.top1_agreement,
            )
        )
        watch.step("sensitivity", done, len(quantized.layers))
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
    watch: Watch = QUIET,
) -> FloatLayers:
    """The fewest layers to keep in float such that the loss is at most `max_drop` points.

    The loss is that of top-1 accuracy where all `samples` (held out from calibration) have
    labels, otherwise the share whose best class changes. Layers are ranked by `sensitivity`; the
    shortest beginning of that ranking that holds the limit is found by doubling and bisection,
    and then every layer of it that is not needed after all goes back to int8. `always` stay.

    Raises UsageError where the outputs are not scores of classes, DataError where the float model
    answers NaN or Inf to a sample.
    """
    fixed = set(always)
    with Variants(quantized, samples) as variants:
        reference = variants.reference()
        measured: dict[frozenset[str], float] = {}

        def drop(layers: Collection[str]) -> float:
            return loss(frozenset(fixed.union(layers)))

        def loss(key: frozenset[str]) -> float:
            if key not in measured:
                measured[key] = _drop(compare(reference, variants.run(key)))
            return measured[key]

        kept: list[str] = []
        if drop(()) > max_drop:
            with Variants(quantized, samples[:_RANKING_SAMPLES]) as few:
                losses = _sensitivity(few, quantized, watch)
            ranked = [loss.layer for loss in losses if loss.layer not in fixed]
            kept = _fewest(ranked, lambda layers: drop(layers) <= max_drop)
        labelled = all(sample.label is not None for sample in samples)
        return FloatLayers(
            layers=(*always, *kept),
            drop=drop(kept),
            drop_int8=loss(frozenset()),
            measure="top-1 accuracy" if labelled else "top-1 agreement",
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
) -> tuple[tuple[str, ...], Report] | None:
    """The few layers to keep in float besides `always`, such that all limits hold on these samples,
    with the report that says so; None where `most` of them do not suffice. `losses` ranks them.
    """
    ranked = [loss.layer for loss in losses if loss.layer not in always][:most]
    with Variants(quantized, samples) as variants:
        reference = variants.reference()

        def report(layers: Sequence[str]) -> Report:
            return compare(reference, variants.run({*always, *layers}), limits=limits)

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


def _drop(report: Report) -> float:
    """Percentage points of top-1 lost; NaN anywhere loses all of them."""
    if any(output.not_finite for output in report.outputs):
        return 100.0
    if report.top1_agreement is None:
        raise UsageError(
            "max_drop needs scores of classes, and this model's outputs are none: name layers "
            "to keep in float instead, `paddle-edge sensitivity` ranks them"
        )
    accuracy = report.accuracy
    if accuracy is not None and accuracy["labelled"] == report.samples:
        return accuracy["drop"]
    return (1 - report.top1_agreement) * 100
