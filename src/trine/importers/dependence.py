"""Finds outputs that lost an input on the way: frozen into constants, where eager still depends on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from trine.errors import ModelImportError
from trine.importers.imported_model import Arrays

__all__ = ["check_dependence", "influences"]

# They read a tensor's shape, not its values: a path through one keeps no value alive.
_SHAPE_ONLY = {"Shape", "Size"}


def influences(model: ir.Model) -> dict[str, set[str]]:
    """For each graph output, the graph inputs whose values can reach it."""
    reached: dict[ir.Value, set[str]] = {value: {value.name or ""} for value in model.graph.inputs}
    for node in model.graph:
        inputs = set().union(*(reached.get(value, set()) for value in _reads(node)))
        if node.domain in ("", "ai.onnx") and node.op_type in _SHAPE_ONLY:
            inputs = set()
        for value in node.outputs:
            reached[value] = inputs
    return {value.name or "": reached.get(value, set()) for value in model.graph.outputs}


def _reads(node: ir.Node) -> list[ir.Value]:
    """A node's inputs, and what its subgraphs read from around it."""
    found = [value for value in node.inputs if value is not None]
    for attribute in node.attributes.values():
        graphs = []
        if attribute.type == ir.AttributeType.GRAPH:
            graphs = [attribute.as_graph()]
        elif attribute.type == ir.AttributeType.GRAPHS:
            graphs = list(attribute.as_graphs())
        for graph in graphs:
            for inner in graph:
                found.extend(_reads(inner))
            found.extend(value for value in graph.outputs)
    return found


def check_dependence(
    model: ir.Model, reference: Callable[[Mapping[str, np.ndarray]], Arrays], inputs: Arrays, hint: str = ""
) -> None:
    """Raises ModelImportError when eager's output changes with an input that the graph's output ignores.

    Only pairs with no path in the graph are tried, each input at most twice. ``hint`` ends the message.
    """
    reach = influences(model)
    suspects = {name: [out for out, seen in reach.items() if name not in seen] for name in inputs}
    if not any(suspects.values()):
        return
    base = reference(inputs)
    frozen: list[tuple[str, str]] = []
    for name, outputs in suspects.items():
        for perturbed in _perturbations(inputs[name]) if outputs else ():
            got = reference({**inputs, name: perturbed})
            frozen += [(out, name) for out in outputs if not _same(got[out], base[out])]
    if frozen:
        listed = "; ".join(f"output {out!r} on input {name!r}" for out, name in dict.fromkeys(frozen))
        raise ModelImportError(
            f"the imported graph lost a dependence that the model has: {listed}. Somewhere forward turns that "
            "input into a Python or NumPy value (.item(), .tolist(), .numpy(), int()), which tracing freezes "
            f"into a constant. Keep the computation in torch functions{hint}"
        )


def _perturbations(array: np.ndarray) -> list[np.ndarray]:
    """Other values of the same kind: the order reversed, then numbers changed, inside the range when integer."""
    flat = array.reshape(-1)
    found = [flat[::-1].reshape(array.shape)]
    if array.dtype.kind == "b":
        found.append(~array)
    elif array.dtype.kind in "iu":
        if array.size:  # stays inside the example's range: an index must remain one
            found.append((array.min() + (array.max() - array)).astype(array.dtype))
    elif array.size:
        rng = np.random.default_rng(0)
        scale = float(np.abs(np.nan_to_num(array.astype(np.float64))).max()) or 1.0
        noise = rng.uniform(0.1, 0.5, array.shape) * scale
        found.append((array.astype(np.float64) - noise).astype(array.dtype))
    return [each for each in found if not _same(each, array)]


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and bool(np.array_equal(a, b, equal_nan=a.dtype.kind not in "biuSOU"))
