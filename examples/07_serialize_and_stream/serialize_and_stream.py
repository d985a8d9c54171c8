"""Build in one process, ship the plan, run it in another: serialized engines, page-locked buffers, streams.

    python examples/07_serialize_and_stream/serialize_and_stream.py         # both
    python examples/07_serialize_and_stream/serialize_and_stream.py build   # writes sample.engine
    python examples/07_serialize_and_stream/serialize_and_stream.py run     # reads it

The process that runs imports neither PyTorch nor ONNX. It takes turns between two streams, each with buffers and an
execution context of its own: on a GPU one copies while the other computes.
"""

import subprocess
import sys

import numpy as np
from sklearn.datasets import load_digits

import trine.compat.pycuda.autoinit  # noqa: F401  # makes a context
import trine.compat.pycuda.driver as cuda
import trine.compat.tensorrt as trt

TRT_LOGGER = trt.Logger(trt.Logger.ERROR)
TRAINED = 1347  # digits; the other 450 are unseen


def digits():
    """Images (1797, 1, 8, 8) in 0..1, and their labels."""
    found = load_digits()
    return (found.images / 16).astype(np.float32)[:, None], found.target


def build():
    """Train in PyTorch, define the network again with the weights, write the plan and PyTorch's answers."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    images, labels = (torch.from_numpy(array) for array in digits())
    model = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(512, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(10):
        for batch in torch.randperm(TRAINED).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
    with torch.inference_mode():
        np.save("from_pytorch.npy", model(images[TRAINED:]).numpy())
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}

    with trt.Builder(TRT_LOGGER) as builder, builder.create_network() as network:
        data = network.add_input(name="data", dtype=trt.float32, shape=(1, 8, 8))
        conv = network.add_convolution(data, 32, (3, 3), weights["0.weight"], weights["0.bias"])
        conv.padding = (1, 1)
        relu = network.add_activation(conv.get_output(0), trt.ActivationType.RELU)
        pool = network.add_pooling(relu.get_output(0), trt.PoolingType.MAX, (2, 2))
        pool.stride = (2, 2)
        fc = network.add_fully_connected(pool.get_output(0), 10, weights["4.weight"], weights["4.bias"])
        fc.get_output(0).name = "prob"
        network.mark_output(fc.get_output(0))
        builder.max_batch_size = 1
        builder.max_workspace_size = 1 << 20
        with builder.build_cuda_engine(network) as engine, open("sample.engine", "wb") as f:  # noqa: PTH123
            f.write(engine.serialize())


class Lane:
    """A stream with its buffers and its context."""

    def __init__(self, engine):
        self.h_input = cuda.pagelocked_empty(trt.volume(engine.get_binding_shape(0)), dtype=np.float32)
        self.h_output = cuda.pagelocked_empty(trt.volume(engine.get_binding_shape(1)), dtype=np.float32)
        self.d_input = cuda.mem_alloc(self.h_input.nbytes)
        self.d_output = cuda.mem_alloc(self.h_output.nbytes)
        self.stream = cuda.Stream()
        self.context = engine.create_execution_context()

    def start(self, image):
        """Queue a copy there, the network, and a copy back."""
        np.copyto(self.h_input, image.ravel())
        cuda.memcpy_htod_async(self.d_input, self.h_input, self.stream)
        self.context.execute_async(bindings=[int(self.d_input), int(self.d_output)], stream_handle=self.stream.handle)
        cuda.memcpy_dtoh_async(self.h_output, self.d_output, self.stream)

    def finish(self):
        """Wait, and give the answer."""
        self.stream.synchronize()
        return self.h_output.copy()


def run():
    """Read the plan and classify the unseen digits."""
    with open("sample.engine", "rb") as f, trt.Runtime(TRT_LOGGER) as runtime:  # noqa: PTH123
        engine = runtime.deserialize_cuda_engine(f.read())
    images, labels = (array[TRAINED:] for array in digits())
    lanes = [Lane(engine), Lane(engine)]
    answers = []
    for index, image in enumerate(images):
        lanes[index % 2].start(image)
        if index:
            answers.append(lanes[(index - 1) % 2].finish())
    answers.append(lanes[(len(images) - 1) % 2].finish())

    from_trine, from_pytorch = np.stack(answers), np.load("from_pytorch.npy")
    print(f"imported to run      {sorted({'torch', 'onnx'} & set(sys.modules)) or 'neither PyTorch nor ONNX'}")
    print(f"accuracy, PyTorch    {np.mean(from_pytorch.argmax(1) == labels):.4f}")
    print(f"accuracy, trine      {np.mean(from_trine.argmax(1) == labels):.4f}")
    print(f"largest difference   {np.abs(from_trine - from_pytorch).max():.1e} in the logits")


if __name__ == "__main__":
    steps = {"build": build, "run": run}
    if len(sys.argv) > 1:
        steps[sys.argv[1]]()
    else:
        for step in steps:
            subprocess.run([sys.executable, __file__, step], check=True)
