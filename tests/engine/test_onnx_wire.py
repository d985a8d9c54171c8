"""The hand-written messages, read by the real onnx package; and the check for outside references."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from engine_samples import onnx_model, sample_graph
from onnx import TensorProto, helper, numpy_helper

from trine.engine.onnx_wire import (
    check_self_contained,
    external_tensor,
    model_with_initializers,
    raw_tensor,
    varint,
)


@pytest.mark.parametrize(("value", "wanted"), [(0, b"\0"), (127, b"\x7f"), (128, b"\x80\x01"), (300, b"\xac\x02")])
def test_varint(value: int, wanted: bytes) -> None:
    assert varint(value) == wanted


def test_raw_tensor_is_what_onnx_reads() -> None:
    array = np.arange(6, dtype=np.int64).reshape(2, 3)
    parts = raw_tensor("größe", TensorProto.INT64, array.shape, memoryview(array.tobytes()))
    tensor = TensorProto.FromString(b"".join(parts))
    assert tensor.name == "größe"
    np.testing.assert_array_equal(numpy_helper.to_array(tensor), array)


def test_a_scalar_and_a_dimension_above_32_bits() -> None:
    scalar = TensorProto.FromString(b"".join(raw_tensor("s", 1, (), memoryview(bytes(4)))))
    assert list(scalar.dims) == []
    huge = TensorProto.FromString(b"".join(external_tensor("h", 1, (2**40, 0), "weights", 2**45, 0)))
    assert list(huge.dims) == [2**40, 0]
    assert {e.key: e.value for e in huge.external_data} == {
        "location": "weights",
        "offset": str(2**45),
        "length": "0",
    }
    assert huge.data_location == TensorProto.EXTERNAL


def test_initializers_are_merged_into_the_graph() -> None:
    graph = sample_graph()
    merged = onnx.load_from_string(
        model_with_initializers(
            graph.model,
            [raw_tensor(name, 1, (2,), memoryview(bytes(8))) for name in ("w1", "w2")],
        )
    )
    plain = onnx.load_from_string(graph.model)
    assert [tensor.name for tensor in merged.graph.initializer] == ["b", "w1", "w2"]
    assert merged.graph.node == plain.graph.node
    assert merged.opset_import == plain.opset_import


def test_without_tensors_nothing_changes() -> None:
    assert model_with_initializers(b"abc", []) == b"abc"


def _external(location: str = "/etc/passwd") -> TensorProto:
    tensor = TensorProto(name="w", data_type=1, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


def _constant(tensor: TensorProto) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["c"], value=tensor)


def _in_subgraph() -> bytes:
    body = helper.make_graph([_constant(_external())], "body", [], [helper.make_tensor_value_info("c", 1, [4])])
    return onnx_model([helper.make_node("If", ["x"], ["y"], then_branch=body, else_branch=body)], [])


def _in_function() -> bytes:
    model = onnx.load_from_string(sample_graph().model)
    model.functions.append(
        helper.make_function("own", "F", [], ["c"], [_constant(_external())], [helper.make_opsetid("", 21)])
    )
    return model.SerializeToString()


def _in_sparse() -> bytes:
    model = onnx.load_from_string(sample_graph().model)
    model.graph.sparse_initializer.add(values=_external(), dims=[9])
    return model.SerializeToString()


def _only_the_location_field() -> bytes:
    tensor = TensorProto(name="w", data_type=1, dims=[4], data_location=TensorProto.EXTERNAL)
    return onnx_model([], [tensor])


HIDING_PLACES = {
    "initializer": lambda: onnx_model([], [_external()]),
    "memory address": lambda: onnx_model([], [_external("*/_ORT_MEM_ADDR_/*")]),
    "constant node": lambda: onnx_model([_constant(_external())], []),
    "list attribute": lambda: onnx_model([helper.make_node("F", [], ["c"], values=[_external()])], []),
    "subgraph": _in_subgraph,
    "function": _in_function,
    "sparse initializer": _in_sparse,
    "only data_location": _only_the_location_field,
    # The tag of data_location in two bytes, as no encoder writes it but every decoder reads it.
    "overlong tag": lambda: b"\x3a\x07\x2a\x05\x42\x00\xf0\x00\x01",
    "second graph field": lambda: model_with_initializers(
        sample_graph().model, [external_tensor("w", 1, (4,), "/etc/passwd", 0, 16)]
    ),
}


@pytest.mark.parametrize("place", HIDING_PLACES)
def test_external_data_is_found_wherever_it_is(place: str) -> None:
    with pytest.raises(ValueError, match="external data"):
        check_self_contained(HIDING_PLACES[place]())


def test_sound_models_pass() -> None:
    check_self_contained(sample_graph().model)
    check_self_contained(sample_graph().inline())
    check_self_contained(b"")


def test_explicit_default_location_passes() -> None:
    tensor = helper.make_tensor("w", 1, [1], [2.0])
    tensor.data_location = TensorProto.DEFAULT
    check_self_contained(onnx_model([], [tensor]))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x3a\x05abc", "5 bytes long, but 3 are left"),
        (b"\x3a", "cut short"),
        (b"\x08", "cut short"),
        (b"\x08" + b"\xff" * 11, "too long"),
        (b"\x3b", "wire type 3"),
        (b"\x0d\0\0", "cut short"),
        (b"\x09\0\0\0\0", "cut short"),
        (b"\x00\x00", "impossible field"),
        (b"\xf0\x80\x80\x80\x10\x01", "impossible field"),  # a C++ decoder would cut this tag to 0x70
        (b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "are left"),
    ],
)
def test_malformed_bytes_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_self_contained(data)


def test_every_truncation_of_a_model_ends() -> None:
    model = sample_graph().model
    for length in range(len(model)):
        try:
            check_self_contained(model[:length])
        except ValueError:
            continue


def test_endless_nesting_is_refused() -> None:
    message = b""
    for _ in range(300):  # node { attribute { g { ... } } }
        attribute = b"\x32" + varint(len(message)) + message
        node = b"\x2a" + varint(len(attribute)) + attribute
        message = b"\x0a" + varint(len(node)) + node
    with pytest.raises(ValueError, match="nested more than 200 deep"):
        check_self_contained(b"\x3a" + varint(len(message)) + message)
