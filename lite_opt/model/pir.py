"""Paddle 3's PIR `inference.json` -> the blocks of a `Program`, without importing paddle.

The file holds a program of Paddle's new intermediate representation: values in single
assignment, operators of the dialect `pd_op`, and constants as operators of their own. Paddle
Lite reads only the older ProgramDesc, so each operator is translated to the one that
Paddle 2.6's exporter writes for the same layer: `_TABLE` says how, one row an operator; the
functions after it do what a row cannot say. Constants that feed shapes, axes or paddings become
attributes again, and only what reaches an output is kept.

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

import json
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from lite_opt.model.program import Attr, Block, Op, Var
from py_runner.errors import ConvertError, ModelError
from py_runner.tensors import DTYPE_NUMBERS

__all__ = ["read_pir"]

_VERSIONS = range(5)
# Topology only: the largest of PaddleClas is 4 MB. JSON takes about ten times its size in memory.
_MAX_BYTES = 256 << 20
# A constant of more elements than this is never spelled out as an attribute.
_MAX_FOLD = 1 << 16

# pd_op name, then the older operator as `type(operands) -> outputs; attributes`.
# Operands and outputs are positional, as in Paddle's ops.yaml:
#   X     a tensor                X?  may be null            X*  a vector of tensors
#   axis:int                      a constant that becomes an attribute
#   axis:int|AxisTensor           the same, or that input slot where it is not constant
#   shape:ints|Shape|ShapeTensor  the same; the last is for a list of tensors, one an element
#   _     ignored; an output of this name must have no reader
# Attributes are `name:kind`, `pir_name>name:kind`, and `name:kind=default` where the file may
# lack it. Kinds are those of _KINDS.
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
deformable_conv            deformable_conv(Input, Offset, Filter, Mask) -> Output; strides:ints paddings:ints dilations:ints deformable_groups:int groups:int im2col_step:int
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

# Operators that broadcast: a constant without dimensions may as well be of shape [1], which Paddle
# Lite needs (its tensors have at least one dimension).
_BROADCASTING = re.compile(
    r"elementwise_|logical_|bitwise_|(not_)?equal$|(less|greater)_(than|equal)$|where$|atan2$"
)
_CONTROL_FLOW = ("if", "while", "pylayer", "select_input", "assert")
# Attributes that a constant operand would have set, where an input slot carries the value instead.
_UNSET: dict[str, Any] = {"int": 0, "long": 0, "float": 1.0, "ints": [], "longs": [], "bounds": []}

_TYPE_NAMES = {
    "0.t_bool": "bool", "0.t_i16": "int16", "0.t_i32": "int32", "0.t_i64": "int64",
    "0.t_f16": "float16", "0.t_f32": "float32", "0.t_f64": "float64", "0.t_ui8": "uint8",
    "0.t_i8": "int8", "0.t_bf16": "bfloat16", "0.t_c64": "complex64", "0.t_c128": "complex128",
}  # fmt: skip
_VOID = {"NaN": math.nan, "INF": math.inf, "-INF": -math.inf}
_FEED, _FETCH = 9, 10  # VarType.Type of the variables `feed` and `fetch`


class _MalformedError(Exception):
    """Something in the file is not as the format says; the message names it."""


class _UnsupportedError(Exception):
    """The file is well, but has something that no row or function here translates."""


@dataclass(frozen=True)
class _Type:
    """Element type and dimensions (-1 = dynamic) of a dense tensor."""

    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"


@dataclass
class _Value:
    """What an id of the file stands for: a tensor, a constant, or a vector of values.

    A constant has no variable until an operator needs it as a tensor. `known` holds the elements
    of a shape as far as they are known: a number, or the value and axis that it is the size of;
    `parts` are the one-element tensors that it was put together from.
    """

    type: _Type = _Type("float32", ())
    name: str | None = None
    const: np.ndarray[Any, Any] | None = None
    known: list[int | tuple[_Value, int]] | None = None
    items: list[_Value] | None = None
    parts: list[_Value] | None = None
    reason: str = ""  # why it cannot be read, for outputs that are not translated


@dataclass(frozen=True)
class _Argument:
    """An operand, output or attribute of a row; see the comment before _TABLE."""

    name: str
    source: str = ""
    kind: str = ""
    slot: str = ""
    list_slot: str = ""
    default: Any = None
    is_vector: bool = False
    is_optional: bool = False


@dataclass(frozen=True)
class _Row:
    type: str
    operands: tuple[_Argument, ...]
    outputs: tuple[_Argument, ...]
    attrs: tuple[_Argument, ...]


def _argument(text: str) -> _Argument:
    text, given, default = text.partition("=")
    text, _, kind = text.partition(":")
    kind, slot, list_slot = (*kind.split("|"), "", "")[:3]
    source, renamed, name = text.partition(">")
    name = name if renamed else source
    return _Argument(
        name.rstrip("?*"),
        source,
        kind,
        slot,
        list_slot,
        _KINDS[kind][1](json.loads(default or "[]")) if given else None,
        "*" in name,
        name.endswith("?"),
    )


@cache
def _rows() -> dict[str, _Row]:
    rows = {name: _Row(name, (_Argument("X"),), (_Argument("Out"),), ()) for name in _UNARY.split()}
    for line in _TABLE.strip().splitlines():
        match = re.fullmatch(r"(\w+) +(\w+)\((.*?)\) -> ([^;]+)(?:; (.*))?", line)
        assert match, line
        name, type_, operands, outputs, attrs = match.groups()
        rows[name] = _Row(
            type_,
            tuple(map(_argument, operands.split(", "))),
            tuple(map(_argument, outputs.split(", "))),
            tuple(map(_argument, (attrs or "").split())),
        )
    return rows


def _is_int(value: Any, bits: int) -> bool:
    return type(value) is int and -(1 << bits - 1) <= value < 1 << bits - 1


def _int(value: Any) -> int:
    if not _is_int(value, 32):
        raise _MalformedError(f"{_brief(value)} is not a 32-bit integer")
    return int(value)


def _long(value: Any) -> int:
    if not _is_int(value, 64):
        raise _MalformedError(f"{_brief(value)} is not a 64-bit integer")
    return int(value)


def _bound(value: Any) -> int:
    # "to the end" is written as the largest int64: the largest int32 says the same.
    return min(max(_long(value), -(1 << 31)), (1 << 31) - 1)


def _float(value: Any) -> float:
    if type(value) is not float and not _is_int(value, 64):
        raise _MalformedError(f"{_brief(value)} is not a number")
    return float(value)


def _bool(value: Any) -> bool:
    if type(value) is not bool:
        raise _MalformedError(f"{_brief(value)} is not true or false")
    return value


def _str(value: Any) -> str:
    if type(value) is not str:
        raise _MalformedError(f"{_brief(value)} is not a string")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _MalformedError(f"{_brief(value)} is not valid Unicode") from None
    return value


def _dtype_number(value: Any) -> int:
    if _str(value).startswith("Undefined"):
        return -1
    if value not in DTYPE_NUMBERS:
        raise _MalformedError(f"{_brief(value)} is not an element type")
    return DTYPE_NUMBERS[value]


def _each(convert: Callable[[Any], Any]) -> Callable[[Any], list[Any]]:
    def convert_all(value: Any) -> list[Any]:
        if type(value) is not list:
            raise _MalformedError(f"{_brief(value)} is not a list")
        return [convert(item) for item in value]

    return convert_all


# Kind of an attribute -> its AttrType in framework.proto, and how a decoded value becomes one.
_KINDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "int": ("INT", _int),
    "long": ("LONG", _long),
    "float": ("FLOAT", _float),
    "bool": ("BOOLEAN", _bool),
    "str": ("STRING", _str),
    "dtype": ("INT", _dtype_number),
    "ints": ("INTS", _each(_int)),
    "longs": ("LONGS", _each(_long)),
    "floats": ("FLOATS", _each(_float)),
    "bounds": ("INTS", _each(_bound)),
}


def _brief(value: Any) -> str:
    """A value of the file for an error message, however long it is and whatever it holds."""
    if isinstance(value, (dict, list)):
        return f"a {'dict' if isinstance(value, dict) else 'list'} of {len(value)}"
    text = ascii(value[:60] if isinstance(value, str) else value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _get(container: Any, key: str | int, kind: type) -> Any:
    """`container[key]`, which must exist and be of a type."""
    if isinstance(key, str):
        value = container.get(key) if type(container) is dict else None
    else:
        value = container[key] if type(container) is list and len(container) > key else None
    if type(value) is not kind:
        raise _MalformedError(f"{_brief(container)}: '{key}' should be a {kind.__name__}")
    return value


def _read_type(raw: Any) -> _Type | list[_Type | None] | None:
    """A dense tensor, a vector of them, or None for everything else."""
    if _get(raw, "#", str) == "0.t_vec":
        return [_read_tensor_type(item) for item in _get(raw, "D", list)]
    return _read_tensor_type(raw)


def _read_tensor_type(raw: Any) -> _Type | None:
    name = _get(raw, "#", str)
    if name != "0.t_dtensor":
        return None
    data = _get(raw, "D", list)
    dims = _get(data, 1, list)
    if not all(_is_int(d, 64) for d in dims) or len(dims) > 64:
        raise _MalformedError(f"{_brief(data)}: not the dimensions of a tensor")
    dtype = _TYPE_NAMES.get(_get(_get(data, 0, dict), "#", str))
    # Paddle computes with -1: 4 channels of a dynamic batch may be written as -4.
    return _Type(dtype, tuple(max(d, -1) for d in dims)) if dtype else None


def _void(name: Any) -> float:
    if type(name) is not str or name not in _VOID:
        raise _MalformedError(f"{_brief(name)} is not an attribute value")
    return _VOID[name]


_ARRAYS = ("0.a_array", "1.a_intarray")


def _read_attribute(raw: Any) -> Any:
    """The plain value of an attribute: bool, int, float, str, or a list of them."""
    kind = _get(raw, "#", str)
    if "VD" in raw:
        return _void(raw["VD"])
    if kind in _ARRAYS:
        return [_read_scalar(item) if type(item) is dict else item for item in _get(raw, "D", list)]
    return _read_scalar(raw)


def _read_scalar(raw: dict[str, Any]) -> Any:
    kind = _get(raw, "#", str)
    if "VD" in raw:
        return _void(raw["VD"])
    data = raw.get("D")
    if kind == "1.a_scalar":
        data = data[1] if type(data) is list and len(data) == 2 else data
    if type(data) not in (bool, int, float, str):
        raise _MalformedError(f"{_brief(data)} is not an attribute value")
    return data


@dataclass
class _PirOp:
    """An operator of the file, checked as far as every operator can be."""

    name: str
    operands: list[int]
    results: list[tuple[int, _Type | list[_Type | None] | None]]
    attrs: dict[str, Any] = field(default_factory=dict)
    is_builtin: bool = False

    def __str__(self) -> str:
        dialect = "builtin" if self.is_builtin else "pd_op"
        kinds = ", ".join(
            f"a vector of {len(t)}" if isinstance(t, list) else str(t or "no tensor")
            for _, t in self.results
        )
        where = f" in layer {self.layer}" if self.layer else ""
        return f"{dialect}.{self.name} (%{self.key} -> {kinds or 'nothing'}){where}"

    @property
    def key(self) -> int:
        return self.results[0][0] if self.results else 0

    @property
    def layer(self) -> str:
        """The layer's path in the network, such as /MakeFire_8/Conv2D_1/; Paddle 3.3 writes it."""
        raw = self.attrs.get("struct_name")
        name = raw.get("D") if type(raw) is dict else None
        return ascii(name)[1:-1][:80] if type(name) is str else ""

    def attr(self, name: str, kind: str, default: Any = None) -> Any:
        """An attribute as `kind`; raises _MalformedError where it is missing or something else."""
        if name not in self.attrs:
            if default is None:
                raise _MalformedError(f"{self}: no attribute '{name}'")
            return default
        try:
            return _KINDS[kind][1](_read_attribute(self.attrs[name]))
        except _MalformedError as error:
            raise _MalformedError(f"{self}: attribute '{name}': {error}") from None


