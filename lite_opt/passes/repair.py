"""Makes a Program acceptable to Paddle Lite 2.13's optimizer and loader."""

from __future__ import annotations

from lite_opt.model.program import Program
from lite_opt.passes.activations import activations_by_others, silu_to_swish
from lite_opt.passes.affine import fold_affine, fold_attention_scale
from lite_opt.passes.arguments import constant_arguments, static_reshapes
from lite_opt.passes.arithmetic import expand_bases, powers_to_products, smallest_by_negation
from lite_opt.passes.attributes import (
    drop_callstack,
    fill_defaults,
    narrow_integers,
    plain_values,
)
from lite_opt.passes.casts import bool_outputs
from lite_opt.passes.dead import drop_dead_code
from lite_opt.passes.duplicates import share_results
from lite_opt.passes.elementwise import (
    bits_of_bool,
    broadcast_where,
    casts_in_steps,
    gelu_by_tanh,
    maxout_to_max,
    remainders,
)
from lite_opt.passes.evaluate import evaluate
from lite_opt.passes.folds import folds_by_others, sizes_by_shape
from lite_opt.passes.half import widen_half
from lite_opt.passes.identities import drop_identities, dropouts_to_scale
from lite_opt.passes.indexing import argmin_to_argmax, picks_by_one_hot, picks_by_select
from lite_opt.passes.layout import (
    fold_to_transpose,
    patches_to_transpose,
    pool_over_channels,
    shuffles_to_transpose,
)
from lite_opt.passes.linear import bias_vectors, fold_matmul_heads, matmul_to_mul
from lite_opt.passes.norms import norms_in_4d
from lite_opt.passes.observers import drop_constant_observers
from lite_opt.passes.pads import pads_by_depth, pads_of_a_value
from lite_opt.passes.products import einsum_to_matmul, products_to_matmul, stack_to_matmul
from lite_opt.passes.rearrange import join_rearrangements
from lite_opt.passes.reductions import split_reductions
from lite_opt.passes.resizes import uneven_bilinear
from lite_opt.passes.rule import Change, Rule, until_settled
from lite_opt.passes.shapes import scalars_to_vectors
from lite_opt.passes.slots import add_xshape, complete_batch_norm
from lite_opt.passes.windows import adaptive_by_stride, small_depthwise

__all__ = ["RULES", "repair"]

optimize = until_settled(
    "optimize",
    (
        constant_arguments,
        static_reshapes,
        drop_identities,
        share_results,
        fold_affine,
        fold_attention_scale,
        patches_to_transpose,
        join_rearrangements,
        drop_dead_code,
    ),
    because="these find work for each other",
)
RULES: tuple[Rule, ...] = (
    drop_callstack,
    widen_half,
    evaluate,
    dropouts_to_scale,
    activations_by_others,
    products_to_matmul,
    einsum_to_matmul,
    stack_to_matmul,
    picks_by_select,
    picks_by_one_hot,
    argmin_to_argmax,
    shuffles_to_transpose,
    pool_over_channels,
    folds_by_others,
    sizes_by_shape,
    gelu_by_tanh,
    maxout_to_max,
    remainders,
    bits_of_bool,
    broadcast_where,
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
    uneven_bilinear,
    drop_constant_observers,
    bias_vectors,
    matmul_to_mul,
    fold_matmul_heads,
    fold_to_transpose,
    split_reductions,
    adaptive_by_stride,
    small_depthwise,
    pads_by_depth,
    pads_of_a_value,
    optimize,
    bool_outputs,
    drop_dead_code,
    add_xshape,
)


def repair(program: Program) -> list[Change]:
    """Apply all rules to a program, in place, and return every change."""
    changes = [change for rule in RULES for change in rule(program)]
    program.remove_unused()
    return changes
