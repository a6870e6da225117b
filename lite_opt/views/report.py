"""Tables for a terminal and the HTML page of a comparison. Nothing here computes a verdict."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from py_runner.errors import UsageError
from py_runner.formats.run import Run

if TYPE_CHECKING:
    import rich.table
    from rich.console import Console, ConsoleOptions, RenderableType

    from lite_opt.judge.compare import Report
    from lite_opt.judge.layers.result import Divergence, Tap
    from lite_opt.judge.sensitivity import FloatLayers, LayerLoss
    from py_runner.formats.bundle import Target

__all__ = [
    "ANSWER_HEADER",
    "DIVERGENCE_HEADER",
    "LATENCY_HEADER",
    "LOSSES_HEADER",
    "TAPS_HEADER",
    "TARGET_HEADER",
    "about",
    "answer_rows",
    "divergence_rows",
    "facts",
    "float_layers",
    "html_page",
    "latency_rows",
    "losses_rows",
    "losses_svg",
    "percent",
    "predictions",
    "rows_of",
    "side_by_side",
    "size",
    "table",
    "tap_rows",
    "target_row",
    "verdict",
]

Row = Sequence[str]

_ANY_WIDTH = 1000
_FEW = 3  # rows that can stand side by side
_NUMBER = 10  # characters


@dataclass(frozen=True)
class _Table:
    """Rows, or where there are too many columns for the terminal and few rows, columns."""

    title: str
    header: Row
    rows: Sequence[Row]
    left: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Any]:
        table = self._laid_out(self.header, self.rows)
        needed = console.measure(table, options=options.update(max_width=_ANY_WIDTH)).maximum
        few = len(self.rows) <= _FEW and len(self.header) > 2 * len(self.rows)
        if needed > options.max_width and few:
            header, *rows = zip(self.header, *self.rows)
            table = self._laid_out(header, rows)
        yield table

    def _laid_out(self, header: Row, rows: Sequence[Row]) -> rich.table.Table:
        import rich.box
        import rich.table

        result = rich.table.Table(
            title=self.title,
            title_justify="left",
            title_style="bold",
            box=rich.box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
        )
        for number, cells in enumerate(zip(header, *rows)):
            result.add_column(
                cells[0],
                justify="left" if number < self.left else "right",
                overflow="fold",
                no_wrap=max(map(len, cells[1:]), default=0) <= _NUMBER,  # whole, as long as it fits
            )
        for row in rows:
            result.add_row(*row)
        return result


def table(title: str, header: Row, rows: Sequence[Row], *, left: int = 1) -> RenderableType:
    """A table for a terminal: the first `left` columns to the left, the others to the right.

    Up to three rows that are too wide for it are shown side by side.
    """
    return _Table(title, header, rows, left)


def percent(share: float | None) -> str:
    """A share as a percentage."""
    return "-" if share is None else f"{share:.2%}"


def size(count: float) -> str:
    """Bytes in MB (10^6) or KB."""
    return f"{count / 1e6:.2f} MB" if count >= 1e5 else f"{count / 1e3:.1f} KB"


LATENCY_HEADER = (
    "latency", "p50 ms", "p90 ms", "p99 ms", "mean ms", "per second", "count", "threads", "memory",
)  # fmt: skip


def latency_rows(runs: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """One row for each run summary (`Run.summary()`), by the names given."""
    return [
        (
            name,
            *(f"{run['latency'][key]:.2f}" for key in ("p50_ms", "p90_ms", "p99_ms", "mean_ms")),
            f"{run['latency']['throughput_per_s']:.1f}",
            str(run["latency"]["count"]),
            str(run["threads"]),
            size(run["peak_memory_bytes"]),
        )
        for name, run in runs.items()
    ]


def about(run: Mapping[str, Any]) -> str:
    """What made a run, in words: engine, device, precision."""
    return f"{run['engine']} {run['engine_version']} ({run['device']}, {run['precision']})"


def rows_of(report: Report) -> dict[str, tuple[Row, list[Row]]]:
    """A report as named tables: title -> (header, rows)."""
    names = [f"server: {about(report.reference)}", f"edge: {about(report.candidate)}"]
    tables: dict[str, tuple[Row, list[Row]]] = {
        "Differences": (
            ("output", "kind", "max |d|", "max |dp|", "cosine", "SQNR dB", "worst", "moves"),
            [
                (
                    o.name,
                    o.kind,
                    f"{o.max_abs_diff:.2e}",
                    f"{o.max_probability_diff:.2e}",
                    f"{o.cosine:.7f}",
                    f"{o.sqnr_db:.1f}",
                    f"{o.cosine_min:.5f} {o.worst}",
                    "-" if o.response is None else f"{o.response:.3f}",
                )
                for o in report.outputs
            ],
        )
    }
    if report.top1_agreement is not None:
        accuracy = report.accuracy or {}
        top5 = [percent(accuracy.get(f"{who}_top5")) for who in ("reference", "candidate")]
        tables["Answers"] = (
            ("accuracy", "top-1", "top-5"),
            [
                (names[0], percent(accuracy.get("reference_top1")), top5[0]),
                (names[1], percent(accuracy.get("candidate_top1")), top5[1]),
                ("agreement", percent(report.top1_agreement), percent(report.top5_agreement)),
            ],
        )
    tables["Latency"] = (
        LATENCY_HEADER,
        latency_rows(dict(zip(names, (report.reference, report.candidate)))),
    )
    return tables


TARGET_HEADER = (
    "target", "precision", "size", "operators", "int8", "fp16", "other", "calib", "weights",
)  # fmt: skip


def target_row(name: str, target: Target) -> Row:
    """What a `.nb` file was really made of: its kernels by precision, and its weights by dtype."""
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


def float_layers(found: FloatLayers) -> list[str]:
    """What `max_drop` decided, in sentences."""
    lines = [
        f"{found.measure} on {found.samples} samples held out: int8 loses "
        f"{found.drop_int8:.2f} points, with {len(found.layers)} layers in float {found.drop:.2f}"
    ]
    if found.layers:
        lines.append("in float: " + ", ".join(found.layers))
    return lines


LOSSES_HEADER = ("layer", "operator", "weights", "parameters", "SQNR dB", "cosine", "top-1 agrees")


def losses_rows(losses: Sequence[LayerLoss]) -> list[Row]:
    """Rows for `sensitivity`."""
    return [
        (
            loss.layer,
            loss.op,
            loss.weight,
            f"{loss.parameters:,}",
            f"{loss.sqnr_db:.1f}",
            f"{loss.cosine:.6f}",
            percent(loss.top1_agreement),
        )
        for loss in losses
    ]


TAPS_HEADER = ("layer", "operator", "as it runs dB", "alone dB", "expected dB", "layers")


def tap_rows(taps: Sequence[Tap]) -> list[Row]:
    """Rows for `layers`: the signal to noise ratio at every variable that was looked at."""
    return [
        (
            tap.name,
            tap.op,
            "-" if tap.whole is None else f"{tap.whole.sqnr_db:.1f}",
            "-" if tap.alone is None else f"{tap.alone.sqnr_db:.1f}",
            "-" if tap.expected_db is None else f"{tap.expected_db:.1f}",
            str(tap.layers),
        )
        for tap in taps
    ]


DIVERGENCE_HEADER = (
    "variable", "shape", "SQNR dB", "cosine", "server mean", "edge mean", "server range",
    "edge range", "NaN",
)  # fmt: skip


def divergence_rows(divergence: Divergence) -> list[Row]:
    """Rows for the layer at fault: what it reads, what it writes, and what it writes when it is
    fed the server's values."""
    numbers = [(n.name, n) for n in divergence.inputs]
    numbers.append((f"-> {divergence.output.name}", divergence.output))
    if divergence.alone is not None:
        numbers.append((f"-> {divergence.alone.name}, alone", divergence.alone))
    return [
        (
            name,
            str(list(n.shape)),
            f"{n.sqnr_db:.1f}",
            f"{n.cosine:.6f}",
            *(f"{side.mean:.4g}" for side in (n.server, n.edge)),
            *(f"{side.minimum:.4g} to {side.maximum:.4g}" for side in (n.server, n.edge)),
            str(n.edge.not_finite),
        )
        for name, n in numbers
    ]


