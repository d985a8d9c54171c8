"""What a file that is no engine seems to be, and what to do with it."""

from __future__ import annotations

__all__ = ["what_it_is"]

_BUILD = 'build an engine from it first: trine.build(...) or "trine build"'
_CHECKPOINT = f"a PyTorch checkpoint; load it in PyTorch, then {_BUILD}"
_STARTS = (
    (b"PK\x03\x04", f"a zip archive, perhaps {_CHECKPOINT}"),
    (b"\x80\x02", f"a Python pickle, perhaps {_CHECKPOINT}"),
    (b"\x80\x03", f"a Python pickle, perhaps {_CHECKPOINT}"),
    (b"\x80\x04", f"a Python pickle, perhaps {_CHECKPOINT}"),
    (b"\x80\x05", f"a Python pickle, perhaps {_CHECKPOINT}"),
    (b"\x1f\x8b", "a gzip file; unpack it first"),
    (b"\x89HDF", "an HDF5 file; export the model to ONNX and build an engine from that"),
    (b"<?xml", "an XML file, perhaps OpenVINO's; give trine.build the ONNX model that it was made from"),
    (b"ptrt", "a TensorRT engine; load it with TensorRT, or build an engine from its ONNX model"),
    (b"ftrt", "a TensorRT engine; load it with TensorRT, or build an engine from its ONNX model"),
)


def what_it_is(start: bytes) -> str | None:
    """What a file whose first bytes are ``start`` (16 or more) looks like and what to do; None if unknown."""
    for magic, kind in _STARTS:
        if start.startswith(magic):
            return kind
    # ModelProto: field 1, ir_version, is small; then producer_name, opset_import, graph or another field.
    if len(start) > 2 and start[0] == 0x08 and 1 <= start[1] < 64 and start[2] in b"\x12\x1a\x22\x28\x32\x3a\x42":
        return f"an ONNX model; {_BUILD}"
    if len(start) > 8 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 2**32:
        return f"a safetensors file, which holds weights but no model; load it in PyTorch, then {_BUILD}"
    return None