def _id(raw: Any) -> int:
    number = _get(raw, "%", int)
    if number < 0 or not _is_int(number, 64):
        raise _MalformedError(f"{_brief(number)} is not the id of a value")
    return int(number)


def _read_op(raw: Any) -> _PirOp:
    full_name = _get(raw, "#", str)
    if full_name == "p":
        result = _get(raw, "O", dict)
        return _PirOp("p", [], [(_id(result), _read_type(result.get("TT")))], {"": raw})
    dialect, _, name = full_name.partition(".")
    op = _PirOp(
        name,
        [_id(operand) for operand in _get(raw, "I", list)],
        [(_id(result), _read_type(result.get("TT"))) for result in _get(raw, "O", list)],
        {_get(item, "N", str): item.get("AT") for item in _get(raw, "A", list)},
        dialect == "0",
    )
    if name in _CONTROL_FLOW or "regions" in raw or dialect == "2":
        raise _UnsupportedError(
            f"{op}: control flow cannot be translated: "
            "export the network so that its graph has no branch or loop that depends on data"
        )
    if dialect not in ("0", "1"):
        name = ascii(full_name)[1:-1][:80]
        raise _UnsupportedError(f"operator {name}: custom operators are not translated")
    return op


class _Translator:
    """Translates operators in order. `values` maps an id of the file to what it stands for."""

    def __init__(self) -> None:
        self.values: dict[int, _Value] = {0: _Value(reason="a null operand")}
        self.vars: dict[str, Var] = {}
        self.feeds: list[Op] = []
        self.ops: list[Op] = []
        self.fetches: dict[int, tuple[str, _Value]] = {}
        self._made = 0
        # 64-bit integer variable -> one of 32 bits with the same numbers, or its constant.
        self._narrow: dict[str, str] = {}
        self._wide_constants: dict[str, _Value] = {}

    def fail(self, op: _PirOp, what: str) -> NoReturn:
        raise _MalformedError(f"{op}: {what}")

    def value(self, op: _PirOp, index: int) -> _Value:
        """An operand, which must be there and defined by an operator before this one."""
        if len(op.operands) <= index:
            self.fail(op, f"has {len(op.operands)} operands")
        value = self.values.get(op.operands[index])
        if value is None:
            self.fail(op, f"operand %{op.operands[index]} is not defined before it is used")
        if value.reason:
            raise _UnsupportedError(
                f"{op}: cannot be translated: operand {index} is {value.reason}"
            )
        return value

    def new_key(self) -> int:
        """An id for a value that the file does not have."""
        self._made -= 1
        return self._made

    def type_of(self, name: str) -> _Type:
        return _Type(self.vars[name].dtype, self.vars[name].shape)

    def define(self, op: _PirOp, value: _Value, index: int = 0) -> None:
        key = op.results[index][0] if len(op.results) > index else 0
        if key == 0 or key in self.values:
            self.fail(op, f"result %{key} is defined twice or not at all")
        self.values[key] = value

    def add_var(self, stem: str, type_: _Type, **flags: Any) -> str:
        name, n = stem, 0
        while name in self.vars:
            n += 1
            name = f"{stem}_{n}"
        self.vars[name] = Var(name, type_.dtype, type_.shape, **flags)
        return name

    def emit(
        self,
        type_: str,
        inputs: dict[str, list[str]],
        outputs: dict[str, list[str]],
        **attrs: tuple[str, Any],
    ) -> Op:
        op = Op(type_, inputs, outputs, {name: Attr(*attr) for name, attr in attrs.items()})
        self.ops.append(op)
        return op

    def tensor(self, op: _PirOp, value: _Value, *, at_least_1d: bool = False) -> str:
        """The variable that holds a value; a constant gets one where it is first needed."""
        if value.const is not None:
            shape = value.type.shape or ((1,) if at_least_1d else ())
            if value.name is None or self.vars[value.name].shape != shape:
                value.name = self._constant(value.const.reshape(shape), value.type.dtype)
                if value.type.dtype == "int64":
                    self._wide_constants[value.name] = value
            return value.name
        if value.name is None:
            self.fail(op, "an operand is a vector where one tensor is expected")
        return value.name

    def widen(self, name: str) -> str:
        """A 64-bit variable with the numbers of a 32-bit one, which the translation prefers."""
        wide = self.cast(name, self.type_of(name), "int64")
        self._narrow[wide] = name
        return wide

    def narrow(self, op: _PirOp, value: _Value) -> str:
        """The variable that holds a value as 32-bit integers, which is how Lite reads shapes."""
        if value.type.dtype != "int64":
            return self.tensor(op, value, at_least_1d=True)
        if value.const is not None:
            limits = np.iinfo(np.int32)
            const = value.const.clip(limits.min, limits.max).astype(np.int32)
            type_ = _Type("int32", value.type.shape)
            return self.tensor(op, _Value(type_, const=const), at_least_1d=True)
        name = self.tensor(op, value)
        if name not in self._narrow:
            self._narrow[name] = self.cast(name, value.type, "int32")
        return self._narrow[name]

    def _twin(self, op: _PirOp, made: Op) -> None:
        """Beside an operator that computes with shapes, the same in 32 bits; one of both is kept.

        Paddle 3 computes shapes in 64 bits, Paddle 2 and Lite do so in 32.
        """
        out = made.output("Out")
        names = [n for names in made.inputs.values() for n in names]
        if out is None or self.vars[out].dtype != "int64" or not self._narrow.keys() & set(names):
            return
        narrow = {n: self._narrow[n] for n in names if n in self._narrow}
        for name in set(names) - narrow.keys():
            if name not in self._wide_constants:
                return
            narrow[name] = self.narrow(op, self._wide_constants[name])
        self._narrow[out] = self.add_var(out, _Type("int32", self.vars[out].shape))
        twin = Op(made.type, {}, {"Out": [self._narrow[out]]}, made.attrs)
        twin.inputs = {slot: [narrow[n] for n in names] for slot, names in made.inputs.items()}
        self.ops.append(twin)

    def _constant(self, const: np.ndarray[Any, Any], dtype: str) -> str:
        shape = list(const.shape)
        first = const.flat[0].item() if const.size else 0
        is_uniform = not any(const.strides) or bool((const == first).all())
        if is_uniform and (const.dtype.kind in "fb" or abs(first) <= 1 << 24):
            name = self.add_var(f"fill_constant_{len(self.ops)}.tmp_0", _Type(dtype, const.shape))
            text = str(float(first) if const.dtype.kind == "f" else int(first))
            self.emit(
                "fill_constant",
                {},
                {"Out": [name]},
                shape=("LONGS", shape),
                dtype=("INT", DTYPE_NUMBERS[dtype]),
                value=("FLOAT", float(first)),
                str_value=("STRING", text),
                force_cpu=("BOOLEAN", False),
                place_type=("INT", -1),
            )
            return name
        # assign_value has lists for these types only; the others are cast from the nearest one.
        kinds = {
            "float32": ("fp32_values", "FLOATS"),
            "int32": ("int32_values", "INTS"),
            "int64": ("int64_values", "LONGS"),
            "bool": ("bool_values", "INTS"),
        }
        held = dtype if dtype in kinds else "float32" if const.dtype.kind == "f" else "int32"
        name = self.add_var(f"assign_value_{len(self.ops)}.tmp_0", _Type(held, const.shape))
        attr, kind = kinds[held]
        values = const.astype("int32" if held == "bool" else held).ravel().tolist()
        self.emit(
            "assign_value",
            {},
            {"Out": [name]},
            shape=("INTS", shape),
            dtype=("INT", DTYPE_NUMBERS[held]),
            **{attr: (kind, values)},
        )
        if held == dtype:
            return name
        return self.cast(name, _Type(held, const.shape), dtype)

    def cast(self, name: str, type_: _Type, dtype: str) -> str:
        out = self.add_var(f"cast_{len(self.ops)}.tmp_0", _Type(dtype, type_.shape))
        self.emit(
            "cast",
            {"X": [name]},
            {"Out": [out]},
            in_dtype=("INT", DTYPE_NUMBERS[type_.dtype]),
            out_dtype=("INT", DTYPE_NUMBERS[dtype]),
        )
        return out

    def translate(self, op: _PirOp) -> None:
        """Translate one operator by its function or its row."""
        special = _BUILTIN.get(op.name) if op.is_builtin or op.name == "p" else _row_or_code(op)
        if special is None:
            raise _UnsupportedError(f"{op} is not translated yet")
        if isinstance(special, _Row):
            self.by_row(op, special)
        else:
            special(self, op)

    def by_row(self, op: _PirOp, row: _Row) -> None:
        if len(op.operands) > len(row.operands):
            self.fail(op, f"has {len(op.operands)} operands, {len(row.operands)} are expected")
        inputs: dict[str, list[str]] = {}
        attrs: dict[str, Attr] = {}
        at_least_1d = bool(_BROADCASTING.match(row.type)) and any(
            self.values[key].type.shape for key in op.operands if key in self.values
        )
        for index, argument in enumerate(row.operands):
            if argument.name == "_" or (
                argument.is_optional and op.operands[index : index + 1] in ([], [0])
            ):
                continue
            value = self.value(op, index)
            if argument.kind:
                self._constant_operand(op, row, argument, value, inputs, attrs)
            elif argument.is_vector:
                if value.items is None:
                    self.fail(op, f"operand '{argument.name}' should be a vector")
                inputs[argument.name] = [self.tensor(op, item) for item in value.items]
            else:
                inputs[argument.name] = [self.tensor(op, value, at_least_1d=at_least_1d)]
        for argument in row.attrs:
            kind = argument.kind
            found = op.attr(argument.source, kind, argument.default)
            attrs[argument.name] = Attr(_KINDS[kind][0], found)
        made = Op(row.type, inputs, self._outputs(op, row), attrs)
        finish = _FINISH.get(row.type)
        if finish is not None:
            finish(self, op, made)
        self.ops.append(made)
        if made.type in _SHAPE_OPS:
            self._twin(op, made)

    def _constant_operand(
        self,
        op: _PirOp,
        row: _Row,
        argument: _Argument,
        value: _Value,
        inputs: dict[str, list[str]],
        attrs: dict[str, Attr],
    ) -> None:
        """An operand that is an attribute of the older operator, or a slot if not constant."""
        kind, convert = _KINDS[argument.kind]
        plain: Any = None
        if value.const is not None and value.const.size <= _MAX_FOLD:
            plain = value.const.ravel().tolist()
        elif row.type in ("reshape2", "expand_v2"):
            plain = self._static_shape(op, row.type, value)
        if plain is not None:
            try:
                if argument.kind in ("int", "long", "float"):
                    if len(plain) != 1:
                        raise _MalformedError(f"{len(plain)} elements where one is expected")
                    plain = plain[0]
                    if type(plain) is float and plain.is_integer() and argument.kind != "float":
                        plain = int(plain)
                plain = convert(plain)
            except _MalformedError as error:
                self.fail(op, f"operand '{argument.name}': {error}")
            attrs[argument.name] = Attr(kind, plain)
        elif argument.list_slot and value.parts is not None:
            known = [-1 if item.const is None else item.const.item() for item in value.parts]
            attrs[argument.name] = Attr(kind, convert(known))
            inputs[argument.list_slot] = [self.narrow(op, item) for item in value.parts]
        elif argument.slot:
            attrs[argument.name] = Attr(kind, _UNSET[argument.kind])
            name = self.tensor(op, value) if argument.kind == "longs" else self.narrow(op, value)
            inputs[argument.slot] = [name]
        else:
            raise _UnsupportedError(f"{op}: operand '{argument.name}' must be a constant")

    def _static_shape(self, op: _PirOp, type_: str, value: _Value) -> list[int] | None:
        """The shape attribute that says the same as a computed shape, if there is one."""
        result = op.results[0][1] if op.results else None
        dynamic = 0 if type_ == "expand_v2" else 1  # a reshape may leave one dimension open
        if isinstance(result, _Type) and 0 not in result.shape:
            shape = list(result.shape)
            if sum(d < 0 for d in shape) <= dynamic:
                return shape
        if value.known is None or type_ != "reshape2":
            return None
        # 0 copies the dimension of X at that place.
        x = self.value(op, 0)
        shape = [
            d if type(d) is int else 0 if d[0] is x and d[1] == axis else -1  # type: ignore[index]
            for axis, d in enumerate(value.known)
        ]
        return shape if sum(d < 0 for d in shape) <= 1 else None

    def _outputs(self, op: _PirOp, row: _Row) -> dict[str, list[str]]:
        outputs: dict[str, list[str]] = {}
        for index, (key, type_) in enumerate(op.results):
            argument = row.outputs[index] if index < len(row.outputs) else None
            if argument is None or argument.name == "_" or type_ is None:
                if key:
                    self.define(op, _Value(reason=f"output {index} of {op}, unread so far"), index)
                continue
            if isinstance(type_, list) != argument.is_vector:
                self.fail(op, f"output '{argument.name}' is of another kind")
            items = []
            for n, item in enumerate(type_ if isinstance(type_, list) else [type_]):
                if item is None:
                    raise _UnsupportedError(f"{op}: output '{argument.name}' is not a dense tensor")
                stem = f"{row.type}_{op.key}.tmp_{index + n}"
                items.append(_Value(item, self.add_var(stem, item)))
            outputs[argument.name] = [item.name for item in items if item.name]
            self.define(op, _Value(items=items) if argument.is_vector else items[0], index)
        if row.outputs[0].name not in outputs:
            self.fail(op, "has no output")
        return outputs

    def block(self) -> Block:
        """The finished block: feed operators, then those that an output needs, then fetch."""
        if not self.fetches:
            raise _MalformedError("no fetch operator: this is not an inference model")
        for name, kind in (("feed", _FEED), ("fetch", _FETCH)):
            if name in self.vars:
                raise _MalformedError(f"a tensor is called '{name}'")
            self.vars[name] = Var(name, kind=kind, persistable=True, other=bytes([8, kind]))
        fetched = [self.fetches[column] for column in sorted(self.fetches)]
        names: dict[str, str] = {}  # variable -> the name that Paddle gives this output
        fetches: list[Op] = []
        inner = {n for op in self.ops for outputs in op.outputs.values() for n in outputs}
        for column, (wanted, value) in enumerate(fetched):
            name = value.name or ""
            if name in names or name not in inner or self.vars[name].persistable:
                copy = self.add_var(f"assign_{len(self.ops)}.tmp_0", value.type)
                self.emit("assign", {"X": [name]}, {"Out": [copy]})
                name = copy
            names[name] = wanted if wanted not in self.vars else name
            fetches.append(
                Op("fetch", {"X": [name]}, {"Out": ["fetch"]}, {"col": Attr("INT", column)})
            )
        taken: set[str] = set()
        for name, wanted in names.items():
            if wanted in taken:
                names[name] = name
            taken.add(names[name])
        ops = [*self.feeds, *_live(self.ops, names), *fetches]
        for op in ops:
            op.rename_inputs(names)
            for outputs in op.outputs.values():
                outputs[:] = [names.get(n, n) for n in outputs]
        used = {
            n for op in ops for slots in (op.inputs, op.outputs) for a in slots.values() for n in a
        }
        variables: dict[str, Var] = {}
        for var in self.vars.values():
            var.name = names.get(var.name, var.name)
            if var.persistable or var.name in used:
                variables[var.name] = var
        return Block(0, -1, variables, ops)


