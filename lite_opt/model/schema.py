"""Protobuf classes of messages that are written down as a table."""

from __future__ import annotations

from typing import Any

__all__ = ["message_classes"]


def message_classes(schema: str, *, package: str, syntax: str) -> dict[str, Any]:
    """The classes of a schema by name, in a pool of their own: paddle, and clients of the protocols
    that are spoken here, have theirs in the pool that all share.

    A line is a message, `Name: [label] type field number, ...`, and goes on after ",". `syntax` is
    "proto2" or "proto3".
    """
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field_types = descriptor_pb2.FieldDescriptorProto.Type
    labels = descriptor_pb2.FieldDescriptorProto.Label
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{package}.proto", package=package, syntax=syntax
    )
    for line in schema.replace(",\n", ",").strip().splitlines():
        name, _, fields = line.partition(":")
        message = file.message_type.add(name=name)
        for text in filter(None, fields.split(",")):
            *label, kind, field_name, number = text.split()
            entry = message.field.add(name=field_name, number=int(number))
            entry.label = labels.Value("LABEL_" + (label[0] if label else "optional").upper())
            if kind[0].isupper():
                entry.type, entry.type_name = (
                    field_types.Value("TYPE_MESSAGE"),
                    f".{package}.{kind}",
                )
            else:
                entry.type = field_types.Value("TYPE_" + kind.upper())
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        message.name: message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"{package}.{message.name}")
        )
        for message in file.message_type
    }
