"""Static int8: calibration by Paddle, which layers lose by it, and which to keep in float.

A quantized Program is what Paddle's PostTrainingQuantization writes (its "fake-quant" form): the
input of a layer goes through `fake_quantize_*`, its weights hold the integers -127 to 127, and
`fake_*dequantize_max_abs` turns what it computes back into numbers. The server engine runs it and
so says what the quantization costs; Paddle Lite's optimizer makes int8 kernels of it.

    quantized = Quantized.of(calibrate(program, samples, Calibration()), program)
    losses = sensitivity(quantized, samples)             # each layer alone, worst first
    mixed = quantized.with_float([losses[0].layer])      # a Program: the worst layer in float
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from lite_opt.judge.compare import Report, compare
from lite_opt.model.load import load, save
from lite_opt.model.pdmodel import serialize
from lite_opt.model.program import Attr, Op, Program, Var
from lite_opt.quant.rounding import CALIBRATED, round_weights
from lite_opt.recipes import Calibration
from py_runner.engines.worker import Worker
from py_runner.errors import ConvertError, DataError, EngineError, UsageError
from py_runner.files.folder import temporary_folder
from py_runner.files.process import Child, how_it_ended, last_words
from py_runner.formats.bundle import save_samples
from py_runner.formats.run import Run, SampleInfo, machine
from py_runner.tensors import Sample, sample_hash
from py_runner.watch import QUIET, Watch

__all__ = [
    "FloatLayers",
    "LayerLoss",
    "Quantized",
    "QuantizedLayer",
    "calibrate",
    "calibration_warnings",
    "choose_float_layers",
    "dequantized",
    "fake_fp16",
    "is_quantized",
    "quantized_layers",
    "sensitivity",
]

# Layers that Paddle Lite has int8 kernels for on ARM: slots of the input, weights and output.
# Products of two activations (attention) stay in float: they have no weights to shrink.
_LAYERS = {
    "conv2d": ("Input", "Filter", "Output"),
    "depthwise_conv2d": ("Input", "Filter", "Output"),
    "conv2d_transpose": ("Input", "Filter", "Output"),
    "mul": ("X", "Y", "Out"),
}
_MOST = 127  # the largest of 8 bits, symmetric
# Operators of quantized programs. Those of an activation: -> integers, integers -> numbers, both.
_QUANTIZE = (
    "fake_quantize_abs_max",
    "fake_quantize_range_abs_max",
    "fake_quantize_moving_average_abs_max",
    "fake_channel_wise_quantize_abs_max",
    "quantize_linear",
)
_DEQUANTIZE = (
    "fake_dequantize_max_abs",
    "fake_channel_wise_dequantize_max_abs",
    "dequantize_linear",
)
_BOTH = (
    "fake_quantize_dequantize_abs_max",
    "fake_quantize_dequantize_moving_average_abs_max",
    "fake_channel_wise_quantize_dequantize_abs_max",
    "moving_average_abs_max_scale",
)


def is_quantized(program: Program) -> bool:
    """Whether a model was quantized before it came here, by training (QAT) or by PaddleSlim."""
    kinds = {*_QUANTIZE, *_DEQUANTIZE, *_BOTH}
    return any(op.type in kinds for block in program.blocks for op in block.ops)


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

    `samples` are fed one a batch, in their order; `calibration.samples`, `.seed` and `.max_drop`
    are the caller's business. Raises ConvertError where nothing can be quantized or Paddle fails.
    """
    if is_quantized(program):
        raise UsageError(f"{program.files.model}: is quantized already")
    producers = program.producers()
    if all(_weight(program, op, producers) is None for op in program.ops):
        raise ConvertError(
            f"{program.files.model}: no layer has an int8 kernel: nothing to quantize "
            f"(looked for {', '.join(_LAYERS)} with weights)"
        )
    # Paddle rounds to the nearest step: what is on its step already stays there.
    copy = round_weights(program, CALIBRATED) if calibration.per_channel else program.copy()
    for block in copy.blocks:
        for op in block.ops:
            op.attrs.setdefault("op_role", Attr("INT", 0))  # PIR has none; Paddle's passes ask
    _shield_outputs(copy)
    # Paddle would quantize products of activations, too: their second factor marks them.
    skip = [
        op.inputs[_LAYERS[op.type][1]][0]
        for op in copy.ops
        if op.type in _LAYERS and _weight(copy, op, producers) is None
    ]
    with temporary_folder() as folder:
        files = save(copy, folder)
        saved = save_samples(folder, samples)
        config = {
            "model": str(files.model),
            "params": str(files.params),
            "samples": [{n: str(folder / f) for n, f in s.feeds.items()} for s in saved],
            "algorithm": calibration.algorithm,
            "per_channel": calibration.per_channel,
            "operators": list(_LAYERS),
            "skip": skip,
            "out": str(folder / "quantized"),
        }
        passes = 2 if calibration.algorithm in ("hist", "KL") else 1
        _calibrate(config, passes * len(samples), watch)
        quantized = load(folder / "quantized")
        # The file goes away with the folder, and the parameters are views of it.
        quantized.params = {name: value.copy() for name, value in quantized.params.items()}
    _unshield_outputs(quantized)
    _name_scales(quantized)
    # What the quantization left behind, next to what it is for.
    for block in quantized.blocks:
        for op in block.ops:
            for name in ("op_callstack", "op_role", "op_role_var", "op_namescope", "op_device"):
                op.attrs.pop(name, None)
    bad = [n for n, v in quantized.params.items() if v.dtype.kind == "f" and not _finite(v)]
    if bad:
        raise ConvertError(
            f"{program.files.model}: calibration gives NaN or Inf for '{bad[0]}': with these "
            "samples the model computes no numbers there"
        )
    quantized.files = program.files
    return quantized


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
        if name and producers[name].type in _LAYERS:
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


