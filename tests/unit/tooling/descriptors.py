"""Envoy's own message definitions, out of the Envoy that the tests run: each protobuf program holds its descriptors."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto

_NAME: Final = 1  # field of FileDescriptorProto: the file's path
_SYNTAX: Final = 12  # the last field that protoc writes of a proto3 file
_LENGTH_DELIMITED: Final = 2


def read_file(envoy: Path, name: str) -> FileDescriptorProto:
    """Return the descriptor of the file *name*, `envoy/.../x.proto`. Raises LookupError if *envoy* does not hold it."""
    begin = bytes([_NAME << 3 | _LENGTH_DELIMITED, len(name)]) + name.encode() + b"\x12"
    with envoy.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as program:
        start = program.find(begin)
        if start < 0:
            raise LookupError(name)
        return FileDescriptorProto.FromString(program[start : _end(program, start)])


def messages(file: FileDescriptorProto) -> dict[str, set[str]]:
    """Return the names of the fields of each message in *file*, by the message's full name."""
    return dict(_fields(file.package, list(file.message_type)))


def _fields(package: str, found: list[DescriptorProto]) -> Iterator[tuple[str, set[str]]]:
    for message in found:
        name = f"{package}.{message.name}"
        yield name, {field.name for field in message.field}
        yield from _fields(name, list(message.nested_type))


def _end(program: mmap.mmap, at: int) -> int:
    """Return where the message that begins at *at* ends: behind its field `syntax`."""
    while True:
        tag, at = _varint(program, at)
        length, at = _varint(program, at)  # of each field that protoc writes here, the dependency lists aside
        if tag & 7 == _LENGTH_DELIMITED:
            at += length
        if tag >> 3 == _SYNTAX:
            return at


def _varint(program: mmap.mmap, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = program[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at