def _live(ops: list[Op], outputs: Iterable[str]) -> list[Op]:
    """The operators that the given variables depend on, in order."""
    needed = set(outputs)
    kept = []
    for op in reversed(ops):
        if any(name in needed for names in op.outputs.values() for name in names):
            kept.append(op)
            needed.update(name for names in op.inputs.values() for name in names)
    return kept[::-1]


_Code = Callable[[_Translator, _PirOp], None]


def _row_or_code(op: _PirOp) -> _Row | _Code | None:
    """How to translate a pd_op operator; `relu_` (in place) is `relu` in single assignment."""
    for name in (op.name, op.name[:-1] if op.name.endswith("_") else op.name):
        found = _CODE.get(name) or _rows().get(name)
        if found is not None:
            return found
    return None


def _result_type(op: _PirOp, index: int = 0) -> _Type:
    type_ = op.results[index][1] if len(op.results) > index else None
    if not isinstance(type_, _Type):
        raise _MalformedError(f"{op}: its result {index} is not a dense tensor")
    return type_


def _parameter(t: _Translator, op: _PirOp) -> None:
    fields = _get(op.attrs[""], "A", list)
    name, type_ = _str(_get(fields, 3, str)), _result_type(op)
    if not name or name in t.vars:
        raise _MalformedError(f"parameter {_brief(name)} is defined twice or has no name")
    if any(d < 0 for d in type_.shape):
        raise _MalformedError(f"parameter {_brief(name)} has a dynamic shape: {type_}")
    flags = op.attrs[""].get("OA")  # persistable, stop_gradient, trainable
    if type(flags) is list and flags[:1] == [0]:
        t.define(op, _Value(type_, reason="a state that the model does not store"))
        return
    is_parameter = bool(_get(fields, 1, int))
    t.add_var(name, type_, persistable=True, is_parameter=is_parameter, stop_gradient=True)
    t.define(op, _Value(type_, name))


