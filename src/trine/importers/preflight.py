"""Names every operator of a traced model that has no translation, with the line of the user's source."""

from __future__ import annotations

import contextlib
import linecache
import os
import re
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.fx.proxy import TracerBase

from trine.errors import ModelImportError, UnsupportedError

__all__ = ["deepest_line", "explain_unsupported", "unsupported_operators", "user_line", "whole_stacks"]

_TORCH = str(Path(torch.__file__).parent) + os.sep
_TRINE = str(Path(__file__).parents[1]) + os.sep
_GENERATED = ("<string>", "<frozen", "<eval_with_key>")  # a notebook's "<ipython-input-3>" is the user's
_FRAME = re.compile(r'File "(?P<file>.+?)", line (?P<line>\d+), in (?P<function>\S+)')


def user_line(err: BaseException) -> str:
    """The deepest line of the user's model on the way to ``err``, as "file:line: code"; "" when there is none."""
    for each in _chain(err):
        frames = [(f.filename, f.lineno or 0) for f in traceback.extract_tb(each.__traceback__)]
        if line := deepest_line(frames):
            return line
    return ""


def _chain(err: BaseException) -> Iterator[BaseException]:
    """``err`` and what caused it, innermost first."""
    found: list[BaseException] = []
    current: BaseException | None = err
    while current is not None and current not in found:
        found.append(current)
        current = current.__cause__ or current.__context__
    return reversed(found)


def deepest_line(frames: Iterable[tuple[str, int]]) -> str:
    """The last frame that is neither PyTorch's nor ours; else the last of torch.nn; else ""."""
    own = [frame for frame in frames if not frame[0].startswith((_TRINE, *_GENERATED))]
    users = [frame for frame in own if not frame[0].startswith(_TORCH)]
    candidates = users or [frame for frame in own if "/torch/nn/" in frame[0].replace("\\", "/")]
    return _spell(*candidates[-1]) if candidates else ""


def _spell(file: str, line: int) -> str:
    code = linecache.getline(file, line).strip()
    return f"{file}:{line}: {code}" if code else f"{file}:{line}"


def node_line(node: torch.fx.Node) -> str:
    """The line of the user's source that ``node`` comes from; "" when the exporter kept none."""
    text = node.meta.get("stack_trace") or ""
    return deepest_line([(match["file"], int(match["line"])) for match in _FRAME.finditer(text)])


@contextlib.contextmanager
def whole_stacks() -> Iterator[None]:
    """While open, traced nodes remember every frame, not those called ``forward`` alone.

    PyTorch keeps this filter private: where it is gone, lines are those of the nearest forward.
    """
    original = getattr(TracerBase, "_filter_traceback_frames", None)
    if original is None:
        yield
        return
    TracerBase._filter_traceback_frames = lambda self, frames: frames  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        TracerBase._filter_traceback_frames = original  # type: ignore[method-assign]


def unsupported_operators(program: torch.export.ExportedProgram, opset: int) -> list[str]:
    """One line for each operator of ``program`` that the exporter cannot translate, in the order of the graph.

    Lists what ``torch.onnx.export`` would stop at one at a time. Reads the exporter's registry, which PyTorch
    keeps private and has moved before: without it, [] and the exporter's own first error stands. So it does where
    writing operators with others fails, which may be why the exporter failed.
    """
    try:
        from torch.onnx._internal.exporter import _dispatching, _fx_passes, _registration

        registry = _registration.ONNXRegistry.from_torchlib(opset)
        decomposed = _fx_passes.decompose_with_registry(program, registry)
        dispatch = _dispatching.dispatch
    except Exception:  # noqa: BLE001  # PyTorch's decompositions raise what they like; the caller has the first error
        return []
    problems: dict[str, None] = {}
    for graph_module in decomposed.graph_module.modules():
        if not isinstance(graph_module, torch.fx.GraphModule):
            continue
        for node in graph_module.graph.nodes:
            if _needs_translation(node) and dispatch(node, registry)[0] is None:
                problems[_problem(node)] = None
    return list(problems)


def _needs_translation(node: torch.fx.Node) -> bool:
    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
        return False
    # ONNX operators spelled in PyTorch, and checks that the exporter drops.
    return node.target.namespace not in ("onnx", "onnx_symbolic") and "assert" not in str(node.target)


def _problem(node: torch.fx.Node) -> str:
    complex_ = any(_is_complex(value.meta.get("val")) for value in [node, *node.all_input_nodes])
    line = node_line(node)
    return f"{node.target}{' on complex numbers' if complex_ else ''}{f' at {line}' if line else ''}"


def _is_complex(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_complex()


def explain_unsupported(
    err: Exception, program: torch.export.ExportedProgram, opset: int, model_name: str
) -> ModelImportError:
    """The exporter's failure as an UnsupportedError that lists every such operator."""
    problems = unsupported_operators(program, opset)
    if not problems:
        problems = [_single(err, program)]
    listed = "\n".join(f"  {problem}" for problem in problems)
    return UnsupportedError(
        f"{model_name} uses {len(problems)} operator(s) that cannot be imported:\n{listed}\n"
        "Write them with other torch functions, or give the function around them a converter with "
        "trine.converter",
        problems,
    )


def _single(err: Exception, program: torch.export.ExportedProgram) -> str:
    """The one operator whose translation failed, from the exporter's chain of errors."""
    reasons = list(_chain(err))
    reason = next((text for each in reasons if (text := " ".join(str(each).split())[:300])), type(reasons[0]).__name__)
    for each in reasons:
        if match := re.search(r"translating node %(\S+) .*?target=([\w.]+)", str(each)):
            line = next((node_line(n) for n in program.graph.nodes if n.name == match[1]), "")
            return f"{match[2]}{f' at {line}' if line else ''}: {reason}"
    return reason
