"""Makes a Program acceptable to Paddle Lite 2.13's optimizer and loader."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from lite_opt.model.program import Program
from lite_opt.passes.activations import (
    abs_unfused,
    activations_by_others,
    sign_of_integers,
    silu_to_swish,
)
from lite_opt.passes.affine import fold_affine, fold_attention_scale
from lite_opt.passes.arguments import constant_arguments, static_reshapes
from lite_opt.passes.arithmetic import expand_bases, powers_to_products, smallest_by_negation
from lite_opt.passes.attention import (
    flip_operands,
    flip_products,
    layers_apart,
    move_before_split,
)
from lite_opt.passes.attributes import (
    drop_callstack,
    fill_defaults,
    narrow_integers,
    plain_values,
)
from lite_opt.passes.batch_norms import (
    norms_before_concat,
    norms_before_relu,
    norms_into_convolutions,
)
from lite_opt.passes.branches import sums_of_convolutions
from lite_opt.passes.casts import (
    bool_outputs,
    equal_all_by_least,
    logic_by_numbers,
    sums_of_truths,
    truths_by_numbers,
)
from lite_opt.passes.dead import drop_dead_code
from lite_opt.passes.depthwise import depthwise_by_groups, depthwise_by_parts
from lite_opt.passes.duplicates import share_results
from lite_opt.passes.elementwise import (
    bits_of_bool,
    broadcast_comparisons,
    broadcast_where,
    casts_in_steps,
    gelu_by_tanh,
    maxout_to_max,
    remainders,
    remainders_of_integers,
    triangles_of_bool,
    whole_operands,
)
from lite_opt.passes.evaluate import evaluate
from lite_opt.passes.folds import folds_by_others, sizes_by_shape
from lite_opt.passes.half import widen_half
from lite_opt.passes.identities import drop_empty_parts, drop_identities, dropouts_to_scale
from lite_opt.passes.indexing import (
    argmin_to_argmax,
    backward_slices,
    masks_by_places,
    picks_by_one_hot,
    picks_by_select,
    scatter_by_product,
    select_to_gather,
)
from lite_opt.passes.layout import (
    fold_to_transpose,
    patches_to_transpose,
    pool_over_channels,
    shuffles_to_transpose,
)
from lite_opt.passes.linear import bias_vectors, fold_matmul_heads, matmul_to_mul
from lite_opt.passes.norms import norms_about_the_mean, norms_in_4d, norms_with_scales
from lite_opt.passes.observers import (
    drop_constant_observers,
    drop_pairs_of_others,
    integers_as_bytes,
    products_in_float,
    scales_by_channel,
    share_scales,
)
from lite_opt.passes.operands import (
    join_scales,
    numbers_to_scale,
    operands_by_copies,
    parameters_second,
    scales_unfused,
)
from lite_opt.passes.pads import pads_by_depth, pads_by_ends, pads_by_parts, pads_of_a_value
from lite_opt.passes.pools import pools_by_maxima
from lite_opt.passes.products import (
    broadcast_stacks,
    einsum_to_matmul,
    products_to_matmul,
    stack_to_matmul,
)
from lite_opt.passes.rearrange import join_rearrangements
from lite_opt.passes.reductions import means_by_pooling, split_reductions
from lite_opt.passes.resizes import resizes_by_products, uneven_bilinear
from lite_opt.passes.rule import Change, Rule, until_settled
from lite_opt.passes.samples import deformations_apart, grids_in_pieces, masks_of_ones
from lite_opt.passes.scales import gates_by_relu6, scales_into_weights
from lite_opt.passes.scans import scans_by_doubling
from lite_opt.passes.shapes import scalars_to_vectors
from lite_opt.passes.slices import crops_to_padding, join_splits, slices_to_splits, values_by_parts
from lite_opt.passes.slots import add_xshape, complete_batch_norm
from lite_opt.passes.stored import narrow_double, stored_otherwise
from lite_opt.passes.streams import shape_streams
from lite_opt.passes.unfolds import unfolds_by_splits
from lite_opt.passes.windows import adaptive_by_stride, small_depthwise
from lite_opt.passes.winograd import windows_by_parts
from lite_opt.recipes import RECIPES, Recipe
from py_runner.errors import UsageError

__all__ = ["OPTIONAL", "RULES", "SETTLED", "Effect", "repair"]

SETTLED = (
    bias_vectors,
    constant_arguments,
    static_reshapes,
    parameters_second,
    numbers_to_scale,
    join_scales,
    drop_identities,
    share_results,
    fold_affine,
    fold_attention_scale,
    scales_into_weights,
    patches_to_transpose,
    join_rearrangements,
    flip_operands,
    flip_products,
    whole_operands,
    slices_to_splits,
    join_splits,
    drop_dead_code,
    layers_apart,
    move_before_split,
    shape_streams,
)
_WORK = "these find work for each other"
optimize = until_settled("optimize", SETTLED, because=_WORK)
RULES: tuple[Rule, ...] = (
    drop_callstack,
    widen_half,
    drop_constant_observers,
    drop_pairs_of_others,
    share_scales,
    integers_as_bytes,
    products_in_float,
    bias_vectors,
    evaluate,
    narrow_double,
    stored_otherwise,
    dropouts_to_scale,
    activations_by_others,
    sign_of_integers,
    products_to_matmul,
    einsum_to_matmul,
    stack_to_matmul,
    sums_of_truths,
    equal_all_by_least,
    truths_by_numbers,
    drop_empty_parts,
    picks_by_select,
    backward_slices,
    select_to_gather,
    masks_by_places,
    picks_by_one_hot,
    scatter_by_product,
    argmin_to_argmax,
    scans_by_doubling,
    grids_in_pieces,
    masks_of_ones,
    deformations_apart,
    shuffles_to_transpose,
    pool_over_channels,
    folds_by_others,
    sizes_by_shape,
    gelu_by_tanh,
    maxout_to_max,
    remainders,
    remainders_of_integers,
    bits_of_bool,
    logic_by_numbers,
    broadcast_comparisons,
    broadcast_where,
    triangles_of_bool,
    silu_to_swish,
    narrow_integers,
    fill_defaults,
    scalars_to_vectors,
    plain_values,
    casts_in_steps,
    complete_batch_norm,
    powers_to_products,
    expand_bases,
    smallest_by_negation,
    norms_in_4d,
    norms_about_the_mean,
    norms_with_scales,
    uneven_bilinear,
    resizes_by_products,
    matmul_to_mul,
    scales_by_channel,
    fold_matmul_heads,
    broadcast_stacks,
    fold_to_transpose,
    means_by_pooling,
    split_reductions,
    crops_to_padding,
    norms_before_concat,
    sums_of_convolutions,
    gates_by_relu6,
    norms_before_relu,
    norms_into_convolutions,
    depthwise_by_parts,
    depthwise_by_groups,
    windows_by_parts,
    operands_by_copies,
    pools_by_maxima,
    unfolds_by_splits,
    values_by_parts,
    adaptive_by_stride,
    small_depthwise,
    pads_by_ends,
    pads_by_parts,
    pads_by_depth,
    pads_of_a_value,
    optimize,
    scales_unfused,
    abs_unfused,
    bool_outputs,
    drop_dead_code,
    add_xshape,
)


# Measured with the kernels for fp32; in int8 they would put float sums between convolutions, or
# weights of unlike sizes into one channel.
_FLOAT_KERNELS = (
    sums_of_convolutions,
    gates_by_relu6,
    norms_before_relu,
    norms_into_convolutions,
    depthwise_by_parts,
    windows_by_parts,
)
# The optimizer rounds the weights of a conv2d, and leaves those of a depthwise_conv2d.
_FLOAT_WEIGHTS = (depthwise_by_groups,)
# Those that make a program cheaper: without them it is as right. Some networks convert only with
# what they leave, so all are applied unless one is named.
OPTIONAL = tuple(
    rule.name
    for rule in RULES + SETTLED
    if rule
    in (
        evaluate,
        dropouts_to_scale,
        means_by_pooling,
        crops_to_padding,
        norms_before_concat,
        operands_by_copies,
        pools_by_maxima,
        unfolds_by_splits,
        values_by_parts,
        *_FLOAT_KERNELS,
        *_FLOAT_WEIGHTS,
        *SETTLED,
    )
    and rule not in (bias_vectors, drop_dead_code)
)


@dataclass
class Effect:
    """What a rule did to a program, over all its rounds: how many changes, and how many operators
    and bytes of parameters came (or went, if negative)."""

    rule: str
    changes: int = 0
    operators: int = 0
    param_bytes: int = 0


def repair(
    program: Program,
    *,
    recipe: Recipe = RECIPES["fp32"],
    without: Collection[str] = (),
    effects: list[Effect] | None = None,
) -> list[Change]:
    """Apply all rules to a program, in place, and return every change.

    Some are only for what computes as `recipe` does. `without` names rules of OPTIONAL that are
    left out; UsageError for other names. To `effects` is added what each rule did, in the order in
    which they first found work.
    """
    unknown = sorted(set(without) - set(OPTIONAL))
    if unknown:
        raise UsageError(
            f"there is no pass '{unknown[0]}' that can be left out: choose {', '.join(OPTIONAL)}"
        )
    told: list[Effect] = [] if effects is None else effects
    left_out = {*without, *(rule.name for rule in _unfit(recipe))}

    def chosen(rules: Collection[Rule]) -> list[Rule]:
        return [_told(rule, told) for rule in rules if rule.name not in left_out]

    settled = until_settled("optimize", chosen(SETTLED), because=_WORK)
    first, last = RULES[: RULES.index(optimize)], RULES[RULES.index(optimize) + 1 :]
    rules = [*chosen(first), settled, *chosen(last)]
    changes = [change for rule in rules for change in rule(program)]
    program.remove_unused()
    return changes


def _unfit(recipe: Recipe) -> tuple[Rule, ...]:
    """Rules that are not for what computes as a recipe does."""
    if recipe.rounds_activations:
        return (*_FLOAT_KERNELS, *_FLOAT_WEIGHTS)
    return _FLOAT_WEIGHTS if recipe.quant_type else ()


def _told(rule: Rule, effects: list[Effect]) -> Rule:
    """The rule, which also writes down what it did."""

    def changes(program: Program) -> Iterator[Change]:
        operators, size = len(program.ops), program.param_bytes
        found = rule(program)
        if found:
            effect = next((e for e in effects if e.rule == rule.name), None)
            if effect is None:
                effect = Effect(rule.name)
                effects.append(effect)
            effect.changes += len(found)
            effect.operators += len(program.ops) - operators
            effect.param_bytes += program.param_bytes - size
        yield from found

    return replace(rule, _edit=changes)
