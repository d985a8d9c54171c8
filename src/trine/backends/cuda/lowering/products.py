"""Matrix products: Gemm, MatMul and Attention."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from trine.backends.cuda.groups import Attention, Epilogue, Expr, Gemm, Pointwise, View
from trine.backends.cuda.lowering.factored import Factored, plain
from trine.backends.cuda.lowering.state import CannotLowerError, Lowering, value_name
from trine.backends.cuda.lowering.views import broadcast, memory_order, merged, permuted, reshaped

__all__ = ["lower_attention", "lower_gemm", "lower_matmul", "product"]


_ATTENTION = frozenset(
    ("is_causal", "kv_num_heads", "q_num_heads", "qk_matmul_output_mode", "scale", "softcap", "softmax_precision")
)


def lower_gemm(lowering: Lowering, node: ir.Node) -> list[View | Factored]:
    """``alpha * a @ b + beta * c``; a c of one row is the bias, another one is added by a pointwise group."""
    turned = node.attributes.get_int("transB", 0)
    weight = lowering.given(node, 1)
    assert weight is not None
    rows = None
    if node.attributes.get_int("transA", 0):
        a = permuted(lowering.view(node, 0), (1, 0))
    else:
        rows = _row_factors(lowering, node, 0, weight.shape[0 if turned else 1])
        a = lowering.view(node, 0) if rows is None else rows.base
    alpha, beta = node.attributes.get_float("alpha", 1.0), node.attributes.get_float("beta", 1.0)
    given = lowering.given(node, 1)
    if isinstance(given, np.ndarray):
        weight = given if turned else given.T
        if alpha != 1.0:
            weight = weight.astype(np.float32) * np.float32(alpha)
        b = lowering.weight(weight, value_name(node, 1))
        alpha = 1.0
    else:
        b = lowering.view(node, 1)
        b = b if turned else permuted(b, (1, 0))
    c = lowering.given(node, 2)
    epilogue = Epilogue()
    if isinstance(c, np.ndarray) and alpha == 1.0:
        vector = np.broadcast_to(c, (1 if c.ndim < 2 else c.shape[0], b.shape[0]))
        if c.ndim < 2 or c.shape[0] == 1:
            row = vector[0].astype(np.float32) * np.float32(beta)
            epilogue = Epilogue(
                lowering.weight(row if beta != 1 or c.size != row.size else c.reshape(-1), value_name(node, 2), "fp32")
            )
            c = None
    y = product(lowering, a, b, epilogue)
    if rows is not None:
        made = Factored(y, rows.counts)
        if c is None and alpha == 1.0:
            return [made]
        y = lowering.reshaped(y, made.shape)
    elif c is None and alpha == 1.0:
        return [y]
    added = c if isinstance(c, View) or c is None else lowering.weight(c, value_name(node, 2), "fp32")
    expr = Expr("mul", (Expr("input"), Expr("constant", value=alpha)))
    inputs = [y]
    if added is not None:
        expr = Expr("add", (expr, Expr("mul", (Expr("input", index=1), Expr("constant", value=beta)))))
        inputs.append(broadcast(added, y.shape))
    return [lowering.emit(Pointwise(name=lowering.name, y=lowering.new_like(y), inputs=tuple(inputs), expr=expr))]


def _row_factors(lowering: Lowering, node: ir.Node, position: int, columns: int) -> Factored | None:
    """An operand whose rows are products of axes that no stride describes, but whose inner axis is one.

    The rows of a product may stay in the order of memory: what follows may put them in order for nothing. Where it
    does not, the product is copied instead of the operand, so that this is only for products that are no wider.
    """
    tensor = lowering.tensor(node, position)
    if plain(tensor) is not None or len(tensor.counts) < 2 or tensor.counts[-1] != 1:
        return None
    return tensor if columns <= tensor.base.shape[-1] else None


def lower_matmul(lowering: Lowering, node: ir.Node) -> list[View | Factored]:
    """NumPy's matmul: batch axes broadcast, vectors are rows or columns."""
    weight = lowering.given(node, 1)
    assert weight is not None
    if isinstance(weight, np.ndarray) and weight.ndim == 2:
        rows = _row_factors(lowering, node, 0, weight.shape[1])
        if rows is not None:
            b = lowering.weight(weight.T, value_name(node, 1))
            return [Factored(product(lowering, rows.base, b, Epilogue()), rows.counts)]
    a = lowering.view(node, 0)
    if not a.shape or not weight.shape:
        raise CannotLowerError(f"operands of shapes {a.shape} and {weight.shape}")
    vector_left, vector_right = len(a.shape) == 1, len(weight.shape) == 1
    if isinstance(weight, np.ndarray):
        weight = weight[None, :] if vector_right else np.swapaxes(weight, -1, -2)
        b = lowering.weight(weight, value_name(node, 1))
    else:
        b = _as_row(weight) if vector_right else _turned(weight)
    y = product(lowering, _as_row(a) if vector_left else a, b, Epilogue())
    if vector_left:
        y = replace(y, shape=(*y.shape[:-2], y.shape[-1]), strides=(*y.strides[:-2], y.strides[-1]))
    if vector_right:
        y = replace(y, shape=y.shape[:-1], strides=y.strides[:-1])
    return [y]


def _as_row(vector: View) -> View:
    return replace(vector, shape=(1, *vector.shape), strides=(vector.elements, *vector.strides))


