"""What an ONNX model may use: opsets, domains, operators, kinds of values. All problems are reported at once."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import onnx
import onnx.defs
import onnx.inliner

from trine.dtypes import DataType
from trine.errors import ConfigError, UnsupportedError
from trine.importers.onnx_proto import all_graphs, all_nodes

__all__ = ["OLDEST_OPSET", "check_support", "expand_preview_operators"]

OLDEST_OPSET = 6  # 7 and newer are taken as they are; 6 only where its conversion is exact, see onnx_opset
_MOST_SHOWN = 20


def check_support(model: onnx.ModelProto, what: str) -> None:
    """Raise UnsupportedError, listing every reason, when nothing installed here could import the model."""
    problems = [
        *_opset_problems(model),
        *_operator_problems(model),
        *_random_problems(model),
        *_kind_problems(model),
    ]
    if problems:
        shown = problems[:_MOST_SHOWN]
        if len(problems) > len(shown):
            shown.append(f"... and {len(problems) - len(shown)} more")
        raise UnsupportedError(f"{what} cannot be imported:\n  " + "\n  ".join(shown), problems)


def expand_preview_operators(model: onnx.ModelProto) -> onnx.ModelProto:
    """ONNX's preview operators (FlexAttention) written out by ONNX's own definition; no backend has kernels for them.

    ``model`` itself where there are none, or none that ONNX defines by others.
    """
    preview = {(node.domain, node.op_type) for node in all_nodes(model) if node.domain.startswith("ai.onnx.preview")}
    if not preview:
        return model
    expanded: onnx.ModelProto = onnx.inliner.inline_selected_functions(
        model, sorted(preview), inline_schema_functions=True
    )
    return expanded


def _opset_problems(model: onnx.ModelProto) -> Iterator[str]:
    newest = onnx.defs.onnx_opset_version()
    if model.ir_version > onnx.IR_VERSION:
        yield (
            f"it has ONNX IR version {model.ir_version}; onnx {onnx.__version__} knows up to {onnx.IR_VERSION}. "
            "Upgrade it (pip install --upgrade onnx), or export with an older ir_version"
        )
    opsets = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    for domain in sorted({node.domain or "ai.onnx" for node in all_nodes(model)} - set(opsets)):
        if not (domain == "ai.onnx" and model.ir_version < 3):
            yield f"its nodes use the domain {domain}, but it imports no opset of that domain"
    opset = opsets.get("ai.onnx", 1 if model.ir_version < 3 else newest)
    if opset < OLDEST_OPSET:
        yield (
            f"it has opset {opset}; supported: 7 to {newest}. "
            "Convert it: onnx.version_converter.convert_version(model, 13), and check its answers"
        )
    if opset > newest:
        yield (
            f"it has opset {opset}; onnx {onnx.__version__} knows up to {newest}. "
            "Upgrade it (pip install --upgrade onnx), or export with an older opset"
        )


def _operator_problems(model: onnx.ModelProto) -> Iterator[str]:
    """Operators that neither ONNX, ONNX Runtime nor the model itself defines: every node that uses one."""
    own = {(function.domain, function.name) for function in model.functions}
    for node in all_nodes(model):
        domain = "" if node.domain == "ai.onnx" else node.domain
        if (node.domain, node.op_type) in own or (domain, node.op_type) in _known_operators():
            continue
        where = f"node {node.name or (node.output[0] if node.output else '')!r}"
        known = domain in {name for name, _ in _known_operators()}
        reason = "no such operator in that domain" if known else "nothing installed here knows that domain"
        yield f"{where}: operator {domain or 'ai.onnx'}::{node.op_type}: {reason}"


_RANDOM = ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")


def _random_problems(model: onnx.ModelProto) -> Iterator[str]:
    """An engine that draws random numbers cannot be compared with its source: each call answers otherwise."""
    for node in all_nodes(model):
        if node.op_type in _RANDOM and node.domain in ("", "ai.onnx"):
            where = f"node {node.name or node.output[0]!r}"
            yield f"{where}: operator {node.op_type} draws random numbers; draw them outside and give them as an input"


@functools.cache
def _known_operators() -> frozenset[tuple[str, str]]:
    known = {(schema.domain, schema.name) for schema in onnx.defs.get_all_schemas_with_history()}
    try:
        from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema
    except ImportError:  # a build without ONNX Runtime, or one compiled without this call
        return frozenset(known)
    return frozenset(known | {(schema.domain, schema.name) for schema in get_all_operator_schema()})


def _kind_problems(model: onnx.ModelProto) -> Iterator[str]:
    if model.training_info:
        yield "it holds training information; export it for inference, or delete model.training_info"
    for graph in all_graphs(model):
        for sparse in graph.sparse_initializer:
            yield f"weight {sparse.values.name!r} is sparse; export it as a dense tensor"
    given = {tensor.name for tensor in model.graph.initializer}
    for kind, values in (("input", model.graph.input), ("output", model.graph.output)):
        for value in values:
            if kind == "input" and value.name in given:
                continue
            which = value.type.WhichOneof("value")
            if which is not None and which != "tensor_type":
                named = which.removesuffix("_type").replace("_", " ")
                yield (
                    f"{kind} {value.name!r} is {'an' if named[0] in 'aeiou' else 'a'} {named}; engines take and "
                    "give tensors. Change the model to use tensors there"
                )
            elif which == "tensor_type":
                yield from _element_problems(kind, value)


def _element_problems(kind: str, value: onnx.ValueInfoProto) -> Iterator[str]:
    number = value.type.tensor_type.elem_type
    if kind == "output" and number == onnx.TensorProto.UNDEFINED:
        return  # shape inference may still find it
    try:
        DataType.from_onnx(number)
    except ConfigError:
        name = onnx.TensorProto.DataType.Name(number) if number in onnx.TensorProto.DataType.values() else number
        yield f"{kind} {value.name!r} has element type {name}, which trine does not know"
