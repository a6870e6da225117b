"""Where edge and server first diverge: intermediate variables of both, compared by name.

A variable is *tapped* by a `fetch` operator appended to the program, which stock engines
understand. Each set of taps is looked at twice:

- *whole*: the edge network as it runs. Rounding adds up from layer to layer, so these numbers fall
  slowly with depth, and only a wide limit can be set for them.
- *alone*: the program is also cut at its taps, and what lies behind a tap is fed the server's
  values of it. What is measured is then what the few layers between taps add by themselves,
  whatever the depth, and every part is judged independently of the others: against what the same
  layers cost on the server when their numbers are rounded as the recipe says.

A tap keeps the optimizer from fusing across it, so taps stand behind activations, at the outputs
of what Paddle Lite fuses (a *layer* here), and few at a time: the first part that fails is cut
into smaller ones until it is one layer, and last into that layer's own operators. Where no part
fails, every layer is measured alone before nothing is said to diverge.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from lite_opt.judge.layers.graph import Graph, with_source_names
from lite_opt.judge.layers.offsets import centre
from lite_opt.judge.layers.result import LayersReport
from lite_opt.judge.layers.runs import Edge
from lite_opt.judge.layers.search import Search
from lite_opt.judge.limits import LayerLimits, layer_limits_for
from lite_opt.lite.targets import cannot
from lite_opt.model.load import load
from lite_opt.model.program import Program
from lite_opt.passes.repair import repair
from lite_opt.quant.equalise import Equalised, read_equalised
from lite_opt.quant.operators import is_quantized
from lite_opt.quant.rounding import round_weights
from lite_opt.quant.simulate import fake_fp16
from lite_opt.recipes import RECIPES, Recipe
from lite_opt.recipes import recipe as find_recipe
from py_runner.errors import DataError, ModelError, UsageError
from py_runner.formats.bundle import Bundle
from py_runner.inference import bundle_target
from py_runner.tensors import Sample
from py_runner.watch import QUIET, Watch

__all__ = ["bundle_layers", "first_difference"]


def first_difference(
    reference: Program,
    candidate: Program,
    samples: Iterable[Sample],
    *,
    engine: str = "lite",
    device: str = "cpu",
    recipe: Recipe = RECIPES["fp32"],
    limits: LayerLimits | None = None,
    taps: int | None = 8,
    equalised: Iterable[Equalised] = (),
    watch: Watch = QUIET,
) -> LayersReport:
    """Find the first layer of `candidate` whose output is not what `reference` computes.

    Args:
        reference: the source model; it runs on the server engine.
        candidate: what was made of it, still a Program: repaired, or quantised as well. Operators
            correspond by the names of their output variables. Neither program is changed.
        samples: a few that fit the inputs. The values of all taps of a round and all samples are
            held in memory, twice.
        engine, device: what runs the candidate: "lite" (optimized for x86 with `recipe`), "native"
            (optimized for the device: this machine or an emulated board), or "paddle" (as it is:
            for the programs that simulate what x86 cannot do, see quant/simulate.py).
        recipe: also chooses the default limits.
        limits: how far a layer may be off, by default `LAYER_LIMITS` of the recipe.
        taps: how many variables to tap in a round, or None to tap every layer at once, which
            takes fewer rounds and more memory, and fuses nothing between layers.
        equalised: channels that the candidate has multiplied, which is no difference.
        watch: is told of each round.

    Raises:
        UsageError: a recipe that the engine cannot run; an engine or a device that is none; taps
            below 1.
        DataError: no samples, or samples that do not fit.
        ModelError: control flow, or no variable that can be compared.
        ConvertError, EngineError: the optimizer died on the tapped model; an engine is not here, or
            died, and of no operator of its own.
    """
    target = bundle_target(engine, device)
    if target == "onnx":
        raise UsageError("layers are tapped in files of Paddle Lite: engine lite, native or paddle")
    refused = cannot(target, RECIPES["int8"] if is_quantized(candidate) else recipe)
    if engine != "paddle" and refused:
        raise UsageError(
            f"{candidate.files.model}: recipe {recipe.name}: engine {engine} would mislead: "
            f"{refused}; compare what simulates it on engine paddle, or name an emulated board"
        )
    if taps is not None and taps < 1:
        raise UsageError("taps is at least 1")
    search = Search(
        reference=Graph(with_source_names(reference)),
        candidate=Graph(with_source_names(candidate)),
        samples=list(samples),
        edge=Edge(engine, device, recipe),
        limits=limits or layer_limits_for(recipe.name),
        most=taps,
        equalised=equalised,
        watch=watch,
    )
    return search.report()


def bundle_layers(
    model: str | Path,
    bundle: str | Path,
    *,
    params: str | Path | None = None,
    quantized: str | Path | None = None,
    engine: str = "lite",
    device: str = "cpu",
    without: Collection[str] = (),
    samples: Iterable[Sample] | None = None,
    limits: LayerLimits | None = None,
    taps: int | None = 8,
    watch: Watch = QUIET,
) -> LayersReport:
    """`first_difference` of a source model and the bundle that was made from it.

    The bundle's `.nb` cannot be tapped any more: the model is repaired again, and optimized by the
    bundle's recipe for the engine that runs it. What x86 cannot do is simulated on the server
    engine: fp16 by `quant.simulate.fake_fp16`, int8 by the quantized Paddle model, which the caller
    names.

    Args:
        model, params, without: the source model, as `convert` took it, and the passes left out.
        quantized: of a bundle of recipe int8 what `convert(save_quantized=...)` wrote.
        engine, device: "lite", which is x86 and the simulations, or "native" and where that runs.
        samples: by default the bundle's own.

    Raises what `first_difference` raises; ModelError where the bundle is not of this model;
    UsageError where `quantized` is missing or makes no sense; DataError without samples.
    """
    if engine not in ("lite", "native"):
        raise UsageError(f"layers of a bundle run on engine lite or native, not '{engine}'")
    opened = Bundle.open(bundle)
    chosen = find_recipe(str(opened.recipe.get("name")))
    reference = load(model, params=params)
    if reference.files.sha256() != opened.source["sha256"]:
        raise ModelError(
            f"{reference.files.model}: is not the model that {bundle} was made from: "
            "its checksum is another"
        )
    static = chosen.name == "int8" and not is_quantized(reference)
    if static and quantized is None:
        raise UsageError(
            f"{bundle}: static int8 is judged by its quantized Paddle model: convert with "
            "--save-quantized FOLDER, and pass --quantized FOLDER here"
        )
    if quantized is not None and not static:
        raise UsageError(f"{bundle}: is of recipe {chosen.name}: leave out --quantized")
    if samples is None:
        samples = opened.read_samples()
        if not samples:
            raise DataError(f"{bundle}: holds no samples: give some with --samples")
    candidate = load(quantized or model, params=None if quantized else params)
    # The conversion may have fixed dimensions of the inputs.
    for program in (reference, candidate):
        for spec in opened.inputs:
            program.var(spec.name).shape = spec.shape
    samples = list(samples)
    if quantized is None:
        repair(candidate, recipe=chosen, without=without)
        if "arm" in opened.targets:
            centre(candidate, samples)
    if engine == "lite" and cannot("x86", chosen):
        engine = "paddle"
    return first_difference(
        reference,
        _prepared(candidate, chosen, engine),
        samples,
        engine=engine,
        device=device,
        recipe=chosen,
        limits=limits,
        taps=taps,
        equalised=read_equalised(_folder(quantized)) if quantized is not None else (),
        watch=watch,
    )


def _folder(model: str | Path) -> Path:
    """The folder of a model's files."""
    return Path(model) if Path(model).is_dir() else Path(model).parent


def _prepared(repaired: Program, recipe: Recipe, engine: str) -> Program:
    """What a conversion gives the optimizer, or what simulates the kernels that it would choose."""
    if recipe.fp16 and engine == "paddle":
        return fake_fp16(repaired)
    return round_weights(repaired) if recipe.quant_type == "QUANT_INT8" else repaired
