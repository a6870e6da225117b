"""What a model costs on an emulated board: each layer, measured on programs of one layer each, and
what keeping layers in float costs the whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lite_opt.conversion.steps import Models
from lite_opt.judge.layers.graph import Graph, Layer
from lite_opt.lite.part import part
from lite_opt.model.program import Op, Program
from lite_opt.quant.centre import lowered
from lite_opt.recipes import RECIPES
from py_runner.devices import BOARDS
from py_runner.errors import ConvertError, EngineError, UsageError
from py_runner.files.folder import temporary_folder
from py_runner.tensors import Sample
from py_runner.watch import QUIET, Watch

__all__ = ["FAMILIES", "LayerCost", "family_costs", "layer_costs"]

# A board of each family of int8 kernels: without dot product, and with.
FAMILIES = {"Pi 4": "qemu-aarch64:pi4", "Pi 5": "qemu-aarch64:pi5"}

_Shapes = dict[str, tuple[int, ...]]


def family_costs(
    models: Models, sample: Sample, *, watch: Watch = QUIET
) -> dict[str, dict[str, int]]:
    """Board of FAMILIES -> ARM instructions of one inference of a calibrated model: in "fp32", with
    every layer in "int8", and "mixed" as the recipe has it. Boards that are not there are left out.

    Raises EngineError where a board refuses one.
    """
    boards = {name: BOARDS[device] for name, device in FAMILIES.items()}
    boards = {name: board for name, board in boards.items() if not board.missing()}
    if not boards or models.mixed is None or models.quantized is None:
        return {}
    programs = {
        "fp32": (models.program, RECIPES["fp32"]),
        "int8": (lowered(models.mixed.program), models.recipe),
        "mixed": (models.quantized, models.recipe),
    }
    costs: dict[str, dict[str, int]] = {name: {} for name in boards}
    for done, (kind, (program, recipe)) in enumerate(programs.items(), start=1):
        with temporary_folder() as folder:
            model = part(program, "arm", recipe, folder)
            for name, board in boards.items():
                costs[name][kind] = board.count_instructions(model, sample)
        watch.step("counting instructions", done, len(programs))
    return costs


@dataclass(frozen=True)
class LayerCost:
    """Layers that are alike: operators of the same kinds, attributes and shapes.

    `layers` are their names, `ops` the kinds of their operators in order, `shape` that of their
    result for a batch of 1. `instructions` are those of all of them together, copying their inputs
    in and their results out included; None where such a layer cannot run alone, for `reason`.
    """

    layers: tuple[str, ...]
    ops: tuple[str, ...]
    shape: tuple[int, ...]
    instructions: int | None
    reason: str = ""


def layer_costs(program: Program, device: str, *, watch: Watch = QUIET) -> list[LayerCost]:
    """Count the ARM instructions of each layer of a repaired program, the dearest first.

    A layer is what Paddle Lite fuses into one kernel. Layers that are alike are measured once.
    Raises UsageError where a dimension other than the batch is dynamic, ModelError for control
    flow, EngineError where there is no board of that name.
    """
    if device not in BOARDS:
        raise UsageError(f"layers are counted on an emulated board: --device {next(iter(BOARDS))}")
    graph = Graph(program)
    alike: dict[str, list[Layer]] = {}
    for layer in graph.layers():
        alike.setdefault(_signature(graph, layer), []).append(layer)
    costs = []
    for done, layers in enumerate(alike.values(), start=1):
        first = layers[0]
        instructions, reason = _measured(graph, first, device)
        costs.append(
            LayerCost(
                tuple(layer.output for layer in layers),
                tuple(op.type for op in first.ops),
                _static(program, first.output),
                None if instructions is None else instructions * len(layers),
                reason,
            )
        )
        watch.step("layers", done, len(alike))
    return sorted(costs, key=lambda cost: -(cost.instructions or 0))


def _static(program: Program, name: str) -> tuple[int, ...]:
    """A variable's shape for a batch of 1."""
    shape = program.var(name).shape
    if shape.count(-1) == 1:
        shape = tuple(1 if d < 0 else d for d in shape)
    if -1 in shape:
        raise UsageError(
            f"{program.files.model}: '{name}' has the dynamic shape {shape}: fix it by "
            "--check-shape, or export with fixed sizes"
        )
    return shape


def _signature(graph: Graph, layer: Layer) -> str:
    """What layers of the same cost have in common."""
    program = graph.program
    parts = []
    for op in layer.ops:
        shapes = [(slot, [_static(program, n) for n in names]) for slot, names in _inputs(op)]
        attributes = sorted((name, repr(attr.value)) for name, attr in op.attrs.items())
        parts.append(repr((op.type, shapes, attributes)))
    return "\n".join(parts)


def _inputs(op: Op) -> list[tuple[str, list[str]]]:
    return sorted((slot, names) for slot, names in op.inputs.items() if names)


def _measured(graph: Graph, layer: Layer, device: str) -> tuple[int | None, str]:
    """The instructions of a layer by itself, or why there is no number."""
    program = graph.program
    made = {name for op in layer.ops for name in op.writes}
    outside = {n for op in layer.ops for n in op.reads} - made - set(program.params)
    if any(program.var(name).dtype != "float32" for name in outside):
        return None, "it reads integers, which are not random"
    alone = graph.tapped([layer.output], {name: _static(program, name) for name in outside})
    random = np.random.default_rng(0)
    feeds = {s.name: random.random(s.shape).astype("float32") for s in alone.inputs}
    with temporary_folder() as folder:
        try:
            model = part(alone, "arm", RECIPES["fp32"], folder)
            return BOARDS[device].count_instructions(model, Sample("layer", feeds)), ""
        except (ConvertError, EngineError) as error:
            return None, str(error).replace(str(folder), "")
