"""The passes in the order in which they run, and what runs them."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from trine.passes.cancel_transposes import CancelTransposes
from trine.passes.canonicalise_matmul import CanonicaliseMatMul
from trine.passes.fix_reshape_targets import FixReshapeTargets
from trine.passes.fold_affine import FoldAffine
from trine.passes.fold_batch_norm import FoldBatchNorm
from trine.passes.fold_constants import FoldConstants
from trine.passes.fold_matmul_scale import FoldMatMulScale
from trine.passes.fold_norm_scale import FoldNormScale
from trine.passes.fuse_pad import FusePad
from trine.passes.inline_functions import InlineFunctions
from trine.passes.lift_constants import LiftConstants
from trine.passes.merge_common_subexpressions import MergeCommonSubexpressions
from trine.passes.merge_initializers import MergeInitializers
from trine.passes.merge_reshapes import MergeReshapes
from trine.passes.recognise_activations import RecogniseActivations
from trine.passes.recognise_attention import RecogniseAttention
from trine.passes.recognise_global_pool import RecogniseGlobalPool
from trine.passes.recognise_layer_norm import RecogniseLayerNorm
from trine.passes.recognise_rms_norm import RecogniseRmsNorm
from trine.passes.remove_dead_nodes import RemoveDeadNodes
from trine.passes.remove_identities import RemoveIdentities
from trine.passes.rewriting import Counted
from trine.passes.select_before_norm import SelectBeforeNorm
from trine.passes.spell_out_attention import SpellOutAttention

__all__ = ["DEFAULT_PASSES", "PassRecord", "run_passes"]

DEFAULT_PASSES: tuple[ir.passes.InPlacePass, ...] = (
    InlineFunctions(),  # first: no other pass looks into functions
    LiftConstants(),  # before everything that asks whether something is constant
    FoldConstants(),  # also infers the shapes that later passes rely on
    LiftConstants(),  # again: known shapes have become Constant nodes
    FixReshapeTargets(),  # after shapes are known; what computed the targets is dead then
    RemoveIdentities(),  # before patterns are matched, as identities hide them
    CancelTransposes(),
    MergeReshapes(),  # after FixReshapeTargets, which makes targets known
    RemoveDeadNodes(),  # before patterns are matched: dead users make a value look shared
    MergeInitializers(),  # before MergeCommonSubexpressions: equal constants make equal inputs
    MergeCommonSubexpressions(),  # before patterns are matched: they expect one node where x - mean is used twice
    RecogniseLayerNorm(),  # before RecogniseRmsNorm, which would take the second half of it
    RecogniseRmsNorm(),
    SelectBeforeNorm(),  # after RecogniseLayerNorm; before FoldNormScale, as the head reads the norm itself then
    RecogniseActivations(),
    RecogniseGlobalPool(),
    RecogniseAttention(),  # before FoldAffine, which might move a scale into a projection
    FusePad(),
    CanonicaliseMatMul(),  # before the two that fold into Gemm
    FoldBatchNorm(),  # before FoldAffine, which takes what follows the folded convolution
    FoldAffine(),
    FoldMatMulScale(),
    FoldNormScale(),  # after CanonicaliseMatMul, which would not see a bias that it adds
    SpellOutAttention(),  # after all that recognise: what they see is one operator until here
    CancelTransposes(),  # again: the keys' Transpose meets the one that split the heads
    RemoveDeadNodes(),  # last
)
_IR_VERSION = 10  # before 4, every initializer had to be an input too; before 8, there were no functions


@dataclass(frozen=True)
class PassRecord:
    """What one pass did: how many places it changed, and how many nodes there are after it, subgraphs included."""

    name: str
    changed: int
    nodes_after: int


def run_passes(
    model: ir.Model,
    passes: Sequence[ir.passes.InPlacePass] = DEFAULT_PASSES,
    on_pass: Callable[[str], None] | None = None,
) -> list[PassRecord]:
    """Changes ``model`` in place with each pass in turn; ``on_pass`` hears each one's name before it starts.

    Inputs and outputs keep their names, order and types. Weights are neither copied nor serialised, except those
    that a pass changes.
    """
    records = []
    model.ir_version = max(model.ir_version, _IR_VERSION)
    # Weights may hold infinities; a pass that would make new ones leaves the weights alone.
    with _quiet_libraries(), _overridable_hidden(model), np.errstate(all="ignore"):
        common.NameFixPass()(model)  # two scopes of a model may use one name; passes move values between scopes
        for each in passes:
            name = type(each).__name__
            if on_pass is not None:
                on_pass(name)
            result = each(model)
            count = result.count if isinstance(result, Counted) else int(result.modified)
            records.append(PassRecord(name, count, sum(1 for _ in ir.traversal.RecursiveGraphIterator(model.graph))))
        common.NameFixPass()(model)
    return records


@contextlib.contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Keeps the libraries' remarks about each node that they leave alone off the user's terminal."""
    loggers = [logging.getLogger(name) for name in ("onnx_ir", "onnxscript")]
    was = [each.level for each in loggers]
    try:
        for each in loggers:
            each.setLevel(logging.CRITICAL)
        yield
    finally:
        for each, level in zip(loggers, was, strict=True):
            each.setLevel(level)


@contextlib.contextmanager
def _overridable_hidden(model: ir.Model) -> Iterator[None]:
    """Hides the values of initializers that are inputs too: a caller may give others, so they are no constants."""
    graph = model.graph
    hidden = {
        name: graph.initializers[name] for name in list(graph.initializers) if graph.initializers[name].is_graph_input()
    }
    tensors = {name: value.const_value for name, value in hidden.items()}
    for name, value in hidden.items():
        del graph.initializers[name]
        value.const_value = None
    try:
        yield
    finally:
        for name, value in hidden.items():
            value.const_value = tensors[name]
            graph.initializers[name] = value
