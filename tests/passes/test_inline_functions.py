from __future__ import annotations

import onnx
import onnx.parser
import onnx_ir as ir
from pass_checks import build, op_types, optimised

from trine.passes.inline_functions import InlineFunctions
from trine.passes.pipeline import run_passes

HEAD = '<ir_version: 10, opset_import: ["" : 23, "custom" : 1]>\n'
X, Y = "float[n, 4] x", "float[n, 4] y"


def _function(name: str, body: str, opset: int = 23, attributes: str = "") -> str:
    head = f'<domain: "custom", opset_import: ["" : {opset}, "custom" : 1]>\n'
    return f"{head}{name} {attributes} (u) => (v) {{ {body} }}\n"


def test_inlines_nested_calls_with_attributes() -> None:
    functions = _function("Leak", "v = LeakyRelu<alpha: float = @slope>(u)", attributes="<slope>")
    functions += _function("Twice", "a = custom.Leak<slope = 0.3>(u)\n v = custom.Leak<slope = 0.7>(a)")
    model = optimised(build(X, Y, "y = custom.Twice(x)", functions=functions), InlineFunctions())
    assert op_types(model) == ["LeakyRelu", "LeakyRelu"]
    assert not model.functions


def test_inlines_within_branches() -> None:
    body = """
        c = ReduceSum<keepdims = 0>(x)
        t = Cast<to = 9>(c)
        y = If(t) <
            then_branch = yes () => (float[n, 4] a) { a = custom.Up(x) },
            else_branch = no () => (float[n, 4] b) { b = Neg(x) }
        >
    """
    model = optimised(build(X, Y, body, functions=_function("Up", "v = Abs(u)")), InlineFunctions())
    branch = list(model.graph)[-1].attributes["then_branch"].as_graph()
    assert [node.op_type for node in branch] == ["Abs"]


def test_inlines_functions_of_another_opset_that_means_the_same() -> None:
    proto = build(X, Y, "y = custom.Old(x)", functions=_function("Old", "v = Abs(u)", opset=14))
    assert op_types(optimised(proto, InlineFunctions())) == ["Abs"]


def test_refuses_another_opset_that_means_something_else() -> None:
    proto = build(X, Y, "y = custom.Old(x)", functions=_function("Old", "v = Dropout<ratio = 0.2>(u)", opset=11))
    model = ir.from_proto(proto)
    assert run_passes(model, (InlineFunctions(),))[0].changed == 0
    assert op_types(model) == ["Old"]


def test_refuses_a_cycle() -> None:
    functions = _function("A", "v = custom.B(u)") + _function("B", "v = custom.A(u)")
    text = f"{HEAD} g (float[n] x) => (float[n] y) {{ y = custom.A(x) }}\n{functions}"
    model = ir.from_proto(onnx.parser.parse_model(text))
    assert run_passes(model, (InlineFunctions(),))[0].changed == 0


def test_unused_functions_go() -> None:
    functions = _function("Never", "v = Abs(u)") + _function("Up", "v = Exp(u)")
    model = optimised(build(X, Y, "y = custom.Up(x)", functions=functions), InlineFunctions())
    assert not model.functions
