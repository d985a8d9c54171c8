"""What is written of the nodes that the CPU computes."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from backends.cuda.lowered import answers, error
from pass_checks import build, run

from trine.backends.cuda.cpu_group import CpuGroup
from trine.backends.cuda.lowering import lower
from trine.builder.freeze import freeze, tensor_infos
from trine.runtime.cuda.plan import CpuPart

ONE = np.array(1, np.int64)


def part_of(proto: onnx.ModelProto, rows: int = 4, precision: str = "fp32") -> CpuPart:
    model = ir.from_proto(proto)
    made = lower(freeze(model), rows, *tensor_infos(model), precision, cpu_fallback=True)
    (group,) = [group for group in made.groups if isinstance(group, CpuGroup)]
    return group.part


def shapes(part: CpuPart) -> dict[str, list[int | None]]:
    """Of the inputs; None for what is open."""
    graph = onnx.load_from_string(part.model).graph
    return {
        value.name: [dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim]
        for value in graph.input
    }


def test_only_what_varies_with_the_rows_is_open() -> None:
    """Backends plan better for numbers; some operators need them."""
    body = (
        "a = Relu(x)\nt = Transpose <perm = [1, 0, 2]> (a)\nb = CumSum(t, one)\nc = Transpose <perm = [1, 0, 2]> (b)\n"
    )
    part = part_of(build("float[n,3,5] x", "float[n,3,5] y", body + "y = Tanh(c)", 20, one=ONE))
    assert shapes(part) == {"t": [3, None, 5]}
    part = part_of(build("float[2,3,5] x", "float[2,3,5] y", body + "y = Tanh(c)", 20, one=ONE), rows=1)
    assert shapes(part) == {"t": [3, 2, 5]}


def test_one_part_for_every_number_of_rows() -> None:
    proto = build("float[n,4] x", "float[n,4] y", "a = Relu(x)\nb = CumSum(a, one)\ny = Tanh(b)", 20, one=ONE)
    assert part_of(proto, 1) == part_of(proto, 8)


def test_what_is_computed_of_shapes_is_a_constant_of_the_part() -> None:
    body = "a = Relu(x)\ns = Shape(a)\nk = Gather(s, one)\nk1 = Reshape(k, m)\nb, i = TopK(a, k1)\ny = Tanh(b)"
    part = part_of(build("float[n,4] x", "float[n,4] y", body, 20, one=ONE, m=np.array([1])))
    graph = onnx.load_from_string(part.model).graph
    assert [node.op_type for node in graph.node] == ["TopK"]
    (constant,) = graph.initializer
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(constant), [4])


def test_large_constants_lie_beside_the_model() -> None:
    body = "a = Relu(x)\nb = Cast <to = 12> (a)\nc = Mul(b, u)\nd = Cast <to = 1> (c)\ny = Tanh(d)"
    u = np.ones((4, 400), np.uint32)
    part = part_of(build("float[n,4,400] x", "float[n,4,400] y", body, 20, u=u))
    ((name, dtype, shape, data),) = part.weights
    assert (name, dtype, shape, bytes(data)) == ("u", "uint32", (4, 400), u.tobytes())
    assert not onnx.load_from_string(part.model).graph.initializer


def test_types_at_the_border() -> None:
    """Kernels hold doubles as fp32; the part turns them into what its nodes want, and back."""
    body = "a = Relu(x)\nb = Cast <to = 11> (a)\nc = CumSum(b, one)\nd = Cast <to = 1> (c)\ny = Tanh(d)"
    part = part_of(build("float[n,4] x", "float[n,4] y", body, 20, one=ONE), precision="fp16")
    assert ([dtype for _, dtype in part.inputs], [dtype for _, dtype in part.outputs]) == (["float32"], ["float32"])
    graph = onnx.load_from_string(part.model).graph
    assert [node.op_type for node in graph.node] == ["Cast", "CumSum", "Cast"]


def test_a_value_for_kernels_and_for_a_later_part() -> None:
    """It leaves the part twice: to the GPU's memory, and to a slot. What only nodes of the part read stays inside."""
    body = "u = CumSum(x, one)\na = CumSum(u, one)\nb = MatMul(a, m)\n"
    body += "c = ScatterElements <axis = 1> (a, i, b)\ny = Tanh(c)"
    i = np.array([[3, 1, 0, 2]] * 2)
    proto = build("float[2,4] x", "float[2,4] y", body, 20, one=ONE, m=np.eye(4, dtype=np.float32), i=i)
    model = ir.from_proto(proto)
    made = lower(freeze(model), 1, *tensor_infos(model), "fp32", cpu_fallback=True)
    first, second = (group for group in made.groups if isinstance(group, CpuGroup))
    assert [name for name, _ in first.part.outputs] == ["a", "a/copy_1"]
    assert [view.buffer.kind for view in first.outputs] == ["arena", "slot"]
    assert {view.buffer.kind for view in second.inputs} == {"arena", "slot"}
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    assert error(answers(made, [x])[0], run(proto, {"x": x})[0]) <= 2e-6
