"""What a plan says of the parts on the CPU, on a machine with a GPU."""

from __future__ import annotations

from backends.cuda.lowered import ROWS, outputs_of, portable
from pass_checks import build

from trine.backends.cuda.cpu_group import CpuGroup
from trine.backends.cuda.cpu_records import CpuRecorder, cpu_parts, only_cpu
from trine.backends.cuda.groups import Group
from trine.backends.cuda.lowering import lower


def groups_of(body: str, outputs: str = "float[n] y") -> list[Group]:
    proto = build("float[n,4,4] x", outputs, body, 20)
    graph, inputs, want = portable(proto)
    return lower(graph, ROWS, inputs, outputs_of(proto, want), "fp32", cpu_fallback=True).groups


def test_parts_are_timed_where_kernels_are() -> None:
    groups = groups_of("a = Relu(x)\ny = Det(a)")
    (group,) = [each for each in groups if isinstance(each, CpuGroup)]
    assert CpuRecorder().shown(group)["latency_us"] is None
    shown = CpuRecorder(timed=True).shown(group)
    assert 0 < shown["latency_us"] < 1e6
    assert (shown["kind"], shown["name"], shown["floor_us"]) == ("CPU", "CPU: y", 0.0)
    assert cpu_parts(groups) == [group.part]


def test_what_only_a_running_model_knows_is_not_timed() -> None:
    """The second step is given an array whose shape depends on values."""
    body = "c = NonZero(x)\na = Det(x)\nb = Relu(a)\nd = ReduceSum <keepdims = 0> (b)\n"
    body += (
        "e = Cast <to = 7> (d)\nf = Add(c, e)\ng = ReduceMax <keepdims = 0> (f)\nh = Cast <to = 1> (g)\ny = Add(b, h)"
    )
    last = [each for each in groups_of(body) if isinstance(each, CpuGroup)][-1]
    assert any(view.buffer.kind == "slot" for view in last.inputs)
    assert CpuRecorder(timed=True).shown(last)["latency_us"] is None


def test_whether_there_is_anything_for_the_gpu() -> None:
    assert only_cpu(groups_of("y = Det(x)"))
    assert not only_cpu(groups_of("a = Relu(x)\ny = Det(a)"))
    assert not only_cpu(groups_of("y = Identity(x)", "float[n,4,4] y")), "without a part for the CPU, the GPU copies"