def losses_svg(losses: Sequence[LayerLoss], *, title: str) -> str:
    """A bar for each layer, as long as its SQNR: short bars are what quantization hurts."""
    row, left, width, top = 18, 260, 460, 54
    finite = [loss.sqnr_db for loss in losses if np.isfinite(loss.sqnr_db)]
    longest = max([1.0, *finite])
    height = top + row * len(losses) + 12
    escape = html.escape
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{left + width + 70}' height='{height}' "
        "font-family='system-ui, sans-serif' font-size='12'>",
        f"<title>{escape(title)}: sensitivity to int8</title>",
        f"<rect width='100%' height='{height}' fill='#fff'/>",
        f"<text x='12' y='22' font-size='15' font-weight='600'>{escape(title)}</text>",
        "<text x='12' y='42' fill='#555'>SQNR of the output in dB when this layer alone is int8: "
        "the shorter, the worse</text>",
    ]
    for index, loss in enumerate(losses):
        y = top + row * index
        share = min(1.0, max(0.0, loss.sqnr_db / longest))
        color = "#b3261e" if loss.sqnr_db < 20 else "#c77700" if loss.sqnr_db < 30 else "#0a7a33"
        value = f"{loss.sqnr_db:.1f}" if np.isfinite(loss.sqnr_db) else "no difference"
        parts.append(
            f"<text x='{left - 8}' y='{y + 12}' text-anchor='end'>{escape(loss.layer[-38:])}</text>"
            f"<rect x='{left}' y='{y + 2}' width='{share * width:.1f}' height='{row - 5}' "
            f"fill='{color}'/><text x='{left + share * width + 6:.1f}' y='{y + 12}'>{value}</text>"
        )
    return "\n".join(parts) + "\n</svg>\n"


