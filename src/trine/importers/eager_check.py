"""Compares an imported graph with the eager module, before any pass touches it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from trine.dtypes import DataType
from trine.engine.manifest import TensorInfo
from trine.errors import InputError, ModelImportError, UnsupportedError
from trine.importers.eager import EagerModel
from trine.importers.graph_runner import GraphRunner
from trine.importers.imported_model import Arrays
from trine.verify.inputs import random_inputs
from trine.verify.metrics import measure
from trine.verify.tolerances import INTEGER_SHARE, budget_for, source_budget

__all__ = ["check_against_eager"]

log = logging.getLogger("trine")

_SEED = 20_240

# Each layer rounds anew, where a nudged input is rounded once: errors of 100 layers add up like a random walk.
_ROUNDINGS = 10


def check_against_eager(
    model: ir.Model,
    reference: EagerModel,
    infos: Sequence[TensorInfo],
    examples: Arrays,
    model_name: str,
    hint: str = "",
) -> None:
    """Compares on the example, and on seeded random inputs in which every dynamic dim has another size.

    Raises ModelImportError with the worst output, or with the reason why the check itself could not run.
    """
    runner, budget = GraphRunner(model), _budget(model)
    _compare(runner, reference, examples, "the example inputs", budget, model_name, hint)
    other = _other_inputs(reference, infos, examples)
    sizes = ", ".join(f"{name} {tuple(array.shape)}" for name, array in other.items())
    _compare(runner, reference, other, f"random inputs ({sizes})", budget, model_name, hint)


def _other_inputs(reference: EagerModel, infos: Sequence[TensorInfo], examples: Arrays) -> Arrays:
    """Random inputs whose dynamic dims differ from the example's, in sizes that the module itself accepts."""
    symbols = {
        str(dim): examples[info.name].shape[axis]
        for info in infos
        for axis, dim in enumerate(info.shape)
        if isinstance(dim, str)
    }
    # A batch takes any size; a height may have to be a multiple of some stride, hence the doubling.
    for change in (_another, lambda size: 2 * size):
        sizes = {name: change(size) if name != "batch" else _another(size) for name, size in symbols.items()}
        shapes = {
            info.name: tuple(
                sizes[dim] if isinstance(dim, str) else examples[info.name].shape[axis]
                for axis, dim in enumerate(info.shape)
            )
            for info in infos
        }
        inputs = random_inputs(infos, shapes, _SEED, examples)
        if set(symbols) <= {"batch"}:
            return inputs
        try:
            reference(inputs)
        except Exception:  # noqa: BLE001  # the module refuses this size, in its own words; try the next
            continue
        return inputs
    shapes = {name: array.shape for name, array in examples.items()}
    return random_inputs(infos, shapes, _SEED, examples)


def _another(size: int) -> int:
    """A different size, not 1 or 2, at which traces specialise."""
    return 3 if size < 3 else 2 if size > 4 else size + 1


def _compare(
    runner: GraphRunner,
    reference: EagerModel,
    inputs: Mapping[str, np.ndarray],
    case: str,
    budget: float,
    model_name: str,
    hint: str,
) -> None:
    try:
        want = reference(inputs)
    except InputError as err:
        raise ModelImportError(f"{case}: {err}") from err
    try:
        got = runner(inputs)
    except UnsupportedError as err:
        raise UnsupportedError(f"{model_name}: {err}{hint}", err.problems) from err
    for name, expected in want.items():
        actual = got[name]
        if actual.shape != expected.shape or actual.dtype != expected.dtype:
            raise ModelImportError(
                f"{model_name}: output {name!r} of the imported graph is {actual.dtype}{list(actual.shape)} on "
                f"{case}; eager gives {expected.dtype}{list(expected.shape)}{hint}"
            )
        metrics = measure(actual, expected)
        allowed = INTEGER_SHARE if expected.dtype.kind in "biu" else budget
        if metrics.relative_error <= allowed and not metrics.nonfinite_mismatches:
            continue
        if not _equal(reference(inputs)[name], expected):
            raise ModelImportError(
                f"{model_name} answers differently each time (output {name!r}): it draws random numbers, or "
                "keeps state, in eval mode. Make forward a function of its inputs"
            )
        moved = measure(reference(_nudged(inputs))[name], expected)
        if metrics.relative_error <= _ROUNDINGS * moved.relative_error and not metrics.nonfinite_mismatches:
            log.warning(
                "%s amplifies rounding: output %r moves by %.0e when its inputs change in their last bit, and the "
                "imported graph differs by %.0e. Verification may refuse what is built from it",
                *(model_name, name, moved.relative_error, metrics.relative_error),
            )
            continue
        raise ModelImportError(
            f"{model_name}: output {name!r} of the imported graph differs from eager on {case}: relative "
            f"error {metrics.relative_error:.2e}, allowed {allowed:.0e}, "
            f"{metrics.nonfinite_mismatches} NaN or Inf out of place{hint}"
        )


def _nudged(inputs: Mapping[str, np.ndarray]) -> Arrays:
    """The inputs with each floating-point number moved by one unit in its last place, up or down."""
    rng = np.random.default_rng(_SEED)
    nudged = {}
    for name, array in inputs.items():
        if array.dtype.kind == "f":
            towards = np.where(rng.integers(0, 2, array.shape) > 0, np.inf, -np.inf).astype(array.dtype)
            array = np.nextafter(array, towards)
        nudged[name] = array
    return nudged


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return np.array_equal(a, b, equal_nan=a.dtype.kind not in "biuSOU")


def _budget(model: ir.Model) -> float:
    """The narrowest float type that the graph computes in decides how near two ways of computing it are."""
    found = {value.dtype for node in model.graph.all_nodes() for value in node.outputs if value.dtype is not None}
    narrow = [source_budget(DataType.from_onnx(int(dtype))) for dtype in found]
    return max(budget_for("fp32"), *narrow, 0.0)
