"""Proves authz/envoy/ext_authz_pb2.py: generated from protos/, and the same on the wire as Envoy's own definition."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import Default, DescriptorPool

from authz.envoy import ext_authz_pb2
from tests import tools
from tests.unit.envoy import official


def test_generated_code_is_current(tmp_path: Path) -> None:
    """The compiler, run again, writes the files that are checked in."""
    command = f"-m grpc_tools.protoc -I authz/envoy=protos --python_out={tmp_path} --pyi_out={tmp_path}"
    subprocess.run([sys.executable, *command.split(), "authz/envoy/ext_authz.proto"], cwd=tools.ROOT, check=True)
    for name in ("ext_authz_pb2.py", "ext_authz_pb2.pyi"):
        assert (tools.ROOT / "authz/envoy" / name).read_text() == (tmp_path / "authz/envoy" / name).read_text(), (
            "run `make proto`"
        )


@pytest.mark.needs("xds-protos")
def test_same_wire_as_the_official_definition() -> None:
    """Every field of ours is officially there, under its number and type, and bytes of either side read the same."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.envoy.official", str(tools.find("xds-protos"))],
        cwd=tools.ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    messages = list(official.all_messages(ext_authz_pb2.DESCRIPTOR.message_types_by_name.values()))
    fields = sum(len(message.fields) for message in messages)
    assert (done.stdout, done.returncode) == (f"{len(messages)} messages, {fields} fields\n", 0), done.stderr


def differences_after(change: str) -> list[str]:
    """Compare HeaderValueOption with a copy of it that has one *change*."""
    file = FileDescriptorProto()
    ext_authz_pb2.DESCRIPTOR.CopyToProto(file)
    option = next(message for message in file.message_type if message.name == "HeaderValueOption")
    field = option.field[3]
    match change:
        case "number":
            field.number = 9
        case "type":
            field.type = FieldDescriptorProto.TYPE_UINT32
        case "label":
            field.label = FieldDescriptorProto.LABEL_REPEATED
        case "name":
            field.name = "elsewhere"
        case "message":
            option.field[0].type_name = ".authz.wire.QueryParameter"
        case "enum":
            option.enum_type[0].value[2].number = 7
        case "oneof":
            option.oneof_decl.add(name="one")
            field.oneof_index = 0
        case _:
            pass
    pool = DescriptorPool()
    for dependency in file.dependency:
        pool.AddSerializedFile(Default().FindFileByName(dependency).serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    ours, copy = (each.FindMessageTypeByName("authz.wire.HeaderValueOption") for each in (Default(), pool))
    return list(official.message_differences(ours, copy, name_of=str))


@pytest.mark.parametrize("change", ["number", "type", "label", "name", "message", "enum", "oneof"])
def test_comparison_sees_a_change(change: str) -> None:
    """The comparison with the official definition is not blind: one changed property of a field is a difference."""
    assert differences_after("nothing") == []
    assert differences_after(change) != []


def test_any_status_code_can_be_sent() -> None:
    """A status code that Envoy's enum does not name is written and read as it is."""
    status = ext_authz_pb2.HttpStatus(code=451)
    assert status.SerializeToString() == b"\x08\xc3\x03"
    assert ext_authz_pb2.HttpStatus.FromString(b"\x08\xc3\x03").code == 451