def _data(t: _Translator, op: _PirOp) -> None:
    name, type_ = op.attr("name", "str"), _result_type(op)
    if not name or name in t.vars:
        t.fail(op, f"the input {_brief(name)} is defined twice or has no name")
    t.add_var(name, type_, need_check_feed=True, stop_gradient=True)
    column = Attr("INT", len(t.feeds))
    t.feeds.append(Op("feed", {"X": ["feed"]}, {"Out": [name]}, {"col": column}))
    t.define(op, _Value(type_, name))


def _fetch(t: _Translator, op: _PirOp) -> None:
    value = t.value(op, 0)
    column = op.attr("col", "int", len(t.fetches))
    if column in t.fetches:
        t.fail(op, f"column {column} is fetched twice")
    t.tensor(op, value)
    name = op.attr("name" if "name" in op.attrs else "output_name", "str")
    t.fetches[column] = (name or "fetch", value)


def _alias(t: _Translator, op: _PirOp) -> None:
    t.define(op, t.value(op, 0))


def _combine(t: _Translator, op: _PirOp) -> None:
    t.define(op, _Value(items=[t.value(op, index) for index in range(len(op.operands))]))


def _items(t: _Translator, op: _PirOp) -> list[_Value]:
    items = t.value(op, 0).items
    if items is None:
        t.fail(op, "its operand is not a vector")
    return items


