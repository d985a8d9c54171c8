"""What makes two groups the same work: everything but their names and where their buffers lie."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from typing import Any

from trine.backends.cuda.groups import Activation, Epilogue, Expr, Gemm, Group, Normal, Prologue, View

__all__ = ["group_signature"]


def group_signature(group: Group) -> str:
    """Equal for groups that may share a timing: 32 hexadecimal digits."""
    text = json.dumps([type(group).__name__, _described(group)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _described(node: Any) -> Any:
    if isinstance(node, View):
        return [node.dtype, node.shape, node.strides, node.offset % 8, node.buffer.kind]
    if isinstance(node, Group | Prologue | Normal | Epilogue | Activation | Expr):
        left_out = {"name"} if isinstance(node, Group) else set()  # an activation's says which it is
        if isinstance(node, Gemm) and node.normal is None:
            left_out.add("normal")  # products without it have the signature that they had before there was any
        return {each.name: _described(getattr(node, each.name)) for each in fields(node) if each.name not in left_out}
    if isinstance(node, tuple):
        return [_described(item) for item in node]
    return node