def _finite(value: np.ndarray[Any, Any]) -> bool:
    return bool(np.isfinite(value).all())


def _calibrate(config: dict[str, Any], total: int, watch: Watch) -> None:
    script = str(Path(__file__).with_name("calibrate_child.py"))
    with Child([sys.executable, "-W", "ignore", script], output="lines") as child:
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
    raise ConvertError(
        f"Paddle's quantization {how_it_ended(returncode or 0)}; "
        f"its last words: {last_words(words)}"
    )


@dataclass(frozen=True)
class QuantizedLayer:
    """A layer that computes in int8: its name (the variable it writes), operator and weights."""

    layer: str
    op: str
    weight: str
    parameters: int


def quantized_layers(program: Program) -> tuple[QuantizedLayer, ...]:
    """The layers of a quantized program that compute in int8, in order."""
    producers = program.producers()
    layers = []
    for op in program.ops:
        weight = _weight(program, op, producers)
        if weight is None:
            continue
        source = producers.get(op.inputs[_LAYERS[op.type][0]][0])
        if source is not None and source.type in (*_QUANTIZE, *_DEQUANTIZE, *_BOTH):
            count = program.params[weight].size
            layers.append(QuantizedLayer(op.layer, op.type, weight, count))
    return tuple(layers)


def _weight(program: Program, op: Op, producers: Mapping[str, Op]) -> str | None:
    """The weights of a layer that could be quantized, through a dequantize_linear or not."""
    if op.type not in _LAYERS:
        return None
    name = op.input(_LAYERS[op.type][1])
    if name is not None and name not in program.params:
        source = producers.get(name)
        while source is not None and source.type in (*_QUANTIZE, *_DEQUANTIZE, *_BOTH):
            name = source.input("X")
            source = producers.get(name or "")
    return name if name in program.params else None


@dataclass(frozen=True)
class Quantized:
    """A model that `calibrate` quantized, next to what it was: any layer can be float again.

    `program` has every layer in int8. `floats` maps the weights of a layer to the float ones.
    """

    program: Program
    layers: tuple[QuantizedLayer, ...]
    floats: dict[str, np.ndarray[Any, Any]]
    source: Program

    @classmethod
    def of(cls, quantized: Program, source: Program) -> Quantized:
        """`source` is the repaired float program that `quantized` was calibrated from."""
        layers = quantized_layers(quantized)
        floats = {layer.weight: source.params[layer.weight] for layer in layers}
        return cls(quantized, layers, floats, source)

    def check(self, layers: Iterable[str]) -> None:
        """Raise UsageError for a name that is no layer of this model."""
        known = {layer.layer for layer in self.layers}
        for name in layers:
            if name not in known:
                raise UsageError(
                    f"no quantized layer is called '{name}': `paddle-edge sensitivity` names them"
                )

    def with_float(self, layers: Collection[str]) -> Program:
        """The program with these layers computed in float, as they were before calibration."""
        program = self.program.copy()
        producers, consumers = program.producers(), program.consumers()
        attrs = {op.layer: op.attrs for op in self.source.ops}
        dropped: list[Op] = []
        for op in program.ops:
            if op.type not in _LAYERS or op.layer not in layers:
                continue
            source, weights, target = _LAYERS[op.type]
            quantize = producers[op.inputs[source][0]]
            (dequantize,) = consumers[op.outputs[target][0]]
            weight = op.inputs[weights][0]
            program.set_param(_float_name(weight), self.floats[weight])
            op.inputs[source] = list(quantize.inputs["X"])
            op.inputs[weights] = [_float_name(weight)]
            op.attrs = dict(attrs[op.layer])
            renamed = {dequantize.outputs["Out"][0]: op.outputs[target][0]}
            for reader in consumers[dequantize.outputs["Out"][0]]:
                reader.rename_inputs(renamed)
            dropped.append(dequantize)
        kept = [op for op in program.ops if not any(op is d for d in dropped)]
        read = {name for op in kept for names in op.inputs.values() for name in names}
        program.blocks[0].ops = [
            op for op in kept if op.type not in _QUANTIZE or op.outputs["Out"][0] in read
        ]
        program.remove_unused()
        return program