def _split_vector(t: _Translator, op: _PirOp) -> None:
    items = _items(t, op)
    if len(items) != len(op.results):
        t.fail(op, f"splits a vector of {len(items)}")
    for index, item in enumerate(items):
        t.define(op, item, index)


def _slice_vector(t: _Translator, op: _PirOp) -> None:
    items, index = _items(t, op), op.attr("index", "int")
    if not 0 <= index < len(items):
        t.fail(op, f"takes element {index} of a vector of {len(items)}")
    t.define(op, items[index])


def _define_constant(t: _Translator, op: _PirOp, values: Any, shape: Iterable[int]) -> None:
    """Numbers as a constant of the result's element type. One number fills any shape."""
    dtype, dims = _result_type(op).dtype, tuple(shape)
    numbers = np.dtype({"bfloat16": "float32"}.get(dtype, dtype))
    if any(d < 0 for d in dims) or numbers.kind == "c":
        t.fail(op, f"not a constant of {dtype}{list(dims)}")
    try:
        if numbers.kind in "iu":
            values = [int(v) for v in values]
        with np.errstate(all="ignore"):
            flat = np.asarray(values, np.float64 if numbers.kind == "f" else None)
            if numbers.kind in "iu" and flat.size:
                limits = np.iinfo(numbers)
                if (
                    flat.dtype.kind not in "iu"
                    or flat.min() < limits.min
                    or flat.max() > limits.max
                ):
                    raise OverflowError
            flat = flat.astype(numbers)
        const = np.broadcast_to(flat[0], dims) if len(flat) == 1 else flat.reshape(dims)
    except (ValueError, OverflowError):
        t.fail(op, f"its values are not a constant of {dtype}{list(dims)}")
    value = _Value(_Type(dtype, dims), const=const)
    if numbers.kind in "iu" and len(dims) <= 1 and const.size <= _MAX_FOLD:
        value.known = const.ravel().tolist()
    t.define(op, value)


