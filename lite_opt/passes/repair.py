"""Makes a Program acceptable to Paddle Lite 2.13's optimizer and loader."""

from __future__ import annotations

from lite_opt.model.program import Program
from lite_opt.passes.activations import abs_unfused, activations_by_others, silu_to_swish
from lite_opt.passes.arithmetic import expand_bases, powers_to_products, smallest_by_negation
from lite_opt.passes.attributes import (
    drop_callstack,
    fill_defaults,
    narrow_integers,
    plain_values,
)
from lite_opt.passes.casts import bool_outputs
from lite_opt.passes.constants import fold_constants
from lite_opt.passes.dead import drop_dead_code
from lite_opt.passes.elementwise import (
    bits_of_bool,
    broadcast_where,
    casts_in_steps,
    gelu_by_tanh,
    maxout_to_max,
    remainders,
    triangles_of_bool,
)
from lite_opt.passes.folds import folds_by_others, sizes_by_shape
from lite_opt.passes.half import widen_half
from lite_opt.passes.indexing import (
    argmin_to_argmax,
    picks_by_one_hot,
    picks_by_select,
    scatter_by_product,
)
from lite_opt.passes.layout import fold_to_transpose, pool_over_channels, shuffles_to_transpose
from lite_opt.passes.linear import fold_bias_reshape, fold_matmul_heads, matmul_to_mul
from lite_opt.passes.norms import norms_about_the_mean, norms_in_4d, norms_with_scales
from lite_opt.passes.observers import drop_constant_observers
from lite_opt.passes.pads import pads_by_depth, pads_by_ends, pads_of_a_value
from lite_opt.passes.products import einsum_to_matmul, products_to_matmul, stack_to_matmul
from lite_opt.passes.reductions import split_reductions
from lite_opt.passes.resizes import resizes_by_products, uneven_bilinear
from lite_opt.passes.rule import Change, Rule
from lite_opt.passes.samples import grids_in_pieces, masks_of_ones
from lite_opt.passes.scans import scans_by_doubling
from lite_opt.passes.shapes import fix_reshapes, scalars_to_vectors
from lite_opt.passes.slots import add_xshape, complete_batch_norm
from lite_opt.passes.windows import adaptive_by_stride, small_depthwise

__all__ = ["RULES", "repair"]

RULES: tuple[Rule, ...] = (
    drop_callstack,
    widen_half,
    activations_by_others,
    products_to_matmul,
    einsum_to_matmul,
    stack_to_matmul,
    picks_by_select,
    picks_by_one_hot,
    scatter_by_product,
    argmin_to_argmax,
    scans_by_doubling,
    grids_in_pieces,
    masks_of_ones,
    shuffles_to_transpose,
    pool_over_channels,
    folds_by_others,
    sizes_by_shape,
    gelu_by_tanh,
    maxout_to_max,
    remainders,
    bits_of_bool,
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
    drop_constant_observers,
    fold_bias_reshape,
    fold_constants,
    resizes_by_products,
    matmul_to_mul,
    fold_matmul_heads,
    fold_to_transpose,
    split_reductions,
    adaptive_by_stride,
    small_depthwise,
    pads_by_ends,
    pads_by_depth,
    pads_of_a_value,
    fix_reshapes,
    abs_unfused,
    bool_outputs,
    drop_dead_code,
    add_xshape,
)


def repair(program: Program) -> list[Change]:
    """Apply all rules to a program, in place, and return every change."""
    changes = [change for rule in RULES for change in rule(program)]
    program.remove_unused()
    return changes