def _float_name(weight: str) -> str:
    return f"{weight}.float"


class _Server:
    """Runs variants of a quantized model on the server engine, on the same samples each time.

    Parameters of both kinds are loaded once. Use as a context manager.
    """

    def __init__(self, quantized: Quantized, samples: Sequence[Sample]) -> None:
        self._quantized = quantized
        self._model = {"name": quantized.program.files.model.stem, "sha256": ""}
        self._infos = tuple(SampleInfo(s.id, sample_hash(s), s.label) for s in samples)
        palette = quantized.program.copy()
        for weight, value in quantized.floats.items():
            palette.set_param(_float_name(weight), value)
        palette.blocks[0].ops = []
        with temporary_folder() as temporary:
            files = save(palette, temporary)
            config = {
                "files": [str(files.model), str(files.params)],
                "warmup": 0,
                "repeat": 1,
            }
            engine = Path(__file__).with_name("static_engine.py")
            self._worker = Worker(engine, config, name="paddle", python=sys.executable)
        try:
            for sample in samples:
                self._worker.send({}, sample.feeds)
                self._worker.receive(time_limit_s=None)
        except BaseException:
            self._worker.close()
            raise

    def run(self, float_layers: Collection[str]) -> Run:
        """The answers of the model with these layers in float and all others in int8."""
        program = self._quantized.with_float(float_layers)
        text = np.frombuffer(serialize(program), np.uint8)
        self._worker.send({}, {"program": text})
        header, answers = self._worker.receive(time_limit_s=None)
        outputs = {
            spec.name: [answers[f"{i}/{index}"] for i in range(len(self._infos))]
            for index, spec in enumerate(program.outputs)
        }
        each_ms = header["latency_ms"][0] / len(self._infos)
        return Run(
            engine="paddle",
            engine_version=str(self._worker.ready["version"]),
            device="cpu",
            machine=machine(),
            threads=1,
            precision="int8",
            model=self._model,
            samples=self._infos,
            outputs=outputs,
            latency_ms=[[each_ms]] * len(self._infos),
            warmup=0,
            peak_memory_bytes=header["peak_memory_bytes"],
            wall_s=header["latency_ms"][0] / 1e3,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )

    def reference(self) -> Run:
        """The answers of the float model. Raises DataError where they are no numbers."""
        answers = self.run({layer.layer for layer in self._quantized.layers})
        for values in answers.outputs.values():
            for info, value in zip(self._infos, values):
                if not _finite(value):
                    raise DataError(
                        f"sample '{info.id}': the float model answers NaN or Inf, and no loss can "
                        "be measured against that: remove it, or mend the preprocessing"
                    )
        return answers

    def __enter__(self) -> _Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.close()


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
    with _Server(quantized, samples) as server:
        return _sensitivity(server, quantized, watch)