def _declared(t: _Translator, op: _PirOp) -> list[int]:
    """The attribute `shape`, which must be that of the result."""
    shape: list[int] = op.attr("shape", "longs")
    if tuple(shape) != _result_type(op).shape:
        t.fail(op, f"its shape is {_brief(shape)}")
    return shape


def _full(t: _Translator, op: _PirOp) -> None:
    _define_constant(t, op, [op.attr("value", "float")], _declared(t, op))


def _full_int_array(t: _Translator, op: _PirOp) -> None:
    values = op.attr("value", "longs")
    if _result_type(op).shape != (len(values),):
        t.fail(op, f"holds {len(values)} numbers")
    _define_constant(t, op, values, [len(values)])


def _assign_value(t: _Translator, op: _PirOp) -> None:
    values = _read_attribute(op.attrs.get("values"))
    if type(values) is not list:
        t.fail(op, "attribute 'values' is not a list")
    numbers = [v if _is_int(v, 64) else float(v) if type(v) is bool else _float(v) for v in values]
    _define_constant(t, op, numbers, _declared(t, op))


def _shape(t: _Translator, op: _PirOp) -> None:
    x, type_ = t.value(op, 0), _result_type(op)
    if type_.shape != (len(x.type.shape),) or x.items is not None:
        t.fail(op, f"is not the shape of {x.type}")
    if all(d >= 0 for d in x.type.shape):
        _define_constant(t, op, x.type.shape, type_.shape)
        return
    name = t.add_var(f"shape_{op.key}.tmp_0", _Type("int32", type_.shape))
    t.emit("shape", {"Input": [t.tensor(op, x)]}, {"Out": [name]})
    if type_.dtype == "int64":
        name = t.widen(name)
    known: list[int | tuple[_Value, int]] = [
        (x, axis) if size < 0 else size for axis, size in enumerate(x.type.shape)
    ]
    t.define(op, _Value(type_, name, known=known))


def _constants(t: _Translator, op: _PirOp, count: int) -> list[int | float] | None:
    """The operands as numbers, if they are constants of one element each."""
    values = [t.value(op, index).const for index in range(count)]
    numbers = [v.ravel()[0].item() for v in values if v is not None and v.size == 1]
    if len(numbers) != count or not all(math.isfinite(n) for n in numbers):
        return None
    return numbers


def _arange(t: _Translator, op: _PirOp) -> None:
    type_, numbers = _result_type(op), _constants(t, op, 3)
    if numbers is not None and numbers[2] != 0:
        start, end, step = numbers
        steps = max(0.0, (end - start) / step)
        if steps <= _MAX_FOLD:
            count = math.ceil(steps)
            _define_constant(t, op, [start + step * n for n in range(count)], [count])
            return
    # Unlike arange, range wants its operands in the type of the result.
    inputs = {}
    for index, slot in enumerate(("Start", "End", "Step")):
        value = t.value(op, index)
        name = t.tensor(op, value, at_least_1d=True)
        if value.type.dtype != type_.dtype:
            name = t.cast(name, t.type_of(name), type_.dtype)
        inputs[slot] = [name]
    out = t.add_var(f"range_{op.key}.tmp_0", type_)
    t.emit("range", inputs, {"Out": [out]})
    t.define(op, _Value(type_, out))


def _eye(t: _Translator, op: _PirOp) -> None:
    numbers = _constants(t, op, 2)
    if numbers is None or not 0 <= numbers[0] * numbers[1] <= _MAX_FOLD:
        raise _UnsupportedError(f"{op}: its size must be a small constant")
    rows, columns = int(numbers[0]), int(numbers[1])
    _define_constant(t, op, np.eye(rows, columns).ravel().tolist(), [rows, columns])


def _linspace(t: _Translator, op: _PirOp) -> None:
    numbers = _constants(t, op, 3)
    if numbers is None or not 1 <= numbers[2] <= _MAX_FOLD:
        t.by_row(op, _rows()["linspace"])
        return
    start, stop, count = numbers
    _define_constant(t, op, np.linspace(start, stop, int(count)).tolist(), [int(count)])


def _full_with_tensor(t: _Translator, op: _PirOp) -> None:
    value, shape, type_ = t.value(op, 0), t.value(op, 1), _result_type(op)
    number = _constants(t, op, 1)
    if number is not None and shape.const is not None and shape.const.size <= 64:
        _define_constant(t, op, number, [int(d) for d in shape.const.ravel()])
        return
    if shape.parts is not None:
        inputs = {"ShapeTensorList": [t.narrow(op, item) for item in shape.parts]}
    else:
        inputs = {"ShapeTensor": [t.narrow(op, shape)]}
    if number is None:
        inputs["ValueTensor"] = [t.tensor(op, value)]
    out = t.add_var(f"fill_constant_{op.key}.tmp_0", type_)
    t.emit(
        "fill_constant",
        inputs,
        {"Out": [out]},
        shape=("LONGS", []),
        dtype=("INT", DTYPE_NUMBERS[type_.dtype]),
        value=("FLOAT", float(number[0]) if number else 0.0),
        str_value=("STRING", str(number[0]) if number else ""),
        force_cpu=("BOOLEAN", False),
        place_type=("INT", -1),
    )
    t.define(op, _Value(type_, out))


