"""Run a tactic's launches in Triton's interpreter, on host memory, in an ordinary process.

TRITON_INTERPRET=1 would have to be set before Triton is imported and makes compiling impossible in the same process.
Here each Triton function is copied, with globals of its own, and functions that it calls are interpreted too.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import torch
import triton.language as tl
from triton.runtime import interpreter
from triton.runtime.jit import JITFunction
from triton.tools.tensor_descriptor import TensorDescriptor

from trine.backends.cuda import reference
from trine.backends.cuda.groups import Buffer, Group, View
from trine.backends.cuda.tactic import Launch, Pointer, Rows, Scalar, Scratch, TensorMap

__all__ = ["NUMPY", "Memory", "ReferenceMemory", "check_group", "run_group", "run_launches"]

NUMPY: dict[str, Any] = {
    "fp32": np.float32,
    "fp16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "int64": np.int64,
    "int32": np.int32,
    "int8": np.int8,
    "uint8": np.uint8,
    "bool": np.bool_,
}
_TORCH = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "int64": torch.int64,
    "int32": torch.int32,
    "int8": torch.int8,
    "uint8": torch.uint8,
    "bool": torch.bool,
}
_GUARD = 64  # elements before and after each buffer that nothing may read or write
_interpreted: dict[int, Any] = {}  # by id: hashing a Triton function would walk what it calls


class Memory:
    """A tensor for each buffer, between guards: NaN where the type has it, so that reading there shows in results."""

    def __init__(self) -> None:
        self._whole: dict[Buffer, torch.Tensor] = {}

    def tensor(self, buffer: Buffer) -> torch.Tensor:
        """The buffer's elements, 1-D; made at the first call: a weight's data, or a value that shows when read."""
        if buffer not in self._whole:
            dtype = _TORCH[buffer.dtype]
            whole = torch.full((buffer.elements + 2 * _GUARD,), _garbage(dtype), dtype=dtype)
            self._whole[buffer] = whole
            if buffer.data is not None:
                self.put(View(buffer, (buffer.elements,), (1,)), np.asarray(buffer.data).reshape(-1))
        return self._whole[buffer][_GUARD : _GUARD + buffer.elements]

    def put(self, view: View, array: np.ndarray[Any, Any]) -> None:
        """Fill what the view shows."""
        array = np.array(array, NUMPY[view.dtype], order="C")  # a copy: PyTorch takes no read-only memory
        tensor = _torch(array) if array.ndim else _torch(array.reshape(1)).reshape(())
        self._strided(view).copy_(tensor.reshape(view.shape))

    def get(self, view: View) -> np.ndarray[Any, Any]:
        """A copy of what the view shows."""
        tensor = self._strided(view).contiguous()
        if view.dtype == "bf16":
            return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16).copy()
        return tensor.numpy().copy()

    def check_guards(self) -> None:
        """Raises AssertionError where a kernel wrote outside a buffer."""
        for buffer, whole in self._whole.items():
            guards = torch.cat([whole[:_GUARD], whole[-_GUARD:]])
            wanted = torch.full_like(guards, _garbage(whole.dtype))
            same = torch.equal(_bits(guards), _bits(wanted))
            assert same, f"{buffer.name}: a kernel wrote outside"

    def _strided(self, view: View) -> torch.Tensor:
        return torch.as_strided(self.tensor(view.buffer), view.shape, view.strides, view.offset + _GUARD)


def run_group(
    tactic: Any,
    group: Group,
    target: Any,
    configuration: Mapping[str, Any],
    arrays: Mapping[Buffer, np.ndarray[Any, Any]],
    rows: int = 1,
) -> Memory:
    """``arrays`` into their buffers (all elements), the tactic's launches, and the memory afterwards."""
    memory = Memory()
    for buffer, array in arrays.items():
        memory.put(View(buffer, (buffer.elements,), (1,)), np.asarray(array).reshape(-1))
    run_launches(tactic.launches(group, configuration, target), memory, rows)
    return memory


def run_launches(launches: Sequence[Launch], memory: Memory, rows: int = 1) -> None:
    """In order; ``rows`` is what Rows arguments count. Raises what the interpreter raises."""
    for launch in launches:
        source = launch.kernel
        wanted = [name for name, kind in source.signature.items() if kind != "constexpr"]
        assert len(wanted) == len(launch.arguments), f"{len(launch.arguments)} arguments for {wanted}"
        assert list(source.signature) == list(source.function.arg_names), "the signature lists every parameter in order"
        values = {name: _value(argument, memory, rows) for name, argument in zip(wanted, launch.arguments, strict=True)}
        with _interpreting(), np.errstate(all="ignore"):  # as on a GPU
            function = _rewritten(source.function)
            interpreter.GridExecutor(function, list(source.function.arg_names), tuple(launch.grid))(
                **values, **source.constants
            )
    memory.check_guards()


