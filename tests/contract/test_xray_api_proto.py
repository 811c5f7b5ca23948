"""The generated messages of Xray's API match their .proto file."""

from importlib.resources import files
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc  # type: ignore[import-untyped]  # It brings no types.

from vpn_provisioner.panels.xray import xray_api_pb2


def test_generated_messages_match_the_proto_file(tmp_path: Path) -> None:
    """By content and not by text: each release of protoc writes another text."""
    proto = Path(str(files("vpn_provisioner").joinpath("panels/xray/xray_api.proto")))
    compiled = tmp_path / "compiled"
    assert (
        protoc.main(
            ["protoc", f"-I{proto.parents[3]}", f"--descriptor_set_out={compiled}", str(proto)]
        )
        == 0
    )
    (fresh,) = FileDescriptorSet.FromString(compiled.read_bytes()).file
    committed = FileDescriptorProto()
    xray_api_pb2.DESCRIPTOR.CopyToProto(committed)
    for message in fresh.message_type:
        for field in message.field:
            field.ClearField("json_name")
    assert committed == fresh