def _set_value(t: _Translator, op: _PirOp) -> None:
    """With its numbers in a tensor: the attribute for them differs between Paddle and Lite."""
    key, x = t.new_key(), t.value(op, 0)
    type_ = _Type(x.type.dtype, tuple(op.attr("shape", "longs")))
    values = _PirOp("assign_value", [], [(key, type_)], op.attrs)
    _assign_value(t, values)
    operands = [op.operands[0], key, *op.operands[1:]]
    made = _PirOp("set_value_with_tensor", operands, op.results, op.attrs)
    t.by_row(made, _rows()["set_value_with_tensor"])


def _linear(t: _Translator, op: _PirOp) -> None:
    """matmul_v2 and elementwise_add, as the older exporter writes paddle.nn.Linear."""
    transpose = op.attrs.get("transpose_weight", {"#": "0.a_bool", "D": False})
    plain = {"#": "0.a_bool", "D": False}
    attrs = {**op.attrs, "transpose_x": plain, "transpose_y": transpose}
    _with_bias(t, op, "matmul", attrs, -1)


def _conv_bias(t: _Translator, op: _PirOp) -> None:
    axis = 1 if op.attr("data_format", "str", "NCHW") == "NCHW" else 3
    _with_bias(t, op, op.name.replace("_bias", ""), op.attrs, axis)


def _with_bias(t: _Translator, op: _PirOp, name: str, attrs: dict[str, Any], axis: int) -> None:
    """An operator with a bias as its third operand -> the one without, and elementwise_add."""
    if len(op.operands) < 3 or op.operands[2] == 0:
        t.by_row(_PirOp(name, op.operands[:2], op.results, attrs), _rows()[name])
        return
    key, type_ = t.new_key(), _result_type(op)
    operands = [*op.operands[:2], *op.operands[3:]]
    t.by_row(_PirOp(name, operands, [(key, type_)], attrs), _rows()[name])
    x, bias = t.tensor(op, t.values[key]), t.tensor(op, t.value(op, 2))
    out = t.add_var(f"elementwise_add_{op.key}.tmp_0", type_)
    t.emit("elementwise_add", {"X": [x], "Y": [bias]}, {"Out": [out]}, axis=("INT", axis))
    t.define(op, _Value(type_, out))


_BUILTIN: dict[str, _Code] = {
    "p": _parameter,
    "combine": _combine,
    "split": _split_vector,
    "slice": _slice_vector,
    "shadow_output": _fetch,
}
_CODE: dict[str, _Code] = {
    "data": _data,
    "feed": _data,
    "fetch": _fetch,
    "shadow_feed": _alias,
    "full": _full,
    "full_int_array": _full_int_array,
    "full_with_tensor": _full_with_tensor,
    "assign_value": _assign_value,
    "arange": _arange,
    "linspace": _linspace,
    "eye": _eye,
    "shape": _shape,
    "shape64": _shape,
    "set_value": _set_value,
    "linear_v2": _linear,
    "conv2d_transpose_bias": _conv_bias,
    "depthwise_conv2d_bias": _conv_bias,
}


# What a row leaves open, by the older operator's type: called when its outputs are defined.


def _finish_batch_norm(t: _Translator, op: _PirOp, made: Op) -> None:
    made.outputs["MeanOut"] = list(made.inputs["Mean"])
    made.outputs["VarianceOut"] = list(made.inputs["Variance"])


def _finish_cast(t: _Translator, op: _PirOp, made: Op) -> None:
    made.set("in_dtype", DTYPE_NUMBERS[t.value(op, 0).type.dtype])
    _fold(t, op, lambda x: x)


def _finish_reduce(t: _Translator, op: _PirOp, made: Op) -> None:
    dims, x = made.get("dim"), t.value(op, 0).type
    every = made.get("reduce_all", False) or len(dims) in (0, len(x.shape))
    made.set("reduce_all", every)
    made.set("dim", dims or [0])
    made.set("in_dtype", -1 if made.get("out_dtype", -1) < 0 else DTYPE_NUMBERS[x.dtype])
    made.set("out_dtype", made.get("out_dtype", -1))


def _finish_strided_slice(t: _Translator, op: _PirOp, made: Op) -> None:
    made.set("infer_flags", [1] * len(made.get("axes")))
    made.set("decrease_axis", [], "INTS")


def _finish_set_value(t: _Translator, op: _PirOp, made: Op) -> None:
    made.set("dtype", DTYPE_NUMBERS[t.value(op, 0).type.dtype])
    made.set("shape", [], "LONGS")


def _finish_interp(t: _Translator, op: _PirOp, made: Op) -> None:
    """A size in constant tensors becomes out_d, out_h, out_w."""
    sizes: list[int] = []
    if "OutSize" in made.inputs:
        const = t.value(op, 1).const
        sizes = [int(v) for v in const.ravel()[:4]] if const is not None else []
    elif "SizeTensor" in made.inputs:
        for item in t.value(op, 2).items or []:
            if item.const is not None and item.const.size == 1:
                sizes.append(int(item.const.ravel()[0]))
    names = ("out_d", "out_h", "out_w")[3 - len(sizes) :] if len(sizes) <= 3 else ()
    wanted = len(made.inputs.get("SizeTensor", sizes))
    if names and len(names) == wanted:
        for name, size in zip(names, sizes):
            made.set(name, _int(size))
        made.inputs.pop("OutSize", None)
        made.inputs.pop("SizeTensor", None)
    elif "OutSize" in made.inputs:
        made.inputs["OutSize"] = [t.narrow(op, t.value(op, 1))]
    elif "SizeTensor" in made.inputs:
        items = t.value(op, 2).items or []
        made.inputs["SizeTensor"] = [t.narrow(op, item) for item in items]


def _finish_slice(t: _Translator, op: _PirOp, made: Op) -> None:
    known = t.value(op, 0).known
    if known is None or made.get("axes") != [0] or len(made.inputs) > 1:
        return
    (start,), (end,) = made.get("starts") or [0], made.get("ends") or [0]
    _know(t, op, known[start:end])


