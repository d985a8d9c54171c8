"""ONNX's own backend tests as cases, and what trine makes of one: built, saved, loaded, run, judged.

Kinds: node (one operator each), simple, pytorch-converted, pytorch-operator, and real: the classifiers that the
``onnx`` package carries without their weights, which are filled in when they run.
"""

from __future__ import annotations

import contextlib
import functools
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

KINDS = ("node", "real", "simple", "pytorch-converted", "pytorch-operator")

# What each status means; the order is that of the tables.
STATUSES = {
    "pass": "the answers are those that the suite stores, at the suite's own tolerances",
    "unsupported": "refused with UnsupportedError, before anything was built",
    "no backend": "refused with BuildError: every backend gave its reason against the graph",
    "inaccurate": "refused with AccuracyError: no backend's answers are the model's",
    "other": "refused with another of trine's errors",
    "rounding": "outside the suite's tolerance elementwise, but within rounding of the largest value of the output",
    "wrong": "an engine was built and its answers are not those that the suite stores",
    "error": "an exception that is none of trine's",
    "crash": "the process died",
}
# Of the output's largest value: the last bits that a sum of a few dozen terms loses.
ROUNDING = {"float64": 1e-12, "float32": 1e-6, "float16": 2**-10, "bfloat16": 2**-7}


@dataclass(frozen=True)
class Case:
    """A test: a model, and for each data set its inputs and the outputs that it must give."""

    name: str
    kind: str
    test: Any  # onnx.backend.test.case.test_case.TestCase

    @property
    def model(self) -> onnx.ModelProto:
        """The model, read from where the ``onnx`` package keeps it."""
        if self.test.model is not None:
            return self.test.model
        return onnx.load(self._path)

    @property
    def _path(self) -> Path:
        if self.kind == "real":
            return Path(onnx.__file__).parent.parent / self.test.url
        return Path(self.test.model_dir) / "model.onnx"

    def data_sets(self, model: onnx.ModelProto) -> Iterator[tuple[dict[str, Any], list[Any]]]:
        """Inputs by name, and the outputs wanted."""
        weights = {tensor.name for tensor in model.graph.initializer}
        inputs = [value for value in model.graph.input if value.name not in weights]
        if self.kind == "node":
            for given, wanted in self.test.data_sets:
                names = [value.name for value in inputs]
                yield (
                    dict(zip(names, map(_array, given), strict=False)),
                    [_array(value) for value in wanted],
                )
        elif self.kind == "real":
            shape = [dim.dim_value for dim in inputs[0].type.tensor_type.shape.dim]
            count = int(np.prod(shape))
            wanted = _load(self._path.with_name(f"{self._path.stem}_output_0.pb"), model.graph.output[0])
            yield {inputs[0].name: (np.arange(count).reshape(shape) / count).astype(np.float32)}, [wanted]
        else:
            for folder in sorted(self._path.parent.glob("test_data_set_*")):
                given = {
                    value.name: _load(folder / f"input_{i}.pb", value)
                    for i, value in enumerate(inputs)
                    if (folder / f"input_{i}.pb").exists()
                }
                wanted = [_load(folder / f"output_{i}.pb", value) for i, value in enumerate(model.graph.output)]
                yield given, wanted


def _array(value: Any) -> Any:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def _load(path: Path, value: onnx.ValueInfoProto) -> Any:
    data = path.read_bytes()
    if value.type.HasField("sequence_type"):
        return numpy_helper.to_list(onnx.SequenceProto.FromString(data))
    if value.type.HasField("optional_type"):
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(data))
    return numpy_helper.to_array(onnx.TensorProto.FromString(data))


@functools.cache
def all_cases() -> dict[str, Case]:
    """Every case by name, in the suite's order."""
    from onnx.backend.test.loader import load_model_tests

    cases: dict[str, Case] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the suite makes its own data by overflowing and dividing by zero
        for kind in KINDS:
            for test in load_model_tests(kind=kind):
                cases[test.name] = Case(test.name, kind, test)
    return cases


def run_case(case: Case) -> dict[str, Any]:
    """Status, reason, tactic and seconds of one case, as JSON values."""
    import trine

    start = time.perf_counter()
    tactics: list[str] = []
    try:
        status, reason = _judge(case, tactics)
    except trine.UnsupportedError as err:
        status, reason = "unsupported", str(err)
    except trine.BuildError as err:
        status, reason = "no backend", str(err)
    except trine.AccuracyError as err:
        status, reason = "inaccurate", str(err)
    except trine.TrineError as err:
        status, reason = "other", f"{type(err).__name__}: {err}"
    except Exception as err:  # noqa: BLE001  # whatever it is, it is this case's result
        status, reason = "error", f"{type(err).__name__}: {err}"
    return {
        "name": case.name,
        "kind": case.kind,
        "status": status,
        "reason": " ".join(reason.split())[:2500],
        "tactic": tactics[-1] if tactics else "",
        "seconds": round(time.perf_counter() - start, 3),
    }


def _judge(case: Case, tactics: list[str]) -> tuple[str, str]:
    import trine

    model = case.model
    data = model.SerializeToString()
    outputs = [value.name for value in model.graph.output]
    worst = ("pass", "")
    for inputs, wanted in case.data_sets(model):
        with (
            trine.build(data, inputs, threads=1) as built,
            trine.load(built.serialize()) as engine,
            engine.create_execution_context() as context,
        ):
            tactics.append(engine.tactic)
            answers = context.execute({name: np.asarray(value) for name, value in inputs.items()})
            found = judge([answers[name] for name in outputs], wanted, case.test.rtol, case.test.atol)
        if found[0] == "wrong":
            return found
        worst = max(worst, found, key=lambda each: each[0] == "rounding")
    return worst


def judge(got: list[Any], wanted: list[Any], rtol: float, atol: float) -> tuple[str, str]:
    """ "pass", "rounding" or "wrong", with the reason, as the suite's own runner compares."""
    from onnx.backend.test.runner import Runner

    try:
        Runner.assert_similar_outputs(wanted, got, rtol, atol)
    except AssertionError as err:
        same_kind = all(g.shape == w.shape and g.dtype == w.dtype for g, w in zip(got, wanted, strict=True))
        shares = [_share(g, w) for g, w in zip(got, wanted, strict=True)] if same_kind else [np.inf]
        if all(share <= ROUNDING.get(g.dtype.name, 0.0) for share, g in zip(shares, got, strict=True)):
            return "rounding", f"{got[0].dtype}: the largest difference is {max(shares):.0e} of the largest value"
        return "wrong", str(err)
    return "pass", ""


def _share(got: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference as a share of the largest value; infinity where anything is not comparable."""
    if got.dtype.name not in ROUNDING:
        return 0.0 if np.array_equal(got, wanted) else np.inf
    high, low = got.astype(np.float64), wanted.astype(np.float64)
    finite = np.isfinite(low)
    if not np.array_equal(high[~finite], low[~finite], equal_nan=True) or not np.isfinite(high[finite]).all():
        return np.inf
    error = float(np.abs(high[finite] - low[finite]).max(initial=0.0))
    return error / max(float(np.abs(low[finite]).max(initial=0.0)), np.finfo(np.float64).tiny)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """ONNX's reference evaluator and its data divide by zero on purpose."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


def counts(results: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """How many cases have each status, in the order of ``STATUSES``."""
    found = [result["status"] for result in results.values()]
    return {status: found.count(status) for status in STATUSES if status in found}
