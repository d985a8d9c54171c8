"""What the tests of passes share: small models from text, and proof that a pass changed nothing but the form."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime

from trine.passes.pipeline import DEFAULT_PASSES, PassRecord, run_passes

__all__ = ["build", "changed", "feed_for", "op_types", "optimise", "optimised", "run", "unchanged"]

_ELEMENTS = {1: np.float32, 6: np.int32, 7: np.int64, 9: np.bool_, 10: np.float16, 11: np.float64}


def build(
    inputs: str, outputs: str, body: str, opset: int = 23, functions: str = "", **constants: np.ndarray
) -> onnx.ModelProto:
    """A model from ONNX's text format; keyword arguments become initializers; shapes are inferred."""
    text = (
        f'<ir_version: 10, opset_import: ["" : {opset}, "custom" : 1]>\n'
        f"tested ({inputs}) => ({outputs})\n{{\n{body}\n}}\n{functions}"
    )
    proto = onnx.parser.parse_model(text)
    for name, array in constants.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    return onnx.shape_inference.infer_shapes(proto)


def optimise(proto: onnx.ModelProto, *passes: ir.passes.InPlacePass) -> tuple[ir.Model, list[PassRecord]]:
    """The model after these passes, or after all; checked by onnx, with the same inputs and outputs."""
    model = ir.from_proto(proto)
    records = run_passes(model, passes or DEFAULT_PASSES)
    after = ir.to_proto(model)
    onnx.checker.check_model(after, full_check=True)
    assert [value.name for value in after.graph.input] == [value.name for value in proto.graph.input]
    assert [value.name for value in after.graph.output] == [value.name for value in proto.graph.output]
    assert [v.type.tensor_type.elem_type for v in after.graph.output] == [
        v.type.tensor_type.elem_type for v in proto.graph.output
    ]
    return model, records


def run(model: onnx.ModelProto | ir.Model, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs, computed by ONNX Runtime without any optimisation of its own."""
    proto = ir.to_proto(model) if isinstance(model, ir.Model) else model
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(feed)))


def feed_for(proto: onnx.ModelProto, seed: int = 0, dynamic: int = 3) -> dict[str, np.ndarray]:
    """Standard normal inputs (small integers, coin flips); every dynamic dimension has size ``dynamic``."""
    generator = np.random.default_rng(seed)
    given = {initializer.name for initializer in proto.graph.initializer}
    feed = {}
    for value in proto.graph.input:
        if value.name in given:
            continue
        tensor = value.type.tensor_type
        shape = [dim.dim_value if dim.HasField("dim_value") else dynamic for dim in tensor.shape.dim]
        feed[value.name] = (generator.standard_normal(shape) * 2).astype(_ELEMENTS[tensor.elem_type])
    return feed


def optimised(
    proto: onnx.ModelProto, *passes: ir.passes.InPlacePass, tolerance: float = 1e-5, dynamic: int = 3
) -> ir.Model:
    """The model after these passes, once its answers are seen to be the same as before."""
    model, _ = optimise(proto, *passes)
    feed = feed_for(proto, dynamic=dynamic)
    for want, got in zip(run(proto, feed), run(model, feed), strict=True):
        assert got.dtype == want.dtype
        assert got.shape == want.shape
        scale = np.max(np.abs(want[np.isfinite(want)]), initial=1e-6) if want.dtype.kind == "f" else 1.0
        np.testing.assert_allclose(got.astype(np.float64), want.astype(np.float64), rtol=0, atol=tolerance * scale)
    return model


def changed(proto: onnx.ModelProto, *passes: ir.passes.InPlacePass) -> int:
    """How many places the last of these passes changed."""
    return optimise(proto, *passes)[1][-1].changed


def unchanged(proto: onnx.ModelProto, *passes: ir.passes.InPlacePass) -> bool:
    """Whether the last of these passes left everything as it was: its answer, and the operators."""
    before = op_types(optimise(proto, *passes[:-1])[0]) if len(passes) > 1 else op_types(ir.from_proto(proto))
    model, records = optimise(proto, *passes)
    return records[-1].changed == 0 and op_types(model) == before


def op_types(model: ir.Model) -> list[str]:
    """The operators of the main graph in order."""
    return [node.op_type for node in model.graph]