def product(lowering: Lowering, a: View, b: View, epilogue: Epilogue) -> View:
    """``a @ b.T``, a (..., M, K), b (..., N, K), with NumPy's broadcasting of the batch axes."""
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    rows, columns, inner = a.shape[-2], b.shape[-2], a.shape[-1]
    if inner != b.shape[-1]:
        raise CannotLowerError(f"inner sizes {inner} and {b.shape[-1]} differ")
    if len(b.shape) == 2:
        # The rows may be taken in any order: that of memory, so that they need not be copied.
        lead = [axis for axis in memory_order(a) if axis != len(a.shape) - 1]
        flat = merged(a, [lead, (len(a.shape) - 1,)])
        if flat is None and not (a.strides[-1] != 1 and a.strides[-2] == 1):
            flat = lowering.merged(a, [lead, (len(a.shape) - 1,)])
        if flat is not None and _unit(flat):
            y = lowering.new((*batch, rows, columns), order=[*lead, len(a.shape) - 1])
            out = View(y.buffer, (flat.shape[0], columns), (columns, 1))
            lowering.emit(Gemm(name=lowering.name, y=out, a=flat, b=_inner_or_outer(lowering, b), epilogue=epilogue))
            return y
    a, b = broadcast(a, (*batch, rows, inner)), broadcast(b, (*batch, columns, inner))
    if not _unit(a) and (_unit(b) or a.strides[-2] == 1) and epilogue == Epilogue():
        # a has its rows contiguous: it can be the right operand, and the result comes out turned.
        if not _unit(b):
            b = lowering.copied(b)
        return _turned(_batched(lowering, b, a, epilogue))
    return _batched(lowering, a, b, epilogue)


def _batched(lowering: Lowering, a: View, b: View, epilogue: Epilogue) -> View:
    """Operands with equal batch axes; more than two of them are merged."""
    a = a if _unit(a) else lowering.copied(a)
    b = _inner_or_outer(lowering, b)
    batch = a.shape[:-2]
    y = lowering.new((*batch, a.shape[-2], b.shape[-2]))
    out = y
    while len(out.shape) > 4:
        lead = out.shape[:-2]
        parts = [reshaped(each, (lead[0] * lead[1], *each.shape[2:])) for each in (a, b)]
        a, b = (
            part if part is not None else lowering.reshaped(each, (lead[0] * lead[1], *each.shape[2:]))
            for part, each in zip(parts, (a, b), strict=True)
        )
        merged_out = reshaped(out, (lead[0] * lead[1], *out.shape[2:]))
        assert merged_out is not None
        out = merged_out
    lowering.emit(Gemm(name=lowering.name, y=out, a=a, b=b, epilogue=epilogue))
    return y


def lower_attention(lowering: Lowering, node: ir.Node) -> list[View]:
    """The operator Attention with four axes, and the plain forms of its attributes."""
    q, k, v = (lowering.view(node, position) for position in range(3))
    if len(node.inputs) > 4 and any(each is not None for each in node.inputs[4:]):
        raise CannotLowerError("past keys and values are not supported")
    if any(output.uses() or output.is_graph_output() for output in node.outputs[1:]):
        raise CannotLowerError("only the first output is supported")
    if node.attributes.get_float("softcap", 0.0):
        raise CannotLowerError("softcap is not supported")
    unknown = sorted(set(node.attributes) - _ATTENTION)
    if unknown:  # of a later opset than is known here
        raise CannotLowerError(f"the attributes {', '.join(unknown)} are not supported")
    packed = len(q.shape) == 3
    if packed:
        q_heads, kv_heads = node.attributes.get_int("q_num_heads", 0), node.attributes.get_int("kv_num_heads", 0)
        q, k, v = (
            permuted(lowering.reshaped(each, (*each.shape[:2], heads, each.shape[2] // heads)), (0, 2, 1, 3))
            for each, heads in ((q, q_heads), (k, kv_heads), (v, kv_heads))
        )
    if not (q.shape[:2] == k.shape[:2] == v.shape[:2]):
        raise CannotLowerError(f"heads of keys {k.shape[:2]} differ from the queries' {q.shape[:2]}")
    q, k, v = (lowering.innermost_contiguous(each) for each in (q, k, v))
    batch, heads, length, size = q.shape
    scale = node.attributes.get_float("scale", 1.0 / math.sqrt(size))
    given = lowering.given(node, 3)
    bias = None
    if given is not None:
        if isinstance(given, np.ndarray) and given.dtype == bool:
            given = np.where(given, np.float32(0), np.float32(-np.inf))
        if isinstance(given, View) and given.dtype == "bool":
            raise CannotLowerError("a computed mask of booleans is not supported")
        mask = given if isinstance(given, View) else lowering.weight(given, value_name(node, 3))
        bias = broadcast(mask, (batch, heads, length, k.shape[2]))
    y = lowering.new((batch, heads, length, v.shape[3]), order=(0, 2, 1, 3))
    causal = bool(node.attributes.get_int("is_causal", 0))
    lowering.emit(Attention(name=lowering.name, y=y, q=q, k=k, v=v, scale=scale, bias=bias, causal=causal))
    if packed:
        return [lowering.reshaped(permuted(y, (0, 2, 1, 3)), (batch, length, heads * v.shape[3]))]
    return [y]


def _turned(view: View) -> View:
    axes = list(range(len(view.shape)))
    return permuted(view, [*axes[:-2], axes[-1], axes[-2]])


def _unit(view: View) -> bool:
    """Whether the last axis is contiguous."""
    return view.strides[-1] == 1 or view.shape[-1] == 1


def _inner_or_outer(lowering: Lowering, b: View) -> View:
    """b with one of its last two axes contiguous."""
    if 1 in b.strides[-2:]:
        return b
    if b.shape[-1] == 1:
        return replace(b, strides=(*b.strides[:-1], 1))
    return lowering.copied(b)
