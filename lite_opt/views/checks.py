"""A report as a list of checks: what was measured, its limit, whether it is held, and what it is.

Pages, JUnit and Markdown show the same list.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lite_opt.judge.compare import Report
from lite_opt.judge.differences import OutputDifference
from lite_opt.judge.faults import LEAST_RESPONSE
from lite_opt.judge.rates import Rate
from lite_opt.views.table import percent

__all__ = ["Check", "check_of_rate", "checks", "figures"]


@dataclass(frozen=True)
class Check:
    """One line: `passed` is None where nothing was asked; `why` explains the figure; `interval` is
    that of a rate, in words, else empty."""

    name: str
    value: str
    limit: str
    passed: bool | None
    why: str
    interval: str = ""

    @property
    def found(self) -> str:
        """The value, with its interval where there is one."""
        return self.value + (f" ({self.interval})" if self.interval else "")


def checks(report: Report) -> Iterator[Check]:
    """The rates first, which are what people ask for, then each output's differences."""
    for rate in report.rates:
        yield check_of_rate(rate)
    for output in report.outputs:
        yield from _output(output, report)


def figures(rate: Rate) -> tuple[str, str, str]:
    """A rate's value and the ends of its interval: shares in percent, losses in points."""
    value, low, high = (
        f"{v:.2f}" if rate.at_most else percent(v) for v in (rate.value, rate.low, rate.high)
    )
    return value, low, high


def check_of_rate(rate: Rate) -> Check:
    """A rate beside its limit."""
    value, low, high = figures(rate)
    limit = ""
    if rate.limit is not None:
        limit = f"at most {rate.limit:g}" if rate.at_most else f"at least {percent(rate.limit)}"
    return Check(
        rate.name,
        value,
        limit,
        None if rate.limit is None else not rate.broken,
        _why(rate.name) + " Below it: by 95 % it lies between these two.",
        f"{low} to {high}, of {rate.units} {rate.unit}",
    )


def _output(output: OutputDifference, report: Report) -> Iterator[Check]:
    of = f", output {output.name}" if len(report.outputs) > 1 else ""
    by_task = report.scores is not None and report.scores.judged
    held: bool | None = output.cosine >= report.limits.cosine
    yield Check(
        f"cosine{of}",
        f"{output.cosine:.6f}",
        f"at least {report.limits.cosine:g}",
        None if by_task else held,
        _WHY["cosine"],
    )
    limited = output.limit is not None
    yield Check(
        f"largest difference{of}",
        f"{output.max_probability_diff:.2e}",
        f"at most {output.limit:.3g}" if limited else "",
        None if by_task or output.limit is None else output.max_probability_diff <= output.limit,
        _WHY["tensor difference" if output.kind == "tensor" else "difference"],
    )
    if output.response is not None:
        yield Check(
            f"moves with the input{of}",
            f"{output.response:.3f}",
            f"at least {LEAST_RESPONSE:g}",
            output.response >= LEAST_RESPONSE,
            _WHY["moves"],
        )
    yield Check(
        f"NaN or Inf{of}",
        str(output.not_finite),
        "none",
        not output.not_finite,
        _WHY["finite"],
    )
    yield Check(f"signal to noise{of}", f"{output.sqnr_db:.1f} dB", "", None, _WHY["sqnr"])


_WHY = {
    "cosine": "How alike the scores are over all samples, centred so that a flat answer does not "
    "pass for agreement: 1 is the same.",
    "difference": "max |dp|: the most that a probability differs, of all samples and classes.",
    "tensor difference": "The most that a value differs, as a share of the largest value.",
    "moves": "How much the answer changes from sample to sample, against the reference: 1 is as "
    "much, near 0 means that it says the same whatever it sees.",
    "finite": "Values that are no numbers. One is too many.",
    "sqnr": "The reference's energy over that of the difference; 20 dB is a tenth of the "
    "amplitude, 40 dB a hundredth.",
}
_RATES = {
    "agreement": "The share of samples for which both put the same class first (top-5: the first "
    "class of the reference is among five).",
    "accuracy, points lost": "Points of a hundred by which fewer labels are hit than by the "
    "reference.",
    "accuracy": "The share of labelled samples whose label is put first (top-5: among five).",
    "points lost": "Points of a hundred that are lost against the reference, by the labels.",
    "latency": "By how many percent the median inference takes longer than the reference's.",
}


def _why(name: str) -> str:
    found = next((text for part, text in _RATES.items() if part in name), None)
    return found or f"The share that both sides have alike: {name}."
