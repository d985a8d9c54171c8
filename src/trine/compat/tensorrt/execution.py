"""One call of a context: arrays over the program's memory, the answers into it, and the profiler's report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from trine.compat.tensorrt.dims import Dims
from trine.compat.tensorrt.host_memory import array_at, nbytes_of
from trine.errors import InputError

if TYPE_CHECKING:
    from trine.compat.tensorrt.context import IExecutionContext

__all__ = ["collect", "deliver", "report_layer_times"]

_ALIGNMENT = 256  # what TensorRT asks allocators for
Arrays = dict[str, np.ndarray]


def collect(
    context: IExecutionContext, shapes: Mapping[str, tuple[int, ...]], addresses: Mapping[str, int]
) -> tuple[Arrays, Arrays]:
    """The inputs, and the outputs whose shapes are known, as arrays over the memory at ``addresses``.

    Raises InputError where an address is missing or its memory must not be used.
    """
    inputs = {}
    for name, shape in shapes.items():
        inputs[name] = array_at(_address(addresses, name), context._tensors[name].dtype, shape, f"input {name!r}")
    expected = context._output_shapes(dict(shapes))
    outputs = {}
    for info in context._cuda_engine._engine.outputs:
        shape = expected[info.name]
        if info.name in context._allocators or -1 in shape:
            continue
        outputs[info.name] = array_at(_address(addresses, info.name), info.dtype, shape, f"output {info.name!r}")
    _refuse_overlaps(inputs, outputs)
    return inputs, outputs


def _address(addresses: Mapping[str, int], name: str) -> int:
    if not addresses.get(name):
        raise InputError(f"no memory was given for {name!r}; call context.set_tensor_address({name!r}, address)")
    return addresses[name]


def _refuse_overlaps(inputs: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]) -> None:
    """An output written while an input in the same memory is read would be wrong without a word."""
    for name, output in outputs.items():
        for other, array in {**inputs, **{n: a for n, a in outputs.items() if n != name}}.items():
            if output.size and array.size and np.may_share_memory(output, array):
                raise InputError(f"the memory of output {name!r} overlaps that of {other!r}; give each its own")


def deliver(
    context: IExecutionContext,
    answers: Mapping[str, np.ndarray],
    out: Mapping[str, Any],
    addresses: Mapping[str, int],
    stream: int,
) -> None:
    """Outputs whose shapes only the call gave: into the memory that an allocator gives, or at the address.

    Raises InputError where an allocator gives no memory, or the memory must not be used.
    """
    for name, array in answers.items():
        if name in out:
            continue
        dtype = context._tensors[name].dtype
        allocator = context._allocators.get(name)
        if allocator is None:
            address = _address(addresses, name)
        else:
            shape = array.shape[context._cuda_engine._hidden_axes :]
            allocator.notify_shape(name, Dims(shape))
            address = _allocate(allocator, name, addresses.get(name, 0), max(nbytes_of(dtype, array.shape), 1), stream)
        target = array_at(address, dtype, array.shape, f"output {name!r}")
        np.copyto(target, array)


def _allocate(allocator: Any, name: str, before: int, nbytes: int, stream: int) -> int:
    own = type(allocator)
    if getattr(own, "reallocate_output_async", None) is not None:
        address = allocator.reallocate_output_async(name, before, nbytes, _ALIGNMENT, stream)
    else:
        address = allocator.reallocate_output(name, before, nbytes, _ALIGNMENT)
    if not address:
        raise InputError(f"output {name!r}: its allocator gave no memory for {nbytes} bytes")
    return int(address)


def report_layer_times(context: IExecutionContext) -> None:
    """Tell the profiler what each layer took in the last call, as the backend measured it."""
    for name, milliseconds in context._layer_times:
        context._profiler.report_layer_time(name, milliseconds)
