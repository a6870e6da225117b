"""Static int8: calibration by Paddle.

A quantized Program is what Paddle's PostTrainingQuantization writes (its "fake-quant" form): the
input of a layer goes through `fake_quantize_*`, its weights hold the integers -127 to 127, and
`fake_*dequantize_max_abs` turns what it computes back into numbers. The server engine runs it and
so says what the quantization costs; Paddle Lite's optimizer makes int8 kernels of it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lite_opt.model.load import load, save
from lite_opt.model.program import Attr, Op, Program
from lite_opt.quant.operators import INT8, LAYERS, is_quantized, stored_weight
from lite_opt.quant.rounding import BALANCED, round_weights
from lite_opt.recipes import Calibration
from py_runner.errors import ConvertError, DataError, EngineError, UsageError
from py_runner.files.folder import temporary_folder
from py_runner.files.process import Child, how_it_ended, last_words, of_memory
from py_runner.formats.bundle import save_samples
from py_runner.job import memory_limit
from py_runner.tensors import Sample, sample_hash
from py_runner.watch import QUIET, Watch

__all__ = ["calibrate", "calibration_warnings"]

# Of memory: Paddle keeps what it observes beside what it computes.
_TIMES_AN_ENGINE = 2


def calibration_warnings(samples: Sequence[Sample]) -> list[str]:
    """What speaks against calibrating with these samples, without forbidding it.

    Raises DataError where they hold NaN or Inf, or where all are constant: no ranges follow.
    """
    constant = []
    for sample in samples:
        flat = True
        for name, value in sample.feeds.items():
            if not np.isfinite(value).all():
                raise DataError(
                    f"calibration sample '{sample.id}': input '{name}' holds NaN or Inf: "
                    "remove it, or mend the preprocessing"
                )
            rows = value.reshape(*value.shape[:2], -1) if value.ndim > 2 else value.ravel()
            flat = flat and not np.ptp(rows, axis=-1).any()
        if flat:
            constant.append(sample.id)
    if len(constant) == len(samples):
        raise DataError(
            f"every calibration sample is constant, such as '{constant[0]}': the ranges of "
            "activations do not follow from them; calibrate with data like those in use"
        )
    warnings = []
    if constant:
        warnings.append(f"{len(constant)} calibration samples are constant, first '{constant[0]}'")
    if len(samples) == 1:
        warnings.append("calibrated with a single sample: ranges of other data may be cut off")
    elif len({sample_hash(sample) for sample in samples}) == 1:
        warnings.append("all calibration samples are the same: ranges of other data may be cut off")
    return warnings


def calibrate(
    program: Program,
    samples: Sequence[Sample],
    calibration: Calibration,
    *,
    watch: Watch = QUIET,
) -> Program:
    """The quantized form of a repaired float model: scales from what flows through it.

    `samples` are fed one a batch, in their order; `calibration.samples`, `.seed`,
    `.max_drop` and `.max_float` are the caller's business. Raises ConvertError where nothing can be
    quantized or Paddle fails.
    """
    if is_quantized(program):
        raise UsageError(f"{program.files.model}: is quantized already")
    producers = program.producers()
    if all(stored_weight(program, op, producers) is None for op in program.ops):
        raise ConvertError(
            f"{program.files.model}: no layer has an int8 kernel: nothing to quantize "
            f"(looked for {', '.join(INT8)} with weights)"
        )
    # Paddle rounds to the nearest step: what is on its step already stays there.
    copy = round_weights(program, BALANCED) if calibration.per_channel else program.copy()
    for block in copy.blocks:
        for op in block.ops:
            op.attrs.setdefault("op_role", Attr("INT", 0))  # PIR has none; Paddle's passes ask
    _shield_outputs(copy)
    quantized = _quantized_by_paddle(copy, samples, calibration, watch)
    _unshield_outputs(quantized)
    _name_scales(quantized)
    # What the quantization left behind, next to what it is for.
    for block in quantized.blocks:
        for op in block.ops:
            for name in ("op_callstack", "op_role", "op_role_var", "op_namescope", "op_device"):
                op.attrs.pop(name, None)
    for name, value in quantized.params.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise ConvertError(
                f"{program.files.model}: calibration gives NaN or Inf for '{name}': with these "
                "samples the model computes no numbers there"
            )
    quantized.files = program.files
    return quantized


def _quantized_by_paddle(
    program: Program, samples: Sequence[Sample], calibration: Calibration, watch: Watch
) -> Program:
    # Paddle would quantize products of activations, too: their second factor marks them.
    producers = program.producers()
    skip = [
        op.inputs[LAYERS[op.type].weight][0]
        for op in program.ops
        if op.type in INT8 and stored_weight(program, op, producers) is None
    ]
    with temporary_folder() as folder:
        files = save(program, folder)
        saved = save_samples(folder, samples)
        config = {
            "model": str(files.model),
            "params": str(files.params),
            "samples": [{n: str(folder / f) for n, f in s.feeds.items()} for s in saved],
            "algorithm": calibration.algorithm,
            "per_channel": calibration.per_channel,
            "operators": list(INT8),
            "skip": skip,
            "out": str(folder / "quantized"),
        }
        passes = 2 if calibration.algorithm in ("hist", "KL") else 1
        staged = filter(None, (files.model, files.params))
        limit = _TIMES_AN_ENGINE * memory_limit(staged, samples)
        _run_child(config, passes * len(samples), limit, watch)
        quantized = load(folder / "quantized")
        # The file goes away with the folder, and the parameters are views of it.
        quantized.params = {name: value.copy() for name, value in quantized.params.items()}
        return quantized


def _run_child(config: dict[str, Any], total: int, memory_bytes: int, watch: Watch) -> None:
    script = str(Path(__file__).with_name("calibrate_child.py"))
    with Child([sys.executable, "-W", "ignore", script], output="lines") as child:
        child.limit_memory(memory_bytes)
        child.tell(json.dumps(config).encode())
        for done, _ in enumerate(child.lines(), start=1):
            watch.step("calibrating", done, total)
        returncode = child.wait()
        words = child.log()
    if returncode == 0:
        return
    if b"ModuleNotFoundError" in words:
        raise EngineError(
            f"static int8 needs paddlepaddle: {last_words(words)}: "
            "`pip install paddlepaddle==3.3.1 setuptools`"
        )
    told = last_words(words)
    hint = ""
    if of_memory(told):
        hint = (
            f"; it may take {memory_bytes / 1e9:.0f} GB, by the sizes of model and samples: "
            "calibrate with fewer samples, or smaller ones"
        )
    raise ConvertError(
        f"Paddle's quantization {how_it_ended(returncode or 0)}; its last words: {told}{hint}"
    )


_SHIELD = ".shield"
_CHANNEL_SCALE = "channel_scale_"  # Paddle's name for the scales behind a layer, and a number


def _shield_outputs(program: Program) -> None:
    """Put a multiplication by 1 between a layer and the fetch of what it writes.

    Paddle's passes put the dequantization behind the layer, but save_quantized_model goes on to
    fetch the layer's own variable: integers, whose scale nobody knows.
    """
    producers = program.producers()
    ops = []
    for op in program.ops:
        name = op.inputs["X"][0] if op.type == "fetch" else ""
        if name and producers[name].type in INT8:
            shield = f"{name}{_SHIELD}"
            program.vars[shield] = replace(program.var(name), name=shield)
            one = Op("scale", {"X": [name]}, {"Out": [shield]})
            for attr, value in (("scale", 1.0), ("bias", 0.0), ("bias_after_scale", True)):
                one.set(attr, value)
            one.set("op_role", 0)
            ops.append(one)
            op.inputs["X"] = [shield]
        ops.append(op)
    program.blocks[0].ops = ops


def _unshield_outputs(program: Program) -> None:
    producers = program.producers()
    for op in program.ops:
        if op.type == "fetch" and op.inputs["X"][0].endswith(_SHIELD):
            op.inputs["X"] = list(producers[op.inputs["X"][0]].inputs["X"])
    program.blocks[0].ops = [op for op in program.ops if not op.layer.endswith(_SHIELD)]
    program.remove_unused()


def _name_scales(program: Program) -> None:
    """Number the scales that Paddle made by the order of their layers.

    It numbers them as it walks a set of strings, whose order is another one in each process.
    """
    renamed: dict[str, str] = {}
    for op in program.ops:
        for names in op.inputs.values():
            for name in names:
                if name.startswith(_CHANNEL_SCALE):
                    renamed.setdefault(name, f"{_CHANNEL_SCALE}{len(renamed)}")
    for op in program.ops:
        op.rename_inputs(renamed)
    moved = {new: (program.vars.pop(old), program.params.pop(old)) for old, new in renamed.items()}
    for name, (var, scale) in moved.items():
        program.vars[name] = replace(var, name=name)
        program.params[name] = scale