def _finish_stack(t: _Translator, op: _PirOp, made: Op) -> None:
    """stack of numbers, or concat of one-element tensors, along the only axis: a shape."""
    items = t.value(op, 0).items or []
    rank = 0 if made.type == "stack" else 1
    if not items or any(len(item.type.shape) != rank or item.items is not None for item in items):
        return
    if all(item.type.shape in ((), (1,)) for item in items):
        t.values[op.key].parts = items
    known: list[int | tuple[_Value, int]] = []
    for item in items:
        if item.known is None:
            return
        known += item.known
    _know(t, op, known)


def _know(t: _Translator, op: _PirOp, known: list[int | tuple[_Value, int]]) -> None:
    """Note the elements of a shape; when all are numbers the value is a constant."""
    value = t.values[op.key]
    if value.type.dtype not in ("int32", "int64") or math.prod(value.type.shape) != len(known):
        return
    value.known = known
    if all(type(d) is int for d in known):
        value.const = np.array(known, value.type.dtype).reshape(value.type.shape)
        value.name = None


def _fold(t: _Translator, op: _PirOp, compute: Callable[..., Any]) -> None:
    """Compute with integer constants, such as shapes, here and now."""
    operands = [t.value(op, index) for index in range(len(op.operands))]
    value = t.values[op.key]
    if value.type.dtype not in ("int32", "int64") or any(
        v.const is None or v.const.dtype.kind != "i" or v.const.size > 64 for v in operands
    ):
        return
    with np.errstate(all="ignore"):
        result = np.asarray(compute(*(v.const for v in operands)))
    if result.shape == value.type.shape and len(result.shape) <= 1:
        _know(t, op, result.ravel().tolist())


def _finish_arithmetic(t: _Translator, op: _PirOp, made: Op) -> None:
    _fold(t, op, _ARITHMETIC[made.type])


_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "elementwise_add": np.add,
    "elementwise_sub": np.subtract,
    "elementwise_mul": np.multiply,
    "elementwise_floordiv": np.floor_divide,
}
# Operators through which shapes are computed, on 32-bit twins of their operands where possible.
_SHAPE_OPS = ("slice", "scale", *_ARITHMETIC)
_REDUCE = ("max", "min", "sum", "mean", "prod", "all", "any", "amax", "amin")
_INTERPOLATE = ("nearest", "bilinear", "bicubic", "linear", "trilinear")
_FINISH: dict[str, Callable[[_Translator, _PirOp, Op], None]] = {
    "batch_norm": _finish_batch_norm,
    "cast": _finish_cast,
    "strided_slice": _finish_strided_slice,
    "set_value": _finish_set_value,
    "slice": _finish_slice,
    "stack": _finish_stack,
    "concat": _finish_stack,
    "frobenius_norm": _finish_reduce,
    **{f"reduce_{name}": _finish_reduce for name in _REDUCE},
    **{f"{name}_interp_v2": _finish_interp for name in _INTERPOLATE},
    **dict.fromkeys(_ARITHMETIC, _finish_arithmetic),
}


def _parse_int(text: str) -> int:
    if len(text) > 20:  # longer than any 64-bit integer, and slow to convert
        raise ValueError("a number of too many digits")
    return int(text)


def _parse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _load(data: bytes) -> list[Any]:
    """The raw operators of the file, after the checks that concern it as a whole."""
    if not data:
        raise _MalformedError("the file is empty")
    if len(data) > _MAX_BYTES:
        raise _MalformedError(f"{len(data)} bytes are too many for the graph of a network")
    try:
        root = json.loads(data, parse_int=_parse_int, parse_constant=_parse_constant)
    except (ValueError, RecursionError) as error:
        why = "too deeply nested" if isinstance(error, RecursionError) else str(error)
        raise _MalformedError(f"not JSON, or damaged: {why[:200]}") from None
    base = root.get("base_code") if type(root) is dict else None
    if type(base) is not dict or base.get("magic") != "pir":
        raise _MalformedError(
            "JSON, but not a Paddle model: no base_code with the magic word 'pir'"
        )
    version = base.get("version")
    if type(version) is not int or version not in _VERSIONS:
        raise _MalformedError(
            f"PIR version {_brief(version)} is not known here (known: 0 to {_VERSIONS[-1]}, which "
            "Paddle 3.0 to 3.3 write): export with one of these, or update paddle-edge"
        )
    program = _get(root, "program", dict)
    blocks = _get(_get(_get(program, "regions", list), 0, dict), "blocks", list)
    block = _get(blocks, 0, dict)
    if len(program["regions"]) != 1 or len(blocks) != 1 or block.get("args"):
        raise _MalformedError("the program has more than one block, or arguments")
    return _get(block, "ops", list)  # type: ignore[no-any-return]


def _read_ops(raw_ops: list[Any]) -> list[_PirOp]:
    """All operators; raises _UnsupportedError that names every kind that is not translated."""
    ops = []
    refused: dict[str, str] = {}
    for raw in raw_ops:
        try:
            op = _read_op(raw)
        except _UnsupportedError as error:
            refused.setdefault(raw["#"], str(error))
            continue
        if (
            op.name != "p"
            and (_BUILTIN.get(op.name) if op.is_builtin else _row_or_code(op)) is None
        ):
            refused.setdefault(raw["#"], f"{op} is not translated yet")
        ops.append(op)
    if refused:
        texts = list(refused.values())
        more = f"; and {len(texts) - 5} more kinds of operators" if len(texts) > 5 else ""
        raise _UnsupportedError("; ".join(texts[:5]) + more)
    return ops


def read_pir(path: Path, data: bytes) -> tuple[list[Block], int, dict[str, int]]:
    """The graph in a PIR `inference.json`: its blocks, the Paddle version, operator versions.

    There is one block, with the feed and fetch operators, variables and parameters that
    Paddle 2.6's exporter would write; outputs have the names that Paddle gives them. The file
    does not say which Paddle wrote it, nor versions of older operators: these are 0 and empty.
    `path` is for messages only.

    Raises:
        ModelError: the file is damaged, of an unknown version, or not a PIR model.
        ConvertError: it has operators that are not translated (each is named), or control flow.
    """
    translator = _Translator()
    try:
        for op in _read_ops(_load(data)):
            translator.translate(op)
        block = translator.block()
    except _MalformedError as error:
        raise ModelError(f"{path}: {error}") from None
    except _UnsupportedError as error:
        raise ConvertError(f"{path}: {error}") from None
    return [block], 0, {}
