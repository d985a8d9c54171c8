"""PyTorch's CUDA calls without a GPU. Each program runs in a process of its own, as they change PyTorch."""

from __future__ import annotations

import pytest
import torch
from new_process import in_new_process

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: nothing is changed")

BEFORE = "from trine.compat.torch_cuda import use_host_memory\nuse_host_memory()\n"


def test_pytorch_is_not_imported_for_it() -> None:
    assert in_new_process(BEFORE + "import sys; print('torch' in sys.modules)") == "False"


@pytest.mark.parametrize("order", ["before", "after"])
def test_moves_are_copies_in_host_memory(order: str) -> None:
    program = """
device = torch.device("cuda:0")
x = torch.ones(2, 3)
moved = [x.cuda(), x.cuda(0), x.to("cuda"), x.to("cuda:1"), x.to(device), x.to(device=device), x.to(0)]
print(all(y.data_ptr() != x.data_ptr() and torch.equal(x, y) and y.device.type == "cpu" for y in moved))
print(x.to("cuda", torch.float16).dtype, x.to(device=device, dtype=torch.int64).dtype, x.to("cuda").half().dtype)
print(x.to(torch.ones(1, dtype=torch.float64)).dtype, x.to(torch.int32).dtype, x.to("cpu") is x, x.to("meta").device)
print(torch.cuda.is_available(), x.cuda().is_cuda, type(device).__name__, x.pin_memory() is x)
"""
    import_torch = "import torch\n"
    program = BEFORE + import_torch + program if order == "before" else import_torch + BEFORE + program
    assert in_new_process(program).splitlines() == [
        "True",
        "torch.float16 torch.int64 torch.float16",
        "torch.float64 torch.int32 True meta",
        "False False device True",
    ]


def test_tensors_are_made_there_and_modules_stay() -> None:
    program = """
import io, torch
made = [torch.zeros(2, device="cuda"), torch.empty((2,), device=torch.device("cuda", 1)), torch.arange(2, device=0),
        torch.rand(2, device="cuda"), torch.tensor([1], device="cuda"), torch.zeros_like(torch.ones(2), device="cuda")]
print({y.device.type for y in made}, torch.ones(1, device="meta").device)
net = torch.nn.Linear(2, 2)
print(net.cuda() is net, net.to("cuda") is net, net.to(torch.device("cuda"), torch.float64).weight.dtype)
file = io.BytesIO()
torch.save(net.state_dict(), file)
file.seek(0)
print({y.device.type for y in torch.load(file, map_location="cuda:0").values()})
torch.set_default_device("cuda")
print(torch.ones(1).device)
"""
    assert in_new_process(BEFORE + program).splitlines() == [
        "{'cpu'} meta",
        "True True torch.float64",
        "{'cpu'}",
        "cpu",
    ]


def test_streams_and_events_have_nothing_to_wait_for() -> None:
    program = """
import time, torch
stream, start, end = torch.cuda.Stream(), torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
start.record()
with torch.cuda.device(0), torch.cuda.stream(stream):
    time.sleep(0.02)
end.record(stream)
stream.wait_stream(torch.cuda.current_stream())
torch.cuda.synchronize()
stream.synchronize()
print(20 <= start.elapsed_time(end), stream.cuda_stream, torch.cuda.current_stream().cuda_stream, stream.query())
print(stream.record_event().query(), torch.cuda.current_device())
"""
    assert in_new_process(BEFORE + program).splitlines() == ["True 0 0 True", "True 0"]


def test_a_module_that_makes_tensors_on_a_gpu_is_exported() -> None:
    program = """
import torch, trine
class Net(torch.nn.Module):
    def forward(self, x):
        return x + torch.arange(3, device=x.device) + torch.ones(3, device="cuda")
x = torch.zeros(2, 3).cuda()
print(trine.build(Net().cuda().eval(), (x,), progress=False)(x)[1].tolist())
"""
    assert in_new_process(BEFORE + program) == "[1.0, 2.0, 3.0]"