def verdict(report: Report) -> str:
    """The outcome in one line."""
    if report:
        return f"PASSED on {report.samples} samples"
    return f"FAILED on {report.samples} samples: " + "; ".join(report.failures)


def predictions(
    run: Run, labels: Sequence[str] | None = None, *, top: int = 5
) -> list[dict[str, Any]]:
    """The best classes of each sample: [{id, label, top: [{index, name, score}]}].

    Scores are the output's own values. Empty where the first output is not one row of scores.
    """
    if top < 1:
        raise UsageError("top is at least 1")
    values = next(iter(run.outputs.values()), [])
    result = []
    for sample, value in zip(run.samples, values):
        if value.ndim < 1 or value.size != value.shape[-1] or value.size < 2:
            return []
        scores = value.ravel()
        best = np.argsort(-scores, kind="stable")[:top]
        result.append(
            {
                "id": sample.id,
                "label": sample.label,
                "top": [
                    {
                        "index": int(i),
                        "name": labels[i] if labels and i < len(labels) else None,
                        "score": float(scores[i]),
                    }
                    for i in best
                ],
            }
        )
    return result


ANSWER_HEADER = ("sample", "label", "best classes")


def answer_rows(answers: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Rows for `predictions`."""
    return [
        (a["id"], "-" if a["label"] is None else str(a["label"]), _classes(a["top"]))
        for a in answers
    ]


def _classes(top: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(
        f"{c['index'] if c['name'] is None else c['name']} {c['score']:.3f}" for c in top
    )


def side_by_side(
    answers: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]],
) -> tuple[Row, list[Row]]:
    """Header and rows: for each sample the best classes of two runs, one class a row."""
    rows: list[Row] = []
    for server, edge in answers:
        for a, b in zip(server["top"], edge["top"]):
            rows.append((server["id"], _classes([a]), _classes([b])))
    return ("image", "server", "edge"), rows


def facts(document: Mapping[str, Any], prefix: str = "") -> list[Row]:
    """Rows of name and value for a nested document; long lists are counted."""
    rows: list[Row] = []
    for name, value in document.items():
        if isinstance(value, dict) and value:
            rows += facts(value, f"{prefix}{name}.")
        elif isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
            shown = value if len(value) <= 8 else value[:8]
            for index, item in enumerate(shown):
                rows.append((f"{prefix}{name}[{index}]", _brief(item)))
            if len(value) > len(shown):
                rows.append((f"{prefix}{name}", f"... {len(value)} in all"))
        elif isinstance(value, list) and len(value) > 8:
            rows.append((f"{prefix}{name}", f"{len(value)}: {value[0]}, ..."))
        else:
            rows.append((f"{prefix}{name}", "-" if value is None else str(value)))
    return rows


def _brief(item: Mapping[str, Any]) -> str:
    return "  ".join(f"{name} {'-' if v is None else v}" for name, v in item.items())


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem;
  color: #1c1e21; background: #fff }
table { border-collapse: collapse; margin: 1rem 0 } caption { text-align: left; font-weight: 600 }
th, td { padding: .3rem .8rem; border-bottom: 1px solid #ddd; text-align: right }
th:first-child, td:first-child { text-align: left }
.passed { color: #0a7a33 } .failed { color: #b3261e }
@media (prefers-color-scheme: dark) {
  body { color: #e4e6eb; background: #18191a } th, td { border-color: #3a3b3c }
  .passed { color: #4cc777 } .failed { color: #ff8a80 } }
"""


def html_page(report: Report) -> str:
    """A page of its own (no scripts, nothing loaded) with all that the report says."""
    escape = html.escape
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width'>",
        f"<title>{escape(report.reference['model']['name'])}: comparison</title>",
        f"<style>{_STYLE}</style>",
        f"<h1>{escape(report.reference['model']['name'])}</h1>",
        f"<p class='{'passed' if report else 'failed'}'><b>{escape(verdict(report))}</b></p>",
    ]
    parts += [f"<p>Warning: {escape(text)}</p>" for text in report.warnings]
    for title, (header, rows) in rows_of(report).items():
        cells = "".join(f"<th scope='col'>{escape(name)}</th>" for name in header)
        lines = "".join(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
        )
        parts.append(
            f"<table><caption>{escape(title)}</caption><thead><tr>{cells}</tr></thead>"
            f"<tbody>{lines}</tbody></table>"
        )
    if report.disagreeing:
        items = "".join(f"<li>{escape(id_)}</li>" for id_ in report.disagreeing)
        parts.append(f"<h2>Samples that disagree</h2><ul>{items}</ul>")
    limits = ", ".join(
        f"{name} {value:g}" for name, value in vars(report.limits).items() if value is not None
    )
    parts.append(f"<p>Limits: {escape(limits)}. Candidate made {report.candidate['created']}.</p>")
    return "\n".join(parts) + "</html>\n"
