"""What a matrix is of: a small YAML, whose mistakes are told with their line and column.

    models:
      squeezenet: exports/SqueezeNet1_1
      mobilenet: {path: exports/MobileNetV3, image: imagenet}
    recipes: [fp32, int8-weights]
    engines: [lite, native]
    devices: [cpu, "qemu-aarch64:pi4"]
    data:
      photos: {path: val.txt, limit: 500}

Names of files are relative to the plan's folder. docs/matrix.md lists the keys.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from lite_opt.judge.limits import TASK_LIMITS
from lite_opt.recipes import RECIPES
from py_runner.data.image import PRESETS
from py_runner.engines import ENGINES
from py_runner.errors import DataError, UsageError
from py_runner.files.faults import reason
from py_runner.files.regular import open_regular
from py_runner.formats.bundle import LIMIT_RANGES, check_limit
from py_runner.inference import bundle_target

if TYPE_CHECKING:
    from yaml import Node

__all__ = ["Data", "ModelEntry", "Plan"]

_MOST_BYTES = 1 << 20
_LETTERS = 60  # of a name, and of what is quoted
_KINDS = {"str": "a text", "int": "a number", "float": "a number", "bool": "a yes or no",
          "null": "nothing", "seq": "a list", "map": "keys and values",
          "timestamp": "a date"}  # fmt: skip
# What results of ours are called: no name of a plan may end so.
_OURS = (".run", ".bundle", ".simulated", ".html", ".json")


@dataclass(frozen=True)
class ModelEntry:
    """A source model; `beside` has "params", "image", "labels" and "task", as for `convert`."""

    name: str
    path: Path
    beside: Mapping[str, Any]


@dataclass(frozen=True)
class Data:
    """A data set: of it at most `limit` samples; `truth` holds labels of whole samples."""

    name: str
    path: Path
    truth: Path | None = None
    limit: int | None = None


@dataclass(frozen=True)
class Plan:
    """What is to be crossed. `options` are "threads", "warmup" and "repeat", as for `run`."""

    path: Path
    models: tuple[ModelEntry, ...]
    recipes: tuple[str, ...]
    engines: tuple[str, ...]
    devices: tuple[str, ...]
    data: tuple[Data, ...]
    calibration: Path | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    task_limits: Mapping[str, float] = field(default_factory=dict)
    options: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def open(cls, path: str | Path) -> Plan:
        """Read a plan. Raises DataError, with line and column, for what is none."""
        return _Reader(Path(path)).plan()


class _Reader:
    """A file of YAML, as nodes that know where they stand."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def plan(self) -> Plan:
        required = ("models", "recipes", "data")
        others = ("engines", "devices", "calibration", "limits", "task_limits")
        root = self._keys(self._root(), "a plan", (*required, *others, *_OPTIONS), required)
        models = tuple(self._model(*entry) for entry in self._named(root["models"], "models"))
        recipes = self._names(root["recipes"], "recipes", "recipe", RECIPES)
        calibration = self._file(root["calibration"]) if "calibration" in root else None
        for name, node in recipes.items():
            if RECIPES[name].calibration is not None and calibration is None:
                self._fail(node, f"recipe {name} needs data that calibrate: add calibration: PATH")
        engines, devices = {"lite": root["recipes"]}, {"cpu": root["recipes"]}
        if "engines" in root:
            engines = self._names(root["engines"], "engines", "engine", ENGINES)
        if "devices" in root:
            devices = self._names(root["devices"], "devices", "device")
        for device, node in devices.items():
            self._check_device(node, device, engines)
        return Plan(
            self.path,
            models,
            tuple(recipes),
            tuple(engines),
            tuple(devices),
            tuple(self._data(*entry) for entry in self._named(root["data"], "data")),
            calibration,
            self._limits(root.get("limits"), "limits", LIMIT_RANGES),
            self._limits(root.get("task_limits"), "task_limits", _OF_TASKS),
            {name: self._count(root[name], least) for name, least in _OPTIONS.items()
             if name in root},
        )  # fmt: skip

    def _root(self) -> Node:
        import yaml

        try:
            with open_regular(self.path) as file:
                data = file.read(_MOST_BYTES + 1)
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read: {reason(error)}") from None
        if len(data) > _MOST_BYTES:
            raise DataError(f"{self.path}: is larger than {_MOST_BYTES >> 20} MB: that is no plan")
        try:
            text = data.decode("utf-8-sig")
            # Nodes that aliases share would be read once for each alias, and again inside of it.
            for event in yaml.parse(text, yaml.SafeLoader):
                if isinstance(event, yaml.AliasEvent):
                    self._fail(event, "aliases (*name) are not read: write it out")
            root = yaml.compose(text, yaml.SafeLoader)
        except UnicodeDecodeError:
            raise DataError(f"{self.path}: is not UTF-8") from None
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            raise DataError(f"{self.path}:{line}: holds a character that YAML has not") from None
        except yaml.MarkedYAMLError as error:
            what = ", ".join(filter(None, (error.context, error.problem)))
            mark = error.problem_mark or error.context_mark
            where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
            raise DataError(f"{self.path}{where}: is no YAML: {' '.join(what.split())}") from None
        except RecursionError:
            raise DataError(f"{self.path}: is nested too deep: that is no plan") from None
        if root is None:
            raise DataError(f"{self.path}: is empty: a plan has models, recipes and data")
        return root

    def _fail(self, at: Any, text: str) -> NoReturn:
        mark = at.start_mark
        raise DataError(f"{self.path}:{mark.line + 1}:{mark.column + 1}: {text}")

    def _keys(
        self, node: Node, what: str, allowed: Collection[str] = (), required: Collection[str] = ()
    ) -> dict[str, Node]:
        """A mapping's values by their keys, which are of those allowed, where any are."""
        if _kind(node) != "map":
            self._fail(node, f"{what} has keys and values, {self._not(node)}")
        found: dict[str, Node] = {}
        for key, value in node.value:
            name = self._text(key, "a key")
            if allowed and name not in allowed:
                self._fail(key, f"unknown key {_quoted(name)}{_near(name, allowed)}: {what} has "
                           f"{', '.join(allowed)}")  # fmt: skip
            if name in found:
                self._fail(key, f"{_quoted(name)} stands here twice")
            found[name] = value
        for name in required:
            if name not in found:
                self._fail(node, f"{what} needs {name}")
        return found

    def _named(self, node: Node, what: str) -> list[tuple[str, Node]]:
        """Entries under names that may be those of folders."""
        found = self._keys(node, what)
        for key, _ in node.value:
            name = key.value
            if not re.fullmatch(r"\w[\w.+-]*", name) or len(name) > _LETTERS:
                self._fail(key, f"{_quoted(name)} is no name: letters, digits, and . _ + - between "
                           f"them, {_LETTERS} at most")  # fmt: skip
            if name.endswith(_OURS):
                self._fail(key, f"{_quoted(name)} ends as a result of ours: choose another name")
        if not found:
            self._fail(node, f"{what} is empty: name at least one")
        return list(found.items())

    def _model(self, name: str, node: Node) -> ModelEntry:
        keys = self._entry(node, f"model {name}", ("params", "image", "labels", "task"))
        beside = dict.fromkeys(("params", "image", "labels", "task"))
        beside |= {key: str(self._file(keys[key])) for key in ("params", "labels") if key in keys}
        if "task" in keys:
            beside["task"] = self._text(keys["task"], "task")
        if "image" in keys:
            beside["image"] = self._image(keys["image"])
        return ModelEntry(name, self._file(keys["path"]), beside)

    def _image(self, node: Node) -> str:
        """A preset or a SPEC as it is; else a file."""
        text = self._text(node, "image")
        return text if text in PRESETS or "=" in text else str(self._file(node))

    def _data(self, name: str, node: Node) -> Data:
        keys = self._entry(node, f"data {name}", ("truth", "limit"))
        truth = self._file(keys["truth"]) if "truth" in keys else None
        limit = self._count(keys["limit"], 1) if "limit" in keys else None
        return Data(name, self._file(keys["path"]), truth, limit)

    def _entry(self, node: Node, what: str, more: tuple[str, ...]) -> dict[str, Node]:
        """A path alone, or keys and values."""
        if _kind(node) == "str":
            return {"path": node}
        if _kind(node) != "map":
            self._fail(node, f"{what} is a path, or has keys and values, {self._not(node)}")
        return self._keys(node, what, ("path", *more), ("path",))

    def _names(
        self, node: Node, what: str, one: str, known: Collection[str] = ()
    ) -> dict[str, Node]:
        """A list of texts, of those known, where any are."""
        if _kind(node) != "seq":
            such = f", such as [{', '.join(list(known)[:2])}]" if known else ""
            self._fail(node, f"{what} is a list{such}, {self._not(node)}")
        found: dict[str, Node] = {}
        for item in node.value:
            name = self._text(item, f"a {one}")
            if known and name not in known:
                self._fail(item, f"unknown {one} {_quoted(name)}{_near(name, known)}: choose "
                           f"{', '.join(known)}")  # fmt: skip
            if name in found:
                self._fail(item, f"{one} {_quoted(name)} is there twice")
            found[name] = item
        if not found:
            self._fail(node, f"{what} is empty: name at least one")
        return found

    def _check_device(self, node: Node, device: str, engines: Collection[str]) -> None:
        """Some engine of the plan has to run there."""
        told = []
        for engine in engines:
            try:
                bundle_target(engine, device)
            except UsageError as error:
                told.append(str(error))
            else:
                return
        self._fail(node, f"no engine of the plan runs on {_quoted(device)}: {'; '.join(told)}")

    def _limits(self, node: Node | None, what: str, known: Collection[str]) -> dict[str, float]:
        found = {}
        for name, value in ({} if node is None else self._keys(node, what, known)).items():
            found[name] = self._number(value, name)
            try:
                check_limit(name, found[name])
            except ValueError as error:
                self._fail(value, str(error))
        return found

    def _text(self, node: Node, what: str) -> str:
        if _kind(node) != "str":
            quotes = ": write it in quotes" if isinstance(node.value, str) else ""
            self._fail(node, f"{what} is a text, {self._not(node)}{quotes}")
        return str(node.value)

    def _number(self, node: Node, what: str) -> float:
        # By YAML's 1.1 a number such as 1e-3 is a text.
        if _kind(node) in ("int", "float") or (_kind(node) == "str" and not _style(node)):
            with suppress(ValueError):  # 0x10, 1:30
                if math.isfinite(number := float(node.value)):
                    return number
        self._fail(node, f"{what} is a number such as 0.5, {self._not(node)}")

    def _count(self, node: Node, least: int) -> int:
        number = self._number(node, "this") if _kind(node) == "int" else -1
        if not least <= number < 1 << 31:
            other = self._not(node) if number < 0 else f"not {_quoted(node.value)}"
            self._fail(node, f"this is a whole number, {least} or more, {other}")
        return int(number)

    def _file(self, node: Node) -> Path:
        name = self._text(node, "a path")
        path = self.path.parent / name
        try:
            there = "\0" not in name and path.exists()
        except OSError:  # longer than a name can be
            there = False
        if not there:
            self._fail(node, f"{_quoted(name)}: no such file or folder (beside the plan)")
        return path

    def _not(self, node: Node) -> str:
        value = f" ({_quoted(node.value)})" if isinstance(node.value, str) else ""
        return f"not {_KINDS.get(_kind(node), 'this')}{value}"


_OPTIONS = {"threads": 1, "warmup": 0, "repeat": 1}
_OF_TASKS = sorted({name for limits in TASK_LIMITS.values() for name in limits})


def _kind(node: Node) -> str:
    """ "str", "int", "seq", "map" ...; of a tag of one's own the tag."""
    return str(node.tag).rpartition(":")[2]


def _style(node: Node) -> str:
    """What a text stands in, such as a quote; "" of a plain one."""
    return getattr(node, "style", None) or ""


def _quoted(text: str) -> str:
    return ascii(text if len(text) <= _LETTERS else f"{text[:_LETTERS]}...")


def _near(name: str, known: Collection[str]) -> str:
    near = get_close_matches(name, known, 1)
    return f", did you mean {near[0]}?" if near else ""
