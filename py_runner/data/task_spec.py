"""What a model does, as data that travel with it: a task's name and its options.

    {"name": "detection", "threshold": 0.5}

Where an export says it, it is read from there (`task_of`); a user says it as a text
`NAME[,KEY=VALUE...]` (`task_spec`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from py_runner.data.yml_steps import UnsupportedError, read_number
from py_runner.errors import UsageError

__all__ = ["OPTIONS", "check_task", "task_of", "task_spec"]

_DB = ("threshold", "box_threshold", "unclip_ratio", "max_candidates", "use_dilation", "score_mode")
# The tasks, and the options that each takes.
OPTIONS: dict[str, tuple[str, ...]] = {
    "classification": ("threshold",),
    "detection": (
        *("threshold", "score_threshold", "nms_threshold", "nms_top_k", "keep_top_k"),
        *("arch", "strides", "size", "anchors", "conf_threshold", "scale_x_y"),
        *("min_sizes", "max_sizes", "aspect_ratios", "min_max_aspect_ratios_order"),
        *("offset", "clip", "variances"),
    ),
    "segmentation": ("threshold", "output_op"),
    "text-detection": (*_DB, "box_type"),
    "text-recognition": ("use_space_char", "score_threshold"),
    "keypoints": ("threshold", "arch", "dark"),
    "embedding": (),
    "tensor": (),
}
_KEYPOINTS = ("HRNet", "HigherHRNet", "KeyPoint", "TinyPose")


def task_spec(text: str) -> dict[str, Any]:
    """The task that a text `NAME[,KEY=VALUE...]` names. Raises UsageError for another text.

    Values are numbers, on or off, or words; several numbers are joined by "x".
    """
    name, *parts = (part.strip() for part in text.split(","))
    task: dict[str, Any] = {"name": name}
    for part in parts:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not value:
            raise UsageError(f"task: {part!r} is no KEY=VALUE in {text!r}")
        if key in task:
            raise UsageError(f"task: {key} is given twice in {text!r}")
        task[key] = _value(value)
    try:
        check_task(task)
    except ValueError as error:
        raise UsageError(f"task: {error}") from None
    return task


def _value(text: str) -> Any:
    if text in ("on", "off"):
        return text == "on"
    try:
        return [_plain(side) for side in text.split("x")] if "x" in text[1:] else _plain(text)
    except ValueError:
        return text


def _plain(text: str) -> int | float:
    number = read_number(text)
    return int(number) if number.is_integer() and "." not in text else number


def check_task(task: Mapping[str, Any]) -> None:
    """Raise ValueError where a task is not known, or does not take an option."""
    name = task.get("name")
    if not isinstance(name, str) or name not in OPTIONS:
        raise ValueError(f"{name!r} is not known: it is one of {', '.join(OPTIONS)}")
    unknown = sorted(set(task) - {"name", *OPTIONS[name]})
    if unknown:
        takes = ", ".join(OPTIONS[name]) or "no options"
        raise ValueError(f"{name} does not take {', '.join(unknown)}; it takes {takes}")
    for key, value in task.items():
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(one, (str, int, float)) for one in values):
            raise ValueError(
                f"{name}: {key} is {value!r}, which is no number, word or list of them"
            )
        if any(isinstance(one, float) and not math.isfinite(one) for one in values):
            raise ValueError(f"{name}: {key} is {value!r}, not a finite number")
        if key.endswith(("threshold", "ratio", "top_k", "candidates")) and (
            isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0
        ):
            raise ValueError(f"{name}: {key} is {value!r}, not a number from 0")


def task_of(path: Path, document: Mapping[str, Any]) -> dict[str, Any] | None:
    """The task that an export's file tells of; None where it tells of none.

    Raises UnsupportedError for post-processing that is of no task here.
    """
    try:
        task = _task_of(path, document)
        if task is not None:
            check_task(task)
    except ValueError as error:
        raise UnsupportedError(f"{path}: {error}; say --task NAME,KEY=VALUE") from None
    return task


def _task_of(path: Path, document: Mapping[str, Any]) -> dict[str, Any] | None:
    if "Preprocess" in document:
        return _detection(document)
    if "Deploy" in document:
        section = document["Deploy"]
        operation = section.get("output_op") if isinstance(section, dict) else None
        return {"name": "segmentation", **({"output_op": operation} if operation else {})}
    section = document.get("PostProcess")
    if not isinstance(section, dict):
        return None
    name = section.get("name")
    if name is None:
        return {"name": "classification"} if "Topk" in section else None
    kind = str(name).removeprefix("Distillation")
    if kind == "DBPostProcess":
        names = {"thresh": "threshold", "box_thresh": "box_threshold"}
        options = {names.get(key, key): value for key, value in section.items()}
        taken = {key: value for key, value in options.items() if key in OPTIONS["text-detection"]}
        return {"name": "text-detection", **taken}
    if kind == "CTCLabelDecode":
        return {"name": "text-recognition", "use_space_char": True}
    if kind == "ClsPostProcess":
        return {"name": "classification"}
    raise UnsupportedError(
        f"{path}: the post-processing {str(name)!r} is not supported (DBPostProcess, "
        "CTCLabelDecode, ClsPostProcess and Topk are); say --task NAME,KEY=VALUE"
    )


def _detection(document: Mapping[str, Any]) -> dict[str, Any]:
    arch, metric = str(document.get("arch", "")), str(document.get("metric", ""))
    task: dict[str, Any] = {"name": "detection"}
    if arch in _KEYPOINTS or metric.startswith("KeyPoint"):
        task = {"name": "keypoints"}
    if arch:
        task["arch"] = arch
    if document.get("draw_threshold") is not None:
        task["threshold"] = document["draw_threshold"]
    if task["name"] == "detection":
        nms = document.get("NMS")
        for key in ("score_threshold", "nms_threshold", "nms_top_k", "keep_top_k"):
            if isinstance(nms, dict) and nms.get(key) is not None:
                task[key] = 0 if nms[key] == -1 else nms[key]  # all of them
        if isinstance(document.get("fpn_stride"), list):
            task["strides"] = document["fpn_stride"]
        anchors = document.get("anchors")
        if isinstance(anchors, list):
            pairs = (side if isinstance(side, list) else [side] for side in anchors)
            task["anchors"] = [number for pair in pairs for number in pair]
    elif "HigherHRNet" not in arch:  # its own command decodes so unless told otherwise
        task["dark"] = bool(document.get("use_dark", True))
    return task
