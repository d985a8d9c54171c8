"""Batches for the GPU and the CPU in turns: few of them, and nothing before what it reads."""

from __future__ import annotations

import itertools

import onnx_ir as ir
from hypothesis import given, settings
from hypothesis import strategies as st

from trine.backends.cuda.lowering.schedule import Dataflow


def flow_of(body: str, inputs: str = "float[4] x") -> Dataflow:
    return Dataflow(
        ir.from_onnx_text(
            f'<ir_version: 10, opset_import: ["" : 20]>\ng ({inputs}) => (float[4] y) {{\n{body}\n}}'
        ).graph
    )


def batches(flow: Dataflow, *on_cpu: str) -> list[str]:
    """As text: a capital for the CPU, and the names of what each batch makes."""
    chosen = {node for node in flow.nodes if node.outputs[0].name in on_cpu}
    return [
        f"{'C' if cpu else 'G'}: {' '.join(str(node.outputs[0].name) for node in nodes)}"
        for cpu, nodes in flow.batches(chosen)
    ]


def test_without_the_cpu_the_graph_keeps_its_order() -> None:
    flow = flow_of("a = Neg(x)\nb = Abs(x)\nc = Add(a, b)\ny = Neg(c)")
    assert batches(flow) == ["G: a b c y"]


def test_branches_leave_the_gpu_together() -> None:
    """Whatever the order in which the graph has them."""
    flow = flow_of("a = Neg(x)\np = Abs(a)\nb = Neg(p)\nq = Abs(x)\nc = Neg(q)\ny = Add(b, c)")
    assert batches(flow, "p", "q") == ["G: a", "C: p q", "G: b c y"]


def test_what_needs_no_answer_of_the_cpu_runs_before_it() -> None:
    flow = flow_of("p = Abs(x)\na = Neg(x)\nb = Neg(a)\ny = Add(p, b)")
    assert batches(flow, "p") == ["G: a b", "C: p", "G: y"]


def test_in_turns_where_it_must_be() -> None:
    flow = flow_of("p = Abs(x)\na = Neg(p)\nq = Add(p, a)\ny = Neg(q)")
    assert batches(flow, "p", "q") == ["C: p", "G: a", "C: q", "G: y"]


def test_inner_graphs_read_too() -> None:
    flow = flow_of(
        "a = Neg(x)\nb = Abs(x)\n"
        "y = If (q) <then_branch = t () => (float[4] c) { c = Abs(a) }, else_branch = e () => (float[4] d) "
        "{ d = If (q) <then_branch = s () => (float[4] f) { f = Neg(b) }, "
        "else_branch = r () => (float[4] h) { h = Neg(a) }> }>",
        "float[4] x, bool q",
    )
    (last,) = [node for node in flow.nodes if node.op_type == "If"]
    assert {value.name for value in flow.reads[last]} == {"q", "a", "b"}
    assert {value.name for value in flow.readers} == {"x", "q", "a", "b"}
    assert batches(flow, "a", "b") == ["C: a b", "G: y"]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_random_graphs(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 12))
    names = ["x"]
    lines = []
    for index in range(count):
        name = "y" if index == count - 1 else f"v{index}"
        lines.append(f"{name} = Add({data.draw(st.sampled_from(names))}, {data.draw(st.sampled_from(names))})")
        names.append(name)
    flow = flow_of("\n".join(lines))
    on_cpu = {node for node in flow.nodes if data.draw(st.booleans())}
    found = flow.batches(on_cpu)
    order = [node for _, nodes in found for node in nodes]
    assert sorted(map(id, order)) == sorted(map(id, flow.nodes))
    assert all((node in on_cpu) is cpu for cpu, nodes in found for node in nodes)
    assert all(first[0] is not second[0] for first, second in itertools.pairwise(found))
    done: set[ir.Node] = set()
    for node in order:
        assert all(value.producer() is None or value.producer() in done for value in flow.reads[node])
        done.add(node)
    # No order has fewer turns: the longest chain of changes of side needs as many.
    turns: dict[ir.Node, int] = {}
    for node in flow.nodes:
        made = [value.producer() for value in flow.reads[node]]
        turns[node] = max(
            (turns[p] + ((p in on_cpu) is not (node in on_cpu)) for p in made if p is not None), default=0
        )
    assert len(found) <= max(turns.values()) + 2
