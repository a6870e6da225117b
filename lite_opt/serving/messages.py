"""The messages of the Open Inference Protocol's gRPC service: the fields that are used of them.

The protocol publishes an interface file; these are its names and numbers, as far as they are
needed. A field that is not listed is skipped when a message is read, as protobuf has it.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from lite_opt.model.schema import message_classes

__all__ = ["METHODS", "SERVICE", "messages"]

_PACKAGE = "inference"
SERVICE = f"{_PACKAGE}.GRPCInferenceService"
METHODS = (
    "ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer",
)  # fmt: skip

# Those within ModelInfer and ModelMetadata stand beside them: a name is no part of what is sent.
_SCHEMA = """
ServerLiveRequest:
ServerLiveResponse: bool live 1
ServerReadyRequest:
ServerReadyResponse: bool ready 1
ModelReadyRequest: string name 1, string version 2
ModelReadyResponse: bool ready 1
ServerMetadataRequest:
ServerMetadataResponse: string name 1, string version 2, repeated string extensions 3
ModelMetadataRequest: string name 1, string version 2
TensorMetadata: string name 1, string datatype 2, repeated int64 shape 3
ModelMetadataResponse: string name 1, repeated string versions 2, string platform 3,
  repeated TensorMetadata inputs 4, repeated TensorMetadata outputs 5
InferTensorContents: repeated bool bool_contents 1, repeated int32 int_contents 2,
  repeated int64 int64_contents 3, repeated uint32 uint_contents 4,
  repeated uint64 uint64_contents 5, repeated float fp32_contents 6,
  repeated double fp64_contents 7, repeated bytes bytes_contents 8
InferInputTensor: string name 1, string datatype 2, repeated int64 shape 3,
  InferTensorContents contents 5
InferRequestedOutputTensor: string name 1
ModelInferRequest: string model_name 1, string model_version 2, string id 3,
  repeated InferInputTensor inputs 5, repeated InferRequestedOutputTensor outputs 6,
  repeated bytes raw_input_contents 7
InferOutputTensor: string name 1, string datatype 2, repeated int64 shape 3
ModelInferResponse: string model_name 1, string model_version 2, string id 3,
  repeated InferOutputTensor outputs 5, repeated bytes raw_output_contents 6
"""


@cache
def messages() -> dict[str, Any]:
    """The protobuf classes of `_SCHEMA`."""
    return message_classes(_SCHEMA, package=_PACKAGE, syntax="proto3")
