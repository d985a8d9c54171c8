"""Runs an imported graph as it is, with as little optimisation as can be, to compare it with its source."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from trine.engine.manifest import TensorInfo
from trine.engine.portable_graph import PortableGraph
from trine.errors import BuildError, UnsupportedError
from trine.importers.imported_model import Arrays

__all__ = ["GraphRunner"]

log = logging.getLogger("trine")


class GraphRunner:
    """The graph as a function of named arrays, weights used where they lie.

    ONNX Runtime without optimisations runs it; OpenVINO, then ONNX's own slow reference evaluator, where it
    lacks an operator. Raises UnsupportedError, with each one's reason, when none of them can.
    """

    def __init__(self, model: ir.Model) -> None:
        from trine.builder.freeze import freeze, tensor_infos

        self._graph = freeze(model, copy=False)
        self.inputs, self.outputs = tensor_infos(model)
        self._engines: list[tuple[str, _Maker]] = [
            ("ONNX Runtime", _onnxruntime),
            ("OpenVINO", _openvino),
            ("ONNX reference", _reference),
        ]
        self._refusals: list[str] = []
        self._run: _Run | None = None

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """Outputs by name. Falls to the next engine when one fails, at compile time or at run time."""
        feeds = [np.ascontiguousarray(inputs[info.name]) for info in self.inputs]
        while self._engines:
            name, make = self._engines[0]
            try:
                if self._run is None:
                    self._run = make(self._graph, self.inputs, self.outputs)
                return dict(zip([info.name for info in self.outputs], self._run(feeds), strict=True))
            except Exception as err:  # noqa: BLE001  # each engine raises its own kinds; every reason is kept
                reason = f"{name}: {' '.join(str(err).split())[:400]}"
                log.info("the imported graph is not checked by %s", reason)
                self._refusals.append(reason)
                self._engines.pop(0)
                self._run = None
        raise UnsupportedError(
            "no installed engine runs the imported graph:\n  " + "\n  ".join(self._refusals), self._refusals
        )


_Run = Callable[[Sequence[np.ndarray]], list[np.ndarray]]
_Maker = Callable[[PortableGraph, tuple[TensorInfo, ...], tuple[TensorInfo, ...]], _Run]


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _onnxruntime(graph: PortableGraph, inputs: tuple[TensorInfo, ...], outputs: tuple[TensorInfo, ...]) -> _Run:
    from trine.runtime.cpu.onnxruntime_executor import OnnxRuntimeExecutor

    executor = OnnxRuntimeExecutor(graph, inputs, outputs, threads=_threads(), options={"optimization": "none"})
    return _session(executor, len(outputs))


def _openvino(graph: PortableGraph, inputs: tuple[TensorInfo, ...], outputs: tuple[TensorInfo, ...]) -> _Run:
    from trine.runtime.cpu.openvino_executor import OpenVinoExecutor

    executor = OpenVinoExecutor(graph, inputs, outputs, threads=_threads(), options={"precision": "fp32"})
    return _session(executor, len(outputs))


def _session(executor: Any, outputs: int) -> _Run:
    session = executor.open_session()

    def run(feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
        # The session keeps the executor's weights in use; holding the executor here keeps them alive.
        assert executor is not None
        results: list[np.ndarray] = session.run(feeds, [None] * outputs)
        return results

    return run


def _reference(graph: PortableGraph, inputs: tuple[TensorInfo, ...], outputs: tuple[TensorInfo, ...]) -> _Run:
    import onnx
    import onnx.reference

    evaluator = onnx.reference.ReferenceEvaluator(onnx.load_from_string(graph.inline()))

    def run(feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
        names = [info.name for info in inputs]
        results = evaluator.run(None, dict(zip(names, feeds, strict=True)))
        return [np.asarray(each) for each in results]

    if sum(weight.nbytes for weight in graph.weights) > 1 << 30:
        raise BuildError("more than 1 GiB of weights is too slow for the reference evaluator")
    return run