def _value(argument: Any, memory: Memory, rows: int) -> Any:
    if isinstance(argument, Pointer):
        return memory.tensor(argument.view.buffer)[argument.view.offset :]
    if isinstance(argument, Scratch):
        return memory.tensor(argument.buffer)
    if isinstance(argument, Scalar):
        return argument.value
    if isinstance(argument, Rows):
        return rows * argument.factor
    assert isinstance(argument, TensorMap)
    assert argument.im2col is None, "the interpreter has no im2col"
    view = argument.view
    base = memory.tensor(view.buffer)[view.offset :]
    return TensorDescriptor(base, list(view.shape), list(view.strides), list(argument.box))


@contextlib.contextmanager
def _interpreting() -> Iterator[None]:
    """Calls of Triton functions from Triton functions go to their interpreted copies."""
    original = JITFunction.__call__
    no_assembly = interpreter.InterpreterBuilder.create_inline_asm
    JITFunction.__call__ = lambda self, *args, **kwargs: _rewritten(self)(*args, **kwargs)  # type: ignore[method-assign]
    interpreter.InterpreterBuilder.create_inline_asm = _assembly
    try:
        yield
    finally:
        JITFunction.__call__ = original  # type: ignore[method-assign]
        interpreter.InterpreterBuilder.create_inline_asm = no_assembly


def _assembly(
    builder: Any, text: str, constraints: str, values: Sequence[Any], kinds: Sequence[Any], pure: bool, pack: int
) -> Any:
    """What Triton's interpreter lacks: the meaning of the instructions that the kernels use, without their error."""
    meanings = {"tanh.approx.f32 $0, $1;": np.tanh, "ex2.approx.ftz.f32 $0, $1;": np.exp2}
    result = interpreter.TensorHandle(meanings[text](*(each.data for each in values)), values[0].dtype)
    return types.SimpleNamespace(get_result=lambda index: result)


def _rewritten(function: Any) -> Any:
    if id(function) not in _interpreted:
        fn = function.fn
        # tl.core is patched only where a function's globals show it, which functions of tl.standard need.
        copy = types.FunctionType(fn.__code__, {**fn.__globals__, "_tl": tl, "_tl_core": tl.core}, fn.__name__)
        copy.__defaults__ = fn.__defaults__
        copy.__annotations__ = dict(fn.__annotations__)
        _interpreted[id(function)] = (function, interpreter.InterpretedFunction(copy).rewrite())
    return _interpreted[id(function)][1]


def _garbage(dtype: torch.dtype) -> Any:
    return float("nan") if dtype.is_floating_point else True if dtype == torch.bool else 77


def _torch(array: np.ndarray[Any, Any]) -> torch.Tensor:
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(torch.uint8)


class ReferenceMemory:
    """What reference.run_group wants of a memory, over the interpreter's."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def read(self, view: View) -> np.ndarray[Any, Any]:
        array = self._memory.get(view)
        return array.astype(np.float32) if view.dtype in ("fp32", "fp16", "bf16") else array

    def write(self, view: View, array: np.ndarray[Any, Any]) -> None:
        self._memory.put(view, array)


def check_group(
    tactic: Any,
    group: Group,
    target: Any,
    configuration: Any,
    rtol: float,
    atol: float,
    x: np.ndarray[Any, Any] | None = None,
) -> None:
    """Random numbers in every operand, or ``x`` in the group's own; all that the launches write against
    ``reference.py``."""
    rng = np.random.default_rng(len(group.name))
    ours, theirs = Memory(), Memory()
    for given in group.views():
        shape = tuple(n if stride else 1 for n, stride in zip(given.shape, given.strides, strict=True))
        view = replace(given, shape=shape)  # each element once, where a stride of 0 repeats some
        values = rng.normal(size=shape).astype(NUMPY[view.dtype])
        if x is not None and given is getattr(group, "x", None):
            values = x
        ours.put(view, values)
        theirs.put(view, values)
    assert tactic.supports(group, target), tactic.supports(group, target).reasons
    run_launches(tactic.launches(group, configuration, target), ours)
    reference.run_group(group, ReferenceMemory(theirs))  # type: ignore[arg-type]
    for view in group.written():
        got, wanted = ours.get(view).astype(np.float64), theirs.get(view).astype(np.float64)
        np.testing.assert_allclose(got, wanted, rtol=rtol, atol=atol)
