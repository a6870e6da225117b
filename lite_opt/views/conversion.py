"""What a conversion did: repairs, the self-check, and the files of the bundle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lite_opt.views import comparison
from lite_opt.views.table import Item, Remark, Row, percent, size, table, warnings

if TYPE_CHECKING:
    from lite_opt.conversion.convert import Conversion
    from lite_opt.conversion.ways_out import WaysOut
    from lite_opt.judge.compare import Report
    from lite_opt.judge.sensitivity import FloatLayers
    from lite_opt.passes.rule import Change
    from py_runner.formats.bundle import Bundle, Target

__all__ = ["document", "view"]


def document(done: Conversion, commands: Sequence[str] = ()) -> dict[str, Any]:
    """All of it as JSON; what there is not is None. `commands` are those of its ways out."""
    bundle = done.bundle
    return {
        "bundle": str(bundle.path) if bundle else None,
        "changes": [str(change) for change in done.changes],
        "effects": [asdict(effect) for effect in done.effects],
        "check": bundle.check if bundle else None,
        "report": done.report.to_json() if done.report is not None else None,
        "refused": done.refused or None,
        "advice": done.advice or None,
        "float_layers": asdict(done.float_layers) if done.float_layers else None,
        "float_costs": {board: dict(counts) for board, counts in done.float_costs.items()} or None,
        "ways_out": _document_of(done.ways_out, commands) if done.ways_out else None,
        "targets": {n: asdict(t) for n, t in bundle.targets.items()} if bundle else None,
    }


def _document_of(found: WaysOut, commands: Sequence[str]) -> dict[str, Any]:
    return {
        "worst_layers": [asdict(loss) for loss in found.worst],
        "commands": [
            {"command": command, "result": way.result} for way, command in zip(found.ways, commands)
        ],
    }


def view(
    done: Conversion,
    out: str,
    *,
    random: bool,
    explain: bool = False,
    commands: Sequence[str] = (),
) -> Iterator[Item]:
    """All of it in tables. `random` is whether it was judged on random tensors, `explain` whether
    to show what each repair and pass did to the graph, `commands` are those of its ways out."""
    if explain:
        yield _effects(done)
    elif done.changes:
        yield _repairs(done.changes)
    if done.report is not None:
        yield from _self_check(done.report)
    if done.float_layers is not None:
        yield from _float_layers(done.float_layers)
    if done.float_costs:
        yield _float_costs(done.float_costs)
    if done.report is not None:
        yield from warnings(done.report.warnings)
    if done.bundle is not None:
        yield _files(done.bundle, out)
        yield from _in_float(done.bundle)
        if not done:
            reason = done.bundle.check["reason"]
            yield Remark(
                f"paddle-edge: unjudged: {reason}; compare on a device before you trust it"
            )
        return
    if done.refused:
        yield Remark(f"paddle-edge: FAILED: {done.refused}; no bundle was written")
        return
    assert done.report is not None
    hint = " (judged on random tensors: give data like those in use with --samples)"
    verdict = comparison.verdict(done.report)
    advice = f"; {done.advice}" if done.advice else ""
    yield Remark(f"paddle-edge: {verdict}; no bundle was written{hint if random else ''}{advice}")
    if done.ways_out is not None:
        yield from _ways_out(done.ways_out, commands)


def _ways_out(found: WaysOut, commands: Sequence[str]) -> Iterator[Item]:
    if found.worst:
        worst = ", ".join(
            f"{loss.layer} ({loss.op}, {loss.sqnr_db:.1f} dB)" for loss in found.worst
        )
        yield Remark(f"the layers that lose most: {worst}")
    if commands:
        yield Remark("these were tried on the same data, and pass:")
    for way, command in zip(found.ways, commands):
        yield Remark(f"  {command}")
        yield Remark(f"    {way.result}")


def _repairs(changes: tuple[Change, ...]) -> Item:
    rules: dict[str, list[str]] = {}
    for change in changes:
        rules.setdefault(change.rule, []).append(f"{change.where}: {change.what}")
    rows = [(rule, str(len(edits)), edits[0]) for rule, edits in rules.items()]
    return table("Repairs", ("rule", "changes", "the first"), rows, left=3)


def _effects(done: Conversion) -> Item:
    """Operators and parameters before and after each rule, and the first of its changes."""
    first = {change.rule: str(change).split(": ", 1)[1] for change in reversed(done.changes)}
    rows = [
        (
            effect.rule,
            str(effect.changes),
            f"{effect.operators:+d}" if effect.operators else "",
            _bytes_change(effect.param_bytes),
            first.get(effect.rule, ""),
        )
        for effect in done.effects
    ]
    header = ("repair or pass", "changes", "operators", "parameters", "the first")
    return table("Repairs and passes", header, rows, left=1)


def _bytes_change(count: int) -> str:
    return f"{'-' if count < 0 else '+'}{size(abs(count))}" if count else ""


def _self_check(report: Report) -> Iterator[Item]:
    judge = comparison.about(report.candidate)
    header, rows = comparison.rows_of(report)["Differences"]
    yield table(f"Self-check: server against {judge}", header, rows)
    yield from comparison.noise_of(report)
    if report.scores is not None and report.rates:
        rates = [comparison.rate_row(rate) for rate in report.rates]
        yield table(f"Self-check by task: {report.scores.task}", comparison.RATES_HEADER, rates)
    elif report.top1_agreement is not None:
        yield f"top-1 agreement {percent(report.top1_agreement)} of {report.samples} samples"
    if report.accuracy is not None:
        yield (
            f"top-1 accuracy {percent(report.accuracy['candidate_top1'])}, the server's "
            f"{percent(report.accuracy['reference_top1'])}"
        )


def _float_layers(found: FloatLayers) -> Iterator[Item]:
    """What `max_drop` or `max_float` decided, in sentences."""
    asked = f", {found.asked} of them as asked for," if found.asked else ""
    yield (
        f"{len(found.layers)} layers in float{asked} are {percent(found.share)} of the "
        f"multiply-adds, with what is always float; SQNR {found.sqnr_db_int8:.1f} dB in int8, "
        f"{found.sqnr_db:.1f} dB with them"
    )
    if found.drop is not None:
        yield (
            f"{found.measure} on {found.samples} samples: int8 loses {found.drop_int8:.2f} "
            f"points, with layers in float {found.drop:.2f}"
        )
    if found.layers:
        yield "in float: " + ", ".join(found.layers)


def _float_costs(costs: Mapping[str, Mapping[str, int]]) -> Item:
    rows = [
        (board, *(f"{counts[kind] / 1e6:.1f} M" for kind in ("fp32", "int8", "mixed")))
        for board, counts in costs.items()
    ]
    header = ("board", "fp32", "every layer in int8", "as it is")
    return table("ARM instructions of one inference", header, rows)


def _files(bundle: Bundle, out: str) -> Item:
    verdicts = bundle.check.get("targets", {})
    rows = [
        (*_target_row(name, target), verdicts.get(name, "not checked") + _made_from(target))
        for name, target in bundle.targets.items()
    ]
    header = (
        *("target", "precision", "size", "operators", "int8", "fp16", "other", "calib", "weights"),
        "self-check",
    )
    return table(f"Bundle {out}", header, rows)


# What layers of an operator are called; a star is where their plural has an s.
_KINDS = {
    "conv2d": "convolution*",
    "depthwise_conv2d": "depthwise convolution*",
    "conv2d_transpose": "transposed convolution*",
    "fc": "linear layer*",
    "rnn": "recurrent layer* (LSTM, GRU)",
    "lstm": "recurrent layer*",
    "gru": "recurrent layer*",
    "lookup_table": "embedding*",
    "lookup_table_v2": "embedding*",
    "matmul": "product* of activations",
    "matmul_v2": "product* of activations",
}


def _in_float(bundle: Bundle) -> Iterator[Item]:
    """What of the file for ARM is in float though the recipe is for fewer bits, in a sentence."""
    target = bundle.targets.get("arm")
    if target is None or not target.in_float:
        return
    parts = []
    for op, found in target.in_float.items():
        kind = _KINDS.get(op, op).replace("*", "s" if found.layers > 1 else "")
        weights = f", {size(found.bytes)} of weights" if found.bytes else ""
        parts.append(f"{found.layers} {kind}{weights}")
    verb = "computed in float" if target.precision == "int8" else "stored in float"
    yield f"{verb}: {'; '.join(parts)}"


def _made_from(target: Target) -> str:
    return f"; made from {target.onnx.made_from}" if target.onnx else ""


def _target_row(name: str, target: Target) -> Row:
    """What a file was really made of: its kernels by precision, and its weights by dtype."""
    kinds = {"int8": 0, "fp16": 0, "other": 0}
    for kernel, count in target.kernels.items():
        kind = kernel.rpartition("/")[2]
        kinds[kind if kind in kinds else "other"] += count
    weights = ", ".join(f"{dtype} {size(count)}" for dtype, count in target.weights.items())
    return (
        name,
        target.precision,
        size(target.bytes),
        str(target.ops),
        *map(str, kinds.values()),
        str(target.calib),
        weights,
    )
