"""What the tests of networks share: running one, and holding it to the shapes and dtypes that it promised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime

from trine.network import Layer, Network, Tensor

__all__ = ["answer", "answers", "finish", "start"]


def start(**inputs: Any) -> tuple[Network, list[Tensor]]:
    """A network with an input for each array, of the array's dtype and shape."""
    network = Network("tested")
    return network, [network.add_input(name, array.dtype, array.shape) for name, array in inputs.items()]


def answers(network: Network, feeds: Mapping[str, Any]) -> list[np.ndarray]:
    """The outputs, by ONNX Runtime without optimisation. Each has the dtype and dims that its tensor said it has."""
    data = network.to_onnx()
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    results = [np.asarray(each) for each in session.run(None, dict(feeds))]
    sizes: dict[str, int] = {}
    for tensor in network.inputs:
        bind(tensor, np.asarray(feeds[tensor.name]), sizes)
    for tensor, result in zip(network.outputs, results, strict=True):
        bind(tensor, result, sizes)
    return results


def bind(tensor: Tensor, array: np.ndarray, sizes: dict[str, int]) -> None:
    """The array must have the tensor's dtype and dims; a symbol stands for one size everywhere."""
    assert tensor.dtype is not None
    assert tensor.shape is not None
    assert array.dtype == tensor.dtype.numpy, (tensor, array.dtype)
    assert len(array.shape) == len(tensor.shape), (tensor, array.shape)
    for dim, size in zip(tensor.shape, array.shape, strict=True):
        wanted = dim if isinstance(dim, int) else sizes.setdefault(dim, size)
        assert wanted == size, (tensor, array.shape, sizes)


def finish(network: Network, made: Layer | Tensor) -> None:
    """Marks all outputs of a layer, or a tensor, as the network's outputs."""
    for tensor in [made] if isinstance(made, Tensor) else [made.get_output(i) for i in range(made.num_outputs)]:
        network.mark_output(tensor)


def answer(network: Network, made: Layer | Tensor, **feeds: Any) -> Any:
    """The one output ``made`` of the network; for layers with several, a list of them."""
    finish(network, made)
    results = answers(network, feeds)
    return results[0] if len(results) == 1 else results