def _sensitivity(server: _Server, quantized: Quantized, watch: Watch) -> tuple[LayerLoss, ...]:
    every = {layer.layer for layer in quantized.layers}
    reference = server.reference()
    losses = []
    for done, layer in enumerate(quantized.layers, start=1):
        report = compare(reference, server.run(every - {layer.layer}))
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
    loss with every layer in int8.
    """

    layers: tuple[str, ...]
    drop: float
    drop_int8: float
    measure: str
    samples: int


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
    with _Server(quantized, samples) as server:
        reference = server.reference()
        measured: dict[frozenset[str], float] = {}

        def drop(layers: Collection[str]) -> float:
            key = frozenset(fixed.union(layers))
            if key not in measured:
                measured[key] = _drop(compare(reference, server.run(key)))
            return measured[key]

        labelled = all(sample.label is not None for sample in samples)
        result = FloatLayers(
            layers=tuple(always),
            drop=drop(()),
            drop_int8=drop(()),
            measure="top-1 accuracy" if labelled else "top-1 agreement",
            samples=len(samples),
        )
        if result.drop <= max_drop:
            return result
        with _Server(quantized, samples[:_RANKING_SAMPLES]) as ranking:
            losses = _sensitivity(ranking, quantized, watch)
        ranked = [loss.layer for loss in losses if loss.layer not in fixed]
        enough = 1
        while enough < len(ranked) and drop(ranked[:enough]) > max_drop:
            enough *= 2
        enough = min(enough, len(ranked))
        few = enough // 2
        while enough - few > 1:
            middle = (few + enough) // 2
            few, enough = (few, middle) if drop(ranked[:middle]) <= max_drop else (middle, enough)
        kept = ranked[:enough]
        for layer in reversed(ranked[: enough - 1]):
            without = [name for name in kept if name != layer]
            if drop(without) <= max_drop:
                kept = without
        return replace(result, layers=(*always, *kept), drop=drop(kept))


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


def dequantized(program: Program) -> Program:
    """The float model that a quantized one stands for: weights as numbers, activations as they
    come. An engine without right int8 kernels can run it; its numbers differ from the quantized
    model's by the rounding of activations.

    Understands both forms: fake_quantize and fake_dequantize around a layer, and quantize_linear
    with dequantize_linear. A stored integer stands for integer * scale / 127, with the scale of
    its channel or tensor (paddle/phi/kernels/cpu/fake_dequantize_kernel.cc,
    quantize_linear_kernel.cc).
    """
    result = program.copy()
    producers = result.producers()
    instead: dict[str, str] = {}
    ops = []
    for op in result.ops:
        op.rename_inputs(instead)
        if op.type not in (*_QUANTIZE, *_DEQUANTIZE, *_BOTH):
            ops.append(op)
            continue
        source = op.inputs["X"][0]
        layer = producers.get(source)
        if op.type in _DEQUANTIZE and source in result.params:
            instead[_written(op)] = _numbers(result, source, op)
            continue
        if op.type in _DEQUANTIZE and layer is not None and layer.type in _LAYERS:
            slot = _LAYERS[layer.type][1]
            layer.inputs[slot] = [_numbers(result, layer.inputs[slot][0], op)]
        instead[_written(op)] = source
    result.blocks[0].ops = ops
    result.remove_unused()
    return result


def _written(op: Op) -> str:
    return (op.outputs.get("Out") or op.outputs["Y"])[0]


def _numbers(program: Program, weight: str, op: Op) -> str:
    """A parameter with the numbers that the integers in `weight` are, by the operator that
    dequantizes them or what is computed with them."""
    if weight not in program.params:
        raise ConvertError(f"{program.files.model}: '{op.layer}' dequantizes no stored weights")
    integers = program.params[weight].astype(np.float32)
    if op.type == "fake_dequantize_max_abs":
        # Of what a layer computes, max_range is 127 * 127 / weight scale (quantization_pass.py).
        scale = np.full((), _MOST * _MOST / op.get("max_range"), np.float32)
    else:
        name = (op.inputs.get("Scales") or op.inputs["Scale"])[0]
        scale = program.params[name].ravel()
        if scale.size > 1:
            axis = op.get("quant_axis", 0)
            scale = scale.reshape([-1 if i == axis else 1 for i in range(integers.ndim)])
    name = program.new_name(_float_name(weight))
    program.set_param(name, np.asarray(integers * scale / _MOST, np.float32))
    return name


def fake_fp16(program: Program) -> Program:
    """The program with every float rounded to 16 bits: weights, and what each operator of block 0
    writes for another. The server engine computes in 32 bits in between, as ARM kernels that
    accumulate in fp16 do not, but what overflows or drowns in fp16 does so here as well.
    """
    result = program.copy()
    for name, value in result.params.items():
        if value.dtype == np.float32:
            with np.errstate(over="ignore"):  # infinity is what the kernel would see
                result.params[name] = value.astype(np.float16).astype(np.float32)
    read = result.consumers()
    ops = []
    for op in result.ops:
        ops.append(op)
        if op.type == "feed":  # engines know inputs by their names
            continue
        for names in op.outputs.values():
            for place, name in enumerate(names):
                var = result.vars.get(name)
                if var is None or var.dtype != "float32" or var.persistable or name not in read:
                    continue
                wide, half = (result.new_name(f"{name}.{kind}") for kind in ("wide", "fp16"))
                result.vars[wide] = Var(wide, "float32", var.shape)
                result.vars[half] = Var(half, "float16", var.shape)
                names[place] = wide
                ops += [_cast(wide, half, 5, 4), _cast(half, name, 4, 5)]
    result.blocks[0].ops = ops
    return result


def _cast(source: str, target: str, in_dtype: int, out_dtype: int) -> Op:
    attrs = {"in_dtype": Attr("INT", in_dtype), "out_dtype": Attr("INT", out_dtype)}
    return Op("cast", {"X": [source]}, {"Out": [target]}, attrs)
