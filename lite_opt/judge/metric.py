"""What rounding costs a model, in points of what its task is measured by.

    metric = Metric(task={"name": "detection"}, truth=Path("instances.json"))
    metric.loss(reference, candidate)            # Loss(measure="mAP", points=0.4)

With labels it is accuracy that is lost (top-1, mAP, mIoU, hmean, right lines), else the share of
what both find that comes out otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lite_opt.judge.compare import Report, compare
from lite_opt.judge.rates import Rate
from py_runner.errors import DataError, UsageError
from py_runner.formats.run import Run

__all__ = ["Loss", "Metric"]

# Without labels: the rate of each task that a loss is told in.
_AGREEMENT = {
    "detection": "boxes at IoU 0.9",
    "segmentation": "mIoU",
    "text-detection": "texts at IoU 0.5",
    "text-recognition": "lines read alike",
    "embedding": "recall@1",
    "keypoints": "points",
}
_LOST = ", points lost"  # how the rates of both runs' accuracies are called
_ALL = 100.0


@dataclass(frozen=True)
class Loss:
    """`points` of a hundred are lost of `measure`; all of them where an answer is NaN or Inf."""

    measure: str
    points: float


@dataclass(frozen=True)
class Metric:
    """By what the answers of a model are judged: its task and labels as in a Run, and the file of
    labels of whole samples, None for those of the samples themselves, or agreement."""

    task: Mapping[str, Any] | None = None
    labels: tuple[str, ...] | None = None
    truth: Path | None = None

    def report(self, reference: Run, candidate: Run, **how: Any) -> Report:
        """The comparison by the task; `how` are limits of `compare`."""
        return compare(self._told(reference), self._told(candidate), truth=self.truth, **how)

    def loss(self, reference: Run, candidate: Run) -> Loss:
        """What the candidate loses. Raises as `loss_in`, and as `compare` does."""
        return self.loss_in(self.report(reference, candidate))

    def loss_in(self, report: Report) -> Loss:
        """What the candidate of such a report loses.

        Raises UsageError where the outputs are neither of the task nor scores of classes, DataError
        where the float model finds nothing on these samples.
        """
        if any(output.not_finite for output in report.outputs):
            return Loss("finite answers", _ALL)
        if report.scores is not None:
            if not report.scores.judged:
                raise DataError(
                    f"nothing can be lost on these samples: {'; '.join(report.scores.notes)}"
                    if report.scores.notes
                    else f"the model finds nothing on these samples (task {report.scores.task}): "
                    "give others"
                )
            return _of_task(report.scores.task, {rate.name: rate for rate in report.rates})
        if report.top1_agreement is None:
            raise UsageError(
                "this model's outputs are no scores of classes, and nobody said what they are: "
                "give its --task, or name layers to keep in float, which `paddle-edge sensitivity` "
                "ranks"
            )
        accuracy = report.accuracy
        if accuracy is not None and accuracy["labelled"] == report.samples:
            return Loss("top-1 accuracy", accuracy["drop"])
        return Loss("top-1 agreement", (1 - report.top1_agreement) * 100)

    def _told(self, run: Run) -> Run:
        task = None if self.task is None else dict(self.task)
        return replace(run, task=task, labels=self.labels if task else None)


def _of_task(task: str, rates: Mapping[str, Rate]) -> Loss:
    for name, rate in rates.items():
        if name.endswith(_LOST):
            return Loss(name.removesuffix(_LOST), rate.value)
    name = _AGREEMENT[task]
    return Loss(f"agreement, {name}", (1 - rates[name].value) * 100)
