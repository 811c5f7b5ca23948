"""The generated messages of Xray's API are what their .proto file says."""

from importlib.resources import files
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc  # type: ignore[import-untyped]  # It brings no types.

from vpn_provisioner.panels import xray_api_pb2


def test_generated_messages_match_the_proto_file(tmp_path: Path) -> None:
    """Compared by content, not text: each release of protoc writes another."""
    proto = Path(str(files("vpn_provisioner").joinpath("panels/xray_api.proto")))
    compiled = tmp_path / "compiled"
    assert protoc.main(["protoc", f"-I{proto.parents[2]}", f"--descriptor_set_out={compiled}", str(proto)]) == 0
    (fresh,) = FileDescriptorSet.FromString(compiled.read_bytes()).file
    committed = FileDescriptorProto()
    xray_api_pb2.DESCRIPTOR.CopyToProto(committed)
    for message in fresh.message_type:
        for field in message.field:
            field.ClearField("json_name")
    assert committed == fresh
