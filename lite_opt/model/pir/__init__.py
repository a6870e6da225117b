"""Paddle 3's PIR `inference.json` -> the blocks of a `Program`, without importing paddle.

The file holds a program of Paddle's new intermediate representation: values in single
assignment, operators of the dialect `pd_op`, and constants as operators of their own. Paddle
Lite reads only the older ProgramDesc, so each operator is translated to the one that
Paddle 2.6's exporter writes for the same layer: table.py says how, one row an operator; finish.py
does what a row leaves open, operators.py what a row cannot say. Constants that feed shapes, axes or
paddings become attributes again, and only what reaches an output is kept.

The format, from `paddle/fluid/pir/serialize_deserialize` (schema.h, serialize_utils.h):

    {"base_code": {"magic": "pir", "version": n},
     "program": {"regions": [{"blocks": [{"ops": [op, ...]}]}]}}
    op         {"#": name, "A": [{"N": name, "AT": attribute}], "I": [{"%": id}],
                "O": [{"%": id, "TT": type}]}; a null operand has id 0
    name       "0." builtin, "1." pd_op, "2." cf, "3." custom operators; "p" is a parameter:
               A = [is_distributed, is_parameter, need_clip, name], and O is one object
    attribute  {"#": "0.a_i32", "D": value}; NaN and infinity are {"#": ..., "VD": "-INF"}
    type       {"#": "0.t_dtensor", "D": [{"#": "0.t_f32"}, dims, layout, lod, offset]}

`version` counts changes of operators, not of Paddle: 0 is a development build, 1 to 4 were
released with Paddle 3.0 to 3.3. What changed (the folder `patch`): some attributes became wider
integers or floats, a few gained a default; here attributes are read by value, so all are read
alike. The parameters (`.pdiparams`) are in the older format, sorted by name. The names of the
older operators, their slots and attributes are those of `paddle/phi/ops/yaml/op_compat.yaml`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lite_opt.model.pir.finish import FINISH
from lite_opt.model.pir.kinds import MalformedError, UnsupportedError
from lite_opt.model.pir.operators import BUILTIN, CODE, Code
from lite_opt.model.pir.read import PirOp, load_ops, read_op, read_region
from lite_opt.model.pir.table import Row, rows
from lite_opt.model.pir.translator import Translator
from lite_opt.model.program import Graph
from py_runner.errors import ConvertError, ModelError

__all__ = ["read_pir"]

_MAX_DEPTH = 32


def read_pir(path: Path, data: bytes) -> Graph:
    """The graph in a PIR `inference.json`.

    There is one block, with the feed and fetch operators, variables and parameters that
    Paddle 2.6's exporter would write; outputs have the names that Paddle gives them. The file
    does not say which Paddle wrote it, nor versions of older operators: these are 0 and empty.
    `path` is for messages only.

    Raises:
        ModelError: the file is damaged, of an unknown version, or not a PIR model.
        ConvertError: it has operators that are not translated (each is named), loops that run as
            often as data say, or branches that give unlike shapes.
    """
    try:
        ops = _read_ops(load_ops(data))
        translator = Translator(FINISH, _translate, _largest_key(ops))
        for op in ops:
            translator.translate(op)
        block = translator.block()
    except MalformedError as error:
        raise ModelError(f"{path}: {error}") from None
    except UnsupportedError as error:
        raise ConvertError(f"{path}: {error}") from None
    return Graph([block], 0, {})


def _read_ops(raw_ops: list[Any]) -> list[PirOp]:
    """All operators; raises UnsupportedError that names every kind that is not translated."""
    refused: dict[str, str] = {}
    ops = _read_block(raw_ops, refused, 0)
    if refused:
        texts = list(refused.values())
        more = f"; and {len(texts) - 5} more kinds of operators" if len(texts) > 5 else ""
        what = "replace what it names in the network, or compute it outside, and export again"
        raise UnsupportedError(f"{'; '.join(texts[:5])}{more}: {what}")
    return ops


def _read_block(raw_ops: list[Any], refused: dict[str, str], depth: int) -> list[PirOp]:
    """The operators of a block and of those inside it; notes in `refused` what stays."""
    if depth > _MAX_DEPTH:
        raise MalformedError(f"blocks in blocks, {depth} deep")
    ops = []
    for raw in raw_ops:
        try:
            op = read_op(raw)
        except UnsupportedError as error:
            refused.setdefault(raw["#"], str(error))
            continue
        op.regions = [
            read_region(region, lambda inner: _read_block(inner, refused, depth + 1))
            for region in op.raw_regions
        ]
        if _translation(op) is None and not (depth and op.name == "yield"):
            refused.setdefault(raw["#"], f"{op} is not translated yet")
        ops.append(op)
    return ops


def _largest_key(ops: list[PirOp]) -> int:
    own = [key for op in ops for key, _ in op.results]
    inner = [_largest_key(region.ops) for op in ops for region in op.regions]
    return max([0, *own, *inner])


def _translate(translator: Translator, op: PirOp) -> None:
    """Translate one operator by its function or its row."""
    found = _translation(op)
    if found is None:
        raise UnsupportedError(f"{op} is not translated yet")
    if isinstance(found, Row):
        translator.by_row(op, found)
    else:
        found(translator, op)


def _translation(op: PirOp) -> Row | Code | None:
    """How to translate an operator; `relu_` (in place) is `relu` in single assignment."""
    if op.is_builtin or op.name == "p":
        return BUILTIN.get(op.name)
    for name in (op.name, op.name[:-1] if op.name.endswith("_") else op.name):
        found = CODE.get(name) or rows().get(name)
        if found is not None:
            return found
    return None
