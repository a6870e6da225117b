"""The table of operators: how each is said in the older format, one row an operator."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from lite_opt.model.pir.kinds import KINDS

__all__ = ["Argument", "Row", "rows"]

# pd_op name, then the older operator as `type(operands) -> outputs; attributes`.
# Operands and outputs are positional, as in Paddle's ops.yaml:
#   X     a tensor                X?  may be null            X*  a vector of tensors
#   axis:int                      a constant that becomes an attribute
#   axis:int|AxisTensor           the same, or that input slot where it is not constant
#   shape:ints|Shape|ShapeTensor  the same; the last is for a list of tensors, one an element
#   _     ignored; an output of this name must have no reader
# Attributes are `name:kind`, `pir_name>name:kind`, and `name:kind=default` where the file may
# lack it. Kinds are those of `KINDS`.
_CONV = "strides:ints paddings:ints padding_algorithm:str dilations:ints groups:int data_format:str"
_POOL = (
    "strides:ints paddings:ints ceil_mode:bool exclusive:bool data_format:str pooling_type:str "
    "global_pooling:bool adaptive:bool padding_algorithm:str"
)
_NORM = (
    "is_test:bool momentum:float epsilon:float data_format>data_layout:str use_global_stats:bool "
    "trainable_statistics:bool"
)
_INTERP = (
    "data_format>data_layout:str out_d:int out_h:int out_w:int scale:floats interp_method:str "
    "align_corners:bool align_mode:int"
)
_QUANT = "bit_length:int round_type:int=1"
_LINEAR_QUANT = (
    "quant_axis:int bit_length:int qmin:int=-128 qmax:int=127 round_type:int=0 is_test:bool=true "
    "only_observer:bool=false"
)
_ROIS = "pooled_height:int pooled_width:int spatial_scale:float"
_TABLE = f"""
conv2d                     conv2d(Input, Filter) -> Output; {_CONV}
depthwise_conv2d           depthwise_conv2d(Input, Filter) -> Output; {_CONV}
conv3d                     conv3d(Input, Filter) -> Output; {_CONV}
conv2d_transpose           conv2d_transpose(Input, Filter, output_size:ints) -> Output; output_padding:ints {_CONV}
depthwise_conv2d_transpose depthwise_conv2d_transpose(Input, Filter, output_size:ints) -> Output; output_padding:ints {_CONV}
conv3d_transpose           conv3d_transpose(Input, Filter) -> Output; output_padding:ints output_size:ints {_CONV}
deformable_conv            deformable_conv(Input, Offset, Filter, Mask?) -> Output; strides:ints paddings:ints dilations:ints deformable_groups:int groups:int im2col_step:int
pool2d                     pool2d(X, ksize:ints) -> Out; {_POOL}
pool3d                     pool3d(X) -> Out; kernel_size>ksize:ints {_POOL}
max_pool2d_with_index      max_pool2d_with_index(X) -> Out, Mask; kernel_size>ksize:ints strides:ints paddings:ints global_pooling:bool adaptive:bool ceil_mode:bool=false
batch_norm                 batch_norm(X, Mean, Variance, Scale?, Bias?) -> Y, _, _, SavedMean, SavedVariance, _; {_NORM}
sync_batch_norm            batch_norm(X, Mean, Variance, Scale?, Bias?) -> Y, _, _, SavedMean, SavedVariance, _; {_NORM}
layer_norm                 layer_norm(X, Scale?, Bias?) -> Y, Mean, Variance; epsilon:float begin_norm_axis:int
group_norm                 group_norm(X, Scale?, Bias?) -> Y, Mean, Variance; epsilon:float groups:int data_format>data_layout:str
instance_norm              instance_norm(X, Scale?, Bias?) -> Y, SavedMean, SavedVariance; epsilon:float
lrn                        lrn(X) -> Out, MidOut; n:int k:float alpha:float beta:float data_format:str
norm                       norm(X) -> Out, Norm; axis:int epsilon:float is_test:bool
p_norm                     p_norm(X) -> Out; porder:float axis:int epsilon:float keepdim:bool asvector:bool
matmul                     matmul_v2(X, Y) -> Out; transpose_x>trans_x:bool transpose_y>trans_y:bool
matmul_with_flatten        mul(X, Y) -> Out; x_num_col_dims:int y_num_col_dims:int
bmm                        bmm(X, Y) -> Out
mv                         mv(X, Vec) -> Out
dot                        dot(X, Y) -> Out
addmm                      addmm(Input, X, Y) -> Out; alpha>Alpha:float beta>Beta:float
baddbmm                    baddbmm(Input, X, Y) -> Out; alpha>Alpha:float beta>Beta:float
einsum                     einsum(Operands*) -> Out, _, _; equation:str
add                        elementwise_add(X, Y) -> Out; axis:int=-1
subtract                   elementwise_sub(X, Y) -> Out; axis:int=-1
multiply                   elementwise_mul(X, Y) -> Out; axis:int=-1
divide                     elementwise_div(X, Y) -> Out; axis:int=-1
maximum                    elementwise_max(X, Y) -> Out; axis:int=-1
minimum                    elementwise_min(X, Y) -> Out; axis:int=-1
remainder                  elementwise_mod(X, Y) -> Out; axis:int=-1
floor_divide               elementwise_floordiv(X, Y) -> Out; axis:int=-1
elementwise_pow            elementwise_pow(X, Y) -> Out; axis:int=-1
fmax                       elementwise_fmax(X, Y) -> Out; axis:int=-1
fmin                       elementwise_fmin(X, Y) -> Out; axis:int=-1
atan2                      atan2(X1, X2) -> Out
equal                      equal(X, Y) -> Out; axis:int=-1 force_cpu:bool=false
not_equal                  not_equal(X, Y) -> Out; axis:int=-1 force_cpu:bool=false
less_than                  less_than(X, Y) -> Out; axis:int=-1 force_cpu:bool=false
less_equal                 less_equal(X, Y) -> Out; axis:int=-1 force_cpu:bool=false
greater_than               greater_than(X, Y) -> Out; axis:int=-1 force_cpu:bool=false
greater_equal              greater_equal(X, Y) -> Out; axis:int=-1 force_cpu:bool=false
equal_all                  equal_all(X, Y) -> Out
logical_and                logical_and(X, Y) -> Out
logical_or                 logical_or(X, Y) -> Out
logical_xor                logical_xor(X, Y) -> Out
bitwise_and                bitwise_and(X, Y) -> Out
bitwise_or                 bitwise_or(X, Y) -> Out
bitwise_xor                bitwise_xor(X, Y) -> Out
relu6                      relu6(X) -> Out; threshold:float=6
leaky_relu                 leaky_relu(X) -> Out; negative_slope>alpha:float
prelu                      prelu(X, Alpha) -> Out; mode:str data_format:str
elu                        elu(X) -> Out; alpha:float
celu                       celu(X) -> Out; alpha:float
selu                       selu(X) -> Out; scale:float alpha:float
gelu                       gelu(X) -> Out; approximate:bool
swish                      swish(X) -> Out; beta:float=1
mish                       mish(X) -> Out; lambda>threshold:float
hardswish                  hard_swish(X) -> Out; threshold:float=6 scale:float=6 offset:float=3
hardsigmoid                hard_sigmoid(X) -> Out; slope:float offset:float
hardtanh                   brelu(X) -> Out; t_min:float t_max:float
hardshrink                 hard_shrink(X) -> Out; threshold:float
softshrink                 softshrink(X) -> Out; threshold>lambda:float
thresholded_relu           thresholded_relu(X) -> Out; threshold:float value:float=0
softplus                   softplus(X) -> Out; beta:float threshold:float
stanh                      stanh(X) -> Out; scale_a:float scale_b:float
maxout                     maxout(X) -> Out; groups:int axis:int
softmax                    softmax(X) -> Out; axis:int
log_softmax                log_softmax(X) -> Out; axis:int
pow                        pow(X) -> Out; y>factor:float
scale                      scale(X, scale:float|ScaleTensor) -> Out; bias:float bias_after_scale:bool
clip                       clip(X, min:float|Min, max:float|Max) -> Out
logit                      logit(X) -> Out; eps:float
round                      round(X) -> Out; decimals:int=0
isnan                      isnan_v2(X) -> Out
isinf                      isinf_v2(X) -> Out
isfinite                   isfinite_v2(X) -> Out
dropout                    dropout(X, Seed?, dropout_prob:float) -> Out, Mask; is_test:bool mode>dropout_implementation:str seed:int fix_seed:bool
assign_out                 assign(X, _) -> Out
share_data                 assign(X) -> Out
cast                       cast(X) -> Out; dtype>out_dtype:dtype
reshape                    reshape2(X, shape:ints|Shape|ShapeTensor) -> Out
transpose                  transpose2(X) -> Out; perm>axis:ints
squeeze                    squeeze2(X, axes:ints) -> Out
unsqueeze                  unsqueeze2(X, axes:ints|AxesTensor) -> Out
flatten                    flatten_contiguous_range(X) -> Out; start_axis:int stop_axis:int
concat                     concat(X*, axis:int|AxisTensor) -> Out
split                      split(X, sections:ints, axis:int|AxisTensor) -> Out*; num:int=0
split_with_num             split(X, axis:int|AxisTensor) -> Out*; num:int sections:ints=
stack                      stack(X*) -> Y; axis:int
unstack                    unstack(X) -> Y*; axis:int num:int
unbind                     unbind(X) -> Out*; axis:int
slice                      slice(Input, starts:bounds|StartsTensor|StartsTensorList, ends:bounds|EndsTensor|EndsTensorList) -> Out; axes:ints infer_flags:ints decrease_axis:ints
strided_slice              strided_slice(Input, starts:bounds|StartsTensor|StartsTensorList, ends:bounds|EndsTensor|EndsTensorList, strides:ints|StridesTensor|StridesTensorList) -> Out; axes:ints
crop                       crop_tensor(X, shape:ints|Shape|ShapeTensor, offsets:ints|Offsets|OffsetsTensor) -> Out
tile                       tile(X, repeat_times:ints|RepeatTimes|repeat_times_tensor) -> Out
expand                     expand_v2(X, shape:ints|Shape|expand_shapes_tensor) -> Out
expand_as                  expand_as_v2(X, Y?) -> Out; target_shape:ints
broadcast_tensors          broadcast_tensors(X*) -> Out*
meshgrid                   meshgrid(X*) -> Out*
roll                       roll(X, shifts:longs|ShiftsTensor) -> Out; axis:longs
flip                       flip(X) -> Out; axis:ints
gather                     gather(X, Index, axis:int|Axis) -> Out
gather_nd                  gather_nd(X, Index) -> Out
index_select               index_select(X, Index) -> Out; axis>dim:int
index_sample               index_sample(X, Index) -> Out
take_along_axis            take_along_axis(Input, Index) -> Result; axis>Axis:int
put_along_axis             put_along_axis(Input, Index, Value) -> Result; axis>Axis:int reduce>Reduce:str include_self>Include_self:bool=true
scatter                    scatter(X, Ids, Updates) -> Out; overwrite:bool
scatter_nd_add             scatter_nd_add(X, Index, Updates) -> Out
set_value_with_tensor      set_value(Input, ValueTensor, starts:longs, ends:longs, steps:longs) -> Out; axes:longs decrease_axes:longs none_axes:longs
pad                        pad(X, pad_value:float) -> Out; paddings:ints
pad3d                      pad3d(X, paddings:ints|Paddings) -> Out; mode:str pad_value>value:float data_format:str
where                      where(Condition, X, Y) -> Out
nonzero                    where_index(Condition) -> Out
masked_select              masked_select(X, Mask) -> Y
tril                       tril_triu(X) -> Out; diagonal:int lower:bool=true
triu                       tril_triu(X) -> Out; diagonal:int lower:bool=false
diag                       diag_v2(X) -> Out; offset:int padding_value:float
diagonal                   diagonal(Input) -> Out; offset:int axis1:int axis2:int
repeat_interleave          repeat_interleave(X) -> Out; repeats>Repeats:int axis>dim:int
unfold                     unfold(X) -> Y; kernel_sizes:ints strides:ints paddings:ints dilations:ints
fold                       fold(X) -> Y; output_sizes:ints kernel_sizes:ints strides:ints paddings:ints dilations:ints
pixel_shuffle              pixel_shuffle(X) -> Out; upscale_factor:int data_format:str
pixel_unshuffle            pixel_unshuffle(X) -> Out; downscale_factor:int data_format:str
channel_shuffle            channel_shuffle(X) -> Out; groups:int data_format:str
shuffle_channel            shuffle_channel(X) -> Out; group:int
temporal_shift             temporal_shift(X) -> Out; seg_num:int shift_ratio:float data_format:str
one_hot                    one_hot_v2(X, depth:int|depth_tensor) -> Out; dtype:int=5 allow_out_of_range:bool=false
embedding                  lookup_table_v2(Ids, W) -> Out; padding_idx:long
shape                      shape(Input) -> Out
numel                      size(Input) -> Out
max                        reduce_max(X, dim:ints) -> Out; keepdim>keep_dim:bool
min                        reduce_min(X, dim:ints) -> Out; keepdim>keep_dim:bool
sum                        reduce_sum(X, dim:ints) -> Out; keepdim>keep_dim:bool dtype>out_dtype:dtype
mean                       reduce_mean(X, dim:ints) -> Out; keepdim>keep_dim:bool
prod                       reduce_prod(X, dim:ints) -> Out; keepdim>keep_dim:bool reduce_all:bool
all                        reduce_all(X) -> Out; axis>dim:ints keepdim>keep_dim:bool
any                        reduce_any(X) -> Out; axis>dim:ints keepdim>keep_dim:bool
amax                       reduce_amax(X) -> Out; axis>dim:ints keepdim>keep_dim:bool
amin                       reduce_amin(X) -> Out; axis>dim:ints keepdim>keep_dim:bool
frobenius_norm             frobenius_norm(X, dim:ints) -> Out; keep_dim:bool reduce_all:bool
logsumexp                  logsumexp(X) -> Out; axis:ints keepdim:bool reduce_all:bool
mean_all                   mean(X) -> Out
inverse                    inverse(Input) -> Output
viterbi_decode             viterbi_decode(Input, Transition, Length) -> Scores, Path; include_bos_eos_tag:bool
add_n                      sum(X*) -> Out
cumsum                     cumsum(X, axis:int) -> Out; flatten:bool exclusive:bool reverse:bool
cumprod                    cumprod(X) -> Out; dim:int exclusive:bool=false reverse:bool=false
cummax                     cummax(x) -> out, indices; axis:int dtype:dtype
cummin                     cummin(x) -> out, indices; axis:int dtype:dtype
logcumsumexp               logcumsumexp(X) -> Out; axis:int flatten:bool exclusive:bool reverse:bool
argmax                     arg_max(X, axis:long) -> Out; keepdims:bool flatten:bool dtype:dtype
argmin                     arg_min(X, axis:long) -> Out; keepdims:bool flatten:bool dtype:dtype
argsort                    argsort(X) -> Out, Indices; axis:int descending:bool stable:bool=false
topk                       top_k_v2(X, k:int|K) -> Out, Indices; axis:int largest:bool sorted:bool
full_like                  fill_any_like(X, value:float) -> Out; dtype:dtype
full_batch_size_like       fill_constant_batch_size_like(Input) -> Out; shape:ints dtype:dtype value:float input_dim_idx:int output_dim_idx:int
sequence_mask              sequence_mask(X, maxlen:int|MaxLenTensor) -> Y; out_dtype:dtype
increment                  increment(X) -> Out; value>step:float
arange                     range(Start, End, Step) -> Out
linspace                   linspace(Start, Stop, Num) -> Out; dtype:dtype
nearest_interp             nearest_interp_v2(X, OutSize?, SizeTensor*?, Scale?) -> Out; {_INTERP}
bilinear_interp            bilinear_interp_v2(X, OutSize?, SizeTensor*?, Scale?) -> Out; {_INTERP}
bicubic_interp             bicubic_interp_v2(X, OutSize?, SizeTensor*?, Scale?) -> Out; {_INTERP}
linear_interp              linear_interp_v2(X, OutSize?, SizeTensor*?, Scale?) -> Out; {_INTERP}
trilinear_interp           trilinear_interp_v2(X, OutSize?, SizeTensor*?, Scale?) -> Out; {_INTERP}
grid_sample                grid_sampler(X, Grid) -> Output; mode:str padding_mode:str align_corners:bool
affine_grid                affine_grid(Theta, output_shape:ints|OutputShape) -> Output; align_corners:bool
affine_channel             affine_channel(X, Scale, Bias) -> Out; data_layout:str
rnn                        rnn(Input, PreState*, WeightList*, SequenceLength?, _) -> Out, DropoutState, State*, Reserve; dropout_prob:float is_bidirec:bool input_size:int hidden_size:int num_layers:int mode:str seed:int is_test:bool
ctc_align                  ctc_align(Input, InputLength?) -> Output, OutputLength; blank:int merge_repeated:bool padding_value:int
yolo_box                   yolo_box(X, ImgSize) -> Boxes, Scores; anchors:ints class_num:int conf_thresh:float downsample_ratio:int clip_bbox:bool scale_x_y:float iou_aware:bool iou_aware_factor:float
multiclass_nms3            multiclass_nms3(BBoxes, Scores, RoisNum?) -> Out, Index, NmsRoisNum; score_threshold:float nms_top_k:int keep_top_k:int nms_threshold:float normalized:bool nms_eta:float background_label:int
matrix_nms                 matrix_nms(BBoxes, Scores) -> Out, Index, RoisNum; score_threshold:float nms_top_k:int keep_top_k:int post_threshold:float use_gaussian:bool gaussian_sigma:float background_label:int normalized:bool
prior_box                  prior_box(Input, Image) -> Boxes, Variances; min_sizes:floats max_sizes:floats aspect_ratios:floats variances:floats flip:bool clip:bool step_w:float step_h:float offset:float min_max_aspect_ratios_order:bool
box_coder                  box_coder(PriorBox, PriorBoxVar?, TargetBox) -> OutputBox; code_type:str box_normalized:bool axis:int variance:floats
box_clip                   box_clip(Input, ImInfo) -> Output
roi_align                  roi_align(X, ROIs, RoisNum?) -> Out; {_ROIS} sampling_ratio:int aligned:bool
roi_pool                   roi_pool(X, ROIs, RoisNum?) -> Out, Argmax; {_ROIS}
generate_proposals         generate_proposals_v2(Scores, BboxDeltas, ImShape, Anchors, Variances) -> RpnRois, RpnRoiProbs, RpnRoisNum; pre_nms_top_n>pre_nms_topN:int post_nms_top_n>post_nms_topN:int nms_thresh:float min_size:float eta:float pixel_offset:bool
distribute_fpn_proposals   distribute_fpn_proposals(FpnRois, RoisNum?) -> MultiFpnRois*, MultiLevelRoIsNum*, RestoreIndex; min_level:int max_level:int refer_level:int refer_scale:int pixel_offset:bool
collect_fpn_proposals      collect_fpn_proposals(MultiLevelRois*, MultiLevelScores*, MultiLevelRoIsNum*?) -> FpnRois, RoisNum; post_nms_topn>post_nms_topN:int
anchor_generator           anchor_generator(Input) -> Anchors, Variances; anchor_sizes:floats aspect_ratios:floats variances:floats stride:floats offset:float
quantize_linear            quantize_linear(X, Scale, ZeroPoint, InAccum?, InState?) -> Y, OutState, OutAccum, OutScale; {_LINEAR_QUANT}
dequantize_linear          dequantize_linear(X, Scale, ZeroPoint, InAccum?, InState?) -> Y, OutState, OutAccum, OutScale; {_LINEAR_QUANT}
fake_quantize_abs_max      fake_quantize_abs_max(X) -> Out, OutScale; {_QUANT}
fake_quantize_dequantize_abs_max fake_quantize_dequantize_abs_max(X) -> Out, OutScale; {_QUANT}
fake_channel_wise_quantize_abs_max fake_channel_wise_quantize_abs_max(X) -> Out, OutScale; {_QUANT} quant_axis:int is_test:bool
fake_channel_wise_quantize_dequantize_abs_max fake_channel_wise_quantize_dequantize_abs_max(X) -> Out, OutScale; {_QUANT} quant_axis:int
fake_quantize_moving_average_abs_max fake_quantize_moving_average_abs_max(X, InScale, InAccum?, InState?) -> Out, OutScale, OutState, OutAccum; {_QUANT} moving_rate:float is_test:bool
fake_quantize_dequantize_moving_average_abs_max fake_quantize_dequantize_moving_average_abs_max(X, InScale, InAccum?, InState?) -> Out, OutScale, OutState, OutAccum; {_QUANT} moving_rate:float is_test:bool
fake_dequantize_max_abs    fake_dequantize_max_abs(X, Scale) -> Out; max_range:float
fake_channel_wise_dequantize_max_abs fake_channel_wise_dequantize_max_abs(X, Scales*) -> Out; quant_bits:ints quant_axis:int x_num_col_dims:int
moving_average_abs_max_scale moving_average_abs_max_scale(X, InAccum?, InState?) -> Out, OutScale, OutState, OutAccum; moving_rate:float is_test:bool
"""  # noqa: E501

# Operators of one tensor without attributes, whose name did not change: (X) -> Out.
_UNARY = """
abs acos acosh asin asinh assign atan atanh bitwise_not ceil cos cosh digamma erf erfinv exp expm1
floor lgamma log log10 log1p log2 logical_not logsigmoid reciprocal relu rsqrt sigmoid sign silu
sin sinh softsign sqrt square tan tanh tanh_shrink trunc
"""


@dataclass(frozen=True)
class Argument:
    """An operand, output or attribute of a row; see the comment before `_TABLE`."""

    name: str
    source: str = ""
    kind: str = ""
    slot: str = ""
    list_slot: str = ""
    default: Any = None
    is_vector: bool = False
    is_optional: bool = False


@dataclass(frozen=True)
class Row:
    """How an operator is said in the older format, whose type is `type`."""

    type: str
    operands: tuple[Argument, ...]
    outputs: tuple[Argument, ...]
    attrs: tuple[Argument, ...]


def _argument(text: str) -> Argument:
    text, given, default = text.partition("=")
    text, _, kind = text.partition(":")
    kind, slot, list_slot = (*kind.split("|"), "", "")[:3]
    source, renamed, name = text.partition(">")
    name = name if renamed else source
    return Argument(
        name.rstrip("?*"),
        source,
        kind,
        slot,
        list_slot,
        KINDS[kind][1](json.loads(default or "[]")) if given else None,
        "*" in name,
        name.endswith("?"),
    )


@cache
def rows() -> dict[str, Row]:
    """Name of a pd_op -> its row."""
    result = {name: Row(name, (Argument("X"),), (Argument("Out"),), ()) for name in _UNARY.split()}
    for line in _TABLE.strip().splitlines():
        match = re.fullmatch(r"(\w+) +(\w+)\((.*?)\) -> ([^;]+)(?:; (.*))?", line)
        assert match, line
        name, type_, operands, outputs, attrs = match.groups()
        result[name] = Row(
            type_,
            tuple(map(_argument, operands.split(", "))),
            tuple(map(_argument, outputs.split(", "))),
            tuple(map(_argument, (attrs or "").split())),
        )
    return result
