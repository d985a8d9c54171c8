"""A flat module to a graph with ``torch.export`` and PyTorch's ONNX exporter, quietly, dynamic where it can be."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir
import torch
from torch.nn.modules import transformer

from trine.errors import ModelImportError, TrineError, UnsupportedError
from trine.importers import preflight
from trine.importers.decompositions import decomposed
from trine.importers.eager import plain_transformers
from trine.importers.node_spelling import respell_nodes
from trine.importers.respelling import Respelled
from trine.importers.torch_call import FlatModule

__all__ = ["OPSET", "Exported", "ValueDependenceError", "export_program", "quiet", "to_graph"]

# The first opset with Attention and RMSNormalization, which ONNX Runtime and OpenVINO both run.
OPSET = 23

# Why torch.export gave up on a value: by class name, as most of these classes are private.
_DATA_DEPENDENT = ("GuardOnDataDependentSymNode", "UserErrorType.DYNAMIC_CONTROL_FLOW", "data-dependent")


class ValueDependenceError(ModelImportError):
    """forward needs a tensor's values while it is traced; other shapes or sizes would not help."""


@dataclass(frozen=True)
class Exported:
    """What ``torch.export`` made, and the symbol of each input's dynamic dims: {input: {axis: expression}}."""

    program: torch.export.ExportedProgram
    symbols: Mapping[str, Mapping[int, str]]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hides the exporter's warnings and log lines; failures come back as exceptions, which say it better."""
    parents = [logging.getLogger(name) for name in ("torch", "onnxscript", "onnx_ir")]
    existing = [each for each in logging.Logger.manager.loggerDict.values() if isinstance(each, logging.Logger)]
    was = [(each, each.level) for each in existing if each.name.split(".")[0] in ("torch", "onnxscript", "onnx_ir")]
    try:
        for each, level in was:
            if level or each in parents:  # the others inherit, also those that do not exist yet
                each.setLevel(logging.CRITICAL + 1)
        # A failed trace prints its partial graph on stderr.
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for each, level in was:
            each.setLevel(level)


def export_program(
    flat: FlatModule, leaves: Mapping[str, torch.Tensor], dynamic: Mapping[str, Iterable[int]]
) -> Exported:
    """Traces ``flat``. ``dynamic`` lists the axes to leave open; ones that the code fixes come back fixed.

    Raises ModelImportError, naming the line of the user's model, when it cannot be traced.
    """
    auto = torch.export.Dim.AUTO
    shapes = tuple(dict.fromkeys(dynamic.get(name, ()), auto) or None for name in leaves)
    try:
        with quiet(), torch.no_grad(), plain_transformers(), _masks_unread(), preflight.whole_stacks(), Respelled():
            program = torch.export.export(flat, tuple(leaves.values()), dynamic_shapes=(shapes,), strict=False)
    except TrineError:
        raise
    except Exception as err:  # tracing runs the user's code: anything can come out of it
        raise explain(err, type(flat.module).__name__) from err
    respell_nodes(program)
    return Exported(program, _symbols(program, list(leaves), dynamic))


@contextlib.contextmanager
def _masks_unread() -> Iterator[None]:
    """Keeps ``nn.Transformer`` and its kin from comparing a mask with the causal one: that chooses a kernel, no more.

    The look at the mask's values cannot be traced. PyTorch keeps the function private: where it is gone, it stands.
    """
    looks = getattr(transformer, "_detect_is_causal_mask", None)
    if looks is None:
        yield
        return
    transformer._detect_is_causal_mask = lambda mask, is_causal=None, size=None: is_causal is True
    try:
        yield
    finally:
        transformer._detect_is_causal_mask = looks


def _symbols(
    program: torch.export.ExportedProgram, names: Sequence[str], dynamic: Mapping[str, Iterable[int]]
) -> dict[str, dict[int, str]]:
    """Which of the requested dims stayed open, with their symbolic expression ("s77", "2*s3")."""
    users = set(program.graph_signature.user_inputs)
    placeholders = [node for node in program.graph.nodes if node.op == "placeholder" and node.name in users]
    found: dict[str, dict[int, str]] = {}
    for name, node in zip(names, placeholders, strict=True):
        dims = node.meta["val"].shape
        found[name] = {
            axis: str(dims[axis].node.expr)
            for axis in dynamic.get(name, ())
            if isinstance(dims[axis], torch.SymInt) and not dims[axis].node.expr.is_number
        }
    return found


def to_graph(exported: Exported, model_name: str) -> tuple[ir.Model, tuple[str, ...]]:
    """The ONNX graph, unoptimised, at opset ``OPSET``; and the buffers that forward writes to.

    Weights stay PyTorch's memory. Raises UnsupportedError that lists every operator without a translation.
    """
    program = exported.program
    try:
        with quiet(), torch.no_grad():
            program = decomposed(program)
            made = torch.onnx.export(program, dynamo=True, opset_version=OPSET, optimize=False, verbose=False)
    except torch.onnx.OnnxExporterError as err:
        with quiet():
            unsupported = preflight.explain_unsupported(err, program, OPSET, model_name)
        raise unsupported from err
    except Exception as err:  # decompositions run thousands of PyTorch functions
        raise explain(err, model_name) from err
    if made is None or made.exported_program is None:
        raise UnsupportedError(f"{model_name}: PyTorch's exporter gave no graph")
    return made.model, tuple(made.exported_program.graph_signature.buffers_to_mutate.values())


def explain(err: BaseException, model_name: str) -> ModelImportError:
    """A tracing error in the user's words: the line of their model, why, and what to do."""
    line = preflight.user_line(err)
    at = f" at {line}" if line else ""
    text = f"{type(err).__name__}: {err}"
    if any(mark in text for mark in _DATA_DEPENDENT):
        return ValueDependenceError(
            f"{model_name} branches on the values of a tensor{at}. An engine is one fixed graph; use torch.where "
            "to choose between two results, torch.cond to choose between two branches, or move the decision "
            "out of forward"
        )
    if ".numpy()" in text or "tensor subclasses" in text:
        return ValueDependenceError(
            f"{model_name} leaves PyTorch{at}: NumPy cannot be followed into a graph, its result would be frozen. "
            "Write that part with torch functions, or give it a converter with trine.converter"
        )
    return ModelImportError(
        f"{model_name} cannot be traced{at}: {_first_lines(err)}. Rewrite that line with plain torch functions, "
        "or give the function that holds it a converter with trine.converter"
    )


def _first_lines(err: BaseException) -> str:
    """The error's own first sentence, without the exporter's advice on how to debug the exporter."""
    text = re.split(r"\n\s*\n|\nFor more information|\nThe (error above|following call)", str(err))[0]
    return " ".join(text.split())[:500].rstrip(".") or type(err).__name__
