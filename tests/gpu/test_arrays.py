"""PyTorch's tensors on the GPU: not copied, on the caller's stream."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("triton", reason="compiles kernels with Triton, which is not installed")

from gpu.gpu_engines import ANY, built, pictures

from trine.errors import InputError

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this PyTorch is built without CUDA"),
]


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_tensors_in_and_out(rows: int) -> None:
    engine, x = built(ANY), pictures(ANY, rows)
    y = engine(torch.from_numpy(x).cuda())
    assert isinstance(y, torch.Tensor)
    assert y.is_cuda
    assert y.cpu().numpy().tobytes() == engine(x).tobytes()


def test_outputs_are_written_where_the_caller_says() -> None:
    engine = built(ANY)
    (into,), (out,) = engine.manifest.inputs, engine.manifest.outputs
    x = torch.from_numpy(pictures(ANY, 4)).cuda()
    y = torch.full((4, 20), torch.nan, device="cuda")
    before = torch.cuda.memory_allocated()
    with engine.create_execution_context() as context:
        assert context.execute_async({into.name: x}, {out.name: y})[out.name] is y
        torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() == before
    assert y.cpu().numpy().tobytes() == engine(x).cpu().numpy().tobytes()


def test_the_caller_s_stream_is_waited_for_and_by() -> None:
    """The input is there only when the stream has slept; the answer is read on the stream, without waiting."""
    engine = built(ANY)
    name = engine.manifest.inputs[0].name
    source = torch.from_numpy(pictures(ANY, 4)).cuda()
    want = engine(source).clone()
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with engine.create_execution_context() as context, torch.cuda.stream(stream):
        for _ in range(5):
            x = torch.zeros_like(source)
            torch.cuda._sleep(20_000_000)
            x.copy_(source)
            (y,) = context.execute_async({name: x}).values()
            copied = y.clone()
            x.fill_(float("nan"))
            stream.synchronize()
            assert torch.equal(copied, want)


def test_arrays_with_the_cuda_array_interface() -> None:
    class Foreign:
        def __init__(self, tensor: torch.Tensor) -> None:
            self.tensor = tensor  # which owns the memory
            self.__cuda_array_interface__ = tensor.__cuda_array_interface__

    engine = built(ANY)
    (into,), (out,) = engine.manifest.inputs, engine.manifest.outputs
    x, y = torch.from_numpy(pictures(ANY, 2)).cuda(), torch.empty(2, 20, device="cuda")
    torch.cuda.synchronize()
    with engine.create_execution_context() as context:
        context.execute({into.name: Foreign(x)}, {out.name: Foreign(y)})
    assert torch.equal(y, engine(x))


@pytest.mark.parametrize("kind", ["dtype", "strides", "host and device"])
def test_arrays_that_do_not_fit(kind: str) -> None:
    engine = built(ANY)
    (into,), (out,) = engine.manifest.inputs, engine.manifest.outputs
    x = torch.from_numpy(pictures(ANY, 2)).cuda()
    given, into_it = {"dtype": (x.half(), {}), "strides": (x.transpose(2, 3), {})}.get(
        kind, (x, {out.name: np.empty((2, 20), np.float32)})
    )
    text = {"dtype": "got float16", "strides": "contiguous", "host and device": "got one in host memory"}[kind]
    with engine.create_execution_context() as context, pytest.raises(InputError, match=text):
        context.execute({into.name: given}, into_it or None)
