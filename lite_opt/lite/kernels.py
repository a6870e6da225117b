"""Which operators Paddle Lite has kernels for, and which need an SDK built `with_extra`."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from py_runner.engines import lite
from py_runner.errors import EngineError
from py_runner.files.process import Child, how_it_ended, last_words

__all__ = ["RELEASES", "SINCE", "WITH_EXTRA", "supported_ops"]

# Operators that are registered, or whose every ARM and host kernel is, only where Paddle Lite is
# built with LITE_BUILD_EXTRA=ON: read from tag v2.13-rc, lite/operators and lite/kernels/{arm,host}
# (their CMakeLists.txt and the #ifdefs in the sources).
_WITH_EXTRA = """
    abs acos anchor_generator argsort asin assign atan attention_padding_mask axpy beam_search
    beam_search_decode bitwise_and bitwise_not bitwise_or bitwise_xor box_clip calib_once clip
    collect_fpn_proposals conditional_block correlation cos cos_sim crf_decoding crop crop_tensor
    ctc_align cumsum decode_bboxes deformable_conv density_prior_box depthwise_conv2d_transpose
    dequantize_linear dequantize_log distribute_fpn_proposals equal erf exp expand_v2 fill_any_like
    fill_zeros_like flatten_contiguous_range flip floor fused_attention gather gather_nd gather_tree
    gaussian_random gelu generate_proposals generate_proposals_v2 greater_equal greater_than
    group_norm gru gru_unit hard_sigmoid hard_swish im2sequence increment index_select inverse
    is_empty layer_norm less_equal less_than linspace lod_reset log log_softmax logical_and
    logical_not logical_or logical_xor lookup_table lookup_table_dequant lookup_table_v2 lrn lstm
    match_matrix_tensor matmul_v2 matrix_nms max_pool2d_with_index mean merge_lod_tensor meshgrid
    mish negative norm not_equal one_hot one_hot_v2 p_norm pad pad3d pixel_shuffle
    polygon_box_transform pow print quantize_linear read_from_array reciprocal reduce_all reduce_any
    reduce_max reduce_min reduce_prod reduce_sum relu_clipped retinanet_detection_output reverse rnn
    roi_align roi_perspective_transform roll round rsqrt sampling_id scatter scatter_nd_add
    select_input sequence_concat sequence_conv sequence_expand sequence_expand_as sequence_mask
    sequence_pad sequence_pool sequence_reshape sequence_reverse sequence_softmax sequence_unpad
    set_value shape share_data shuffle_channel sign sin softplus softsign sparse_conv2d
    split_lod_tensor sqrt square strided_slice sum swish tan temporal_shift tensor_array_to_tensor
    tile top_k top_k_v2 topk_pooling tril_triu unfold uniform_random unique unique_with_counts
    unstack var_conv_2d viterbi_decode where where_index while write_to_array
"""
WITH_EXTRA: frozenset[str] = frozenset(_WITH_EXTRA.split())
# Operators that the optimizer of 2.13 lists and older libraries have no ARM or host kernel for, by
# the first release that has: read from the registrations in tags v2.10, v2.11, v2.12 and v2.13-rc.
_SINCE = {
    "v2.11": "gaussian_random log_softmax max_pool2d_with_index sampling_id unfold",
    "v2.12": "calib_inplace dequantize_log roll",
    "v2.13-rc": """
        bitwise_and bitwise_not fused_attention linear_interp linear_interp_v2 pad round set_value
        share_data silu temporal_shift unique viterbi_decode
    """,
}
SINCE: dict[str, str] = {op: release for release, ops in _SINCE.items() for op in ops.split()}
# Releases whose libraries read what the optimizer of 2.13 writes, the oldest first.
RELEASES = ("v2.10", *_SINCE)
_TIME_LIMIT_S, _MEMORY_BYTES = 120.0, 4 << 30
_CHILD = Path(__file__).with_name("opt_child.py")


@cache
def supported_ops(target: str) -> frozenset[str]:
    """The operators for which the optimizer has a kernel on a target ("arm", "x86") or the host.

    Asked of the optimizer itself, in a child. A kernel may still refuse some attributes or dtypes.
    Raises EngineError where paddlelite is not to be had.
    """
    with Child([lite.interpreter(), str(_CHILD)]) as child:
        child.limit_memory(_MEMORY_BYTES)
        child.tell(json.dumps({"list_ops": target}).encode())
        returncode = child.wait(_TIME_LIMIT_S)
        log = child.log(None)
    if returncode is None:
        raise EngineError(
            f"Paddle Lite's optimizer did not list its kernels in {_TIME_LIMIT_S:g} s"
        )
    found = _parse(log.decode("utf-8", "replace"), {"kHost", f"k{target}"})
    if returncode or not found:
        ended = f"{how_it_ended(returncode)}: {last_words(log)}"
        raise EngineError(lite.explain(f"Paddle Lite's optimizer {ended}"))
    return found


def _parse(table: str, wanted: set[str]) -> frozenset[str]:
    """The first column of the lines that have a Y under a wanted heading."""
    lower = {name.lower() for name in wanted}
    columns: list[tuple[int, int]] = []
    found = set()
    for line in table.splitlines():
        if line.split()[:1] == ["OP_name"]:
            # Headings are as wide as their cells; a Y stands somewhere under its own.
            columns = [
                (line.index(name) - 1, line.index(name) + len(name) + 1)
                for name in line.split()[1:]
                if name.lower() in lower
            ]
        elif columns and line.split() and any("Y" in line[a:b] for a, b in columns):
            found.add(line.split()[0])
    return frozenset(found)
