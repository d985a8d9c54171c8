"""A TensorRT program, on trine: a trained PyTorch network defined again layer by layer, built, shipped and run.

    python examples/04_mnist_layer_by_layer/mnist_layer_by_layer.py

Written in the idioms of TensorRT 5 to 7, with an implicit batch and pycuda's buffers; only the imports are trine's. The
digits are scikit-learn's 1797 real scans, brought to MNIST's size of 28 x 28.
"""

from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

import trine.compat.pycuda.autoinit  # noqa: F401  # makes a context
import trine.compat.pycuda.driver as cuda
import trine.compat.tensorrt as trt

INPUT_NAME, INPUT_SHAPE = "data", (1, 28, 28)
OUTPUT_NAME, OUTPUT_SIZE = "prob", 10
TRT_LOGGER = trt.Logger(trt.Logger.ERROR)


class Net(nn.Module):
    """LeNet as in PyTorch's MNIST example: (N, 1, 28, 28) pixels in 0..1 to (N, 10) logits."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.fc1 = nn.Linear(800, 500)
        self.fc2 = nn.Linear(500, OUTPUT_SIZE)

    def forward(self, x):
        x = nn.functional.max_pool2d(self.conv1(x), 2)
        x = nn.functional.max_pool2d(self.conv2(x), 2)
        return self.fc2(nn.functional.relu(self.fc1(x.flatten(1))))


def train(model, images, labels, epochs=5):
    """Plain Adam on shuffled batches of 64."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()


def populate_network(network, weights):
    """The network, layer by layer, with the weights of the PyTorch model."""
    input_tensor = network.add_input(name=INPUT_NAME, dtype=trt.float32, shape=INPUT_SHAPE)

    conv1_w = weights["conv1.weight"].numpy()
    conv1_b = weights["conv1.bias"].numpy()
    conv1 = network.add_convolution(
        input=input_tensor, num_output_maps=20, kernel_shape=(5, 5), kernel=conv1_w, bias=conv1_b
    )
    conv1.stride = (1, 1)

    pool1 = network.add_pooling(input=conv1.get_output(0), type=trt.PoolingType.MAX, window_size=(2, 2))
    pool1.stride = (2, 2)
    conv2_w = weights["conv2.weight"].numpy()
    conv2_b = weights["conv2.bias"].numpy()
    conv2 = network.add_convolution(pool1.get_output(0), 50, (5, 5), conv2_w, conv2_b)
    conv2.stride = (1, 1)

    pool2 = network.add_pooling(conv2.get_output(0), trt.PoolingType.MAX, (2, 2))
    pool2.stride = (2, 2)

    fc1_w = weights["fc1.weight"].numpy()
    fc1_b = weights["fc1.bias"].numpy()
    fc1 = network.add_fully_connected(input=pool2.get_output(0), num_outputs=500, kernel=fc1_w, bias=fc1_b)

    relu1 = network.add_activation(fc1.get_output(0), trt.ActivationType.RELU)

    fc2_w = weights["fc2.weight"].numpy()
    fc2_b = weights["fc2.bias"].numpy()
    fc2 = network.add_fully_connected(relu1.get_output(0), OUTPUT_SIZE, fc2_w, fc2_b)

    fc2.get_output(0).name = OUTPUT_NAME
    network.mark_output(fc2.get_output(0))


def build_engine(weights):
    """The engine, from the network."""
    with trt.Builder(TRT_LOGGER) as builder, builder.create_network() as network:
        builder.max_batch_size = 1
        builder.max_workspace_size = 1 << 20
        populate_network(network, weights)
        return builder.build_cuda_engine(network)


def classify(engine, images):
    """The logits for each image, through page-locked buffers, device memory and a stream."""
    h_input = cuda.pagelocked_empty(trt.volume(engine.get_binding_shape(0)), dtype=np.float32)
    h_output = cuda.pagelocked_empty(trt.volume(engine.get_binding_shape(1)), dtype=np.float32)
    d_input = cuda.mem_alloc(h_input.nbytes)
    d_output = cuda.mem_alloc(h_output.nbytes)
    stream = cuda.Stream()
    answers = []
    with engine.create_execution_context() as context:
        for image in images:
            np.copyto(h_input, image.ravel())
            cuda.memcpy_htod_async(d_input, h_input, stream)
            context.execute_async(bindings=[int(d_input), int(d_output)], stream_handle=stream.handle)
            cuda.memcpy_dtoh_async(h_output, d_output, stream)
            stream.synchronize()
            answers.append(h_output.copy())
    return np.stack(answers)


def main():
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.from_numpy((digits.images / 16).astype(np.float32))[:, None]
    images = nn.functional.interpolate(images, INPUT_SHAPE[1:], mode="bilinear").numpy()
    train_x, test_x, train_y, test_y = train_test_split(
        images, digits.target, test_size=0.25, random_state=0, stratify=digits.target
    )
    model = Net()
    train(model, torch.from_numpy(train_x), torch.from_numpy(train_y))
    with torch.inference_mode():
        from_pytorch = model(torch.from_numpy(test_x)).numpy()

    with build_engine(model.state_dict()) as engine, Path("sample.engine").open("wb") as f:
        f.write(engine.serialize())
    with Path("sample.engine").open("rb") as f, trt.Runtime(TRT_LOGGER) as runtime:
        engine = runtime.deserialize_cuda_engine(f.read())
    from_trine = classify(engine, test_x)

    print(f"unseen digits        {len(test_x)}")
    print(f"accuracy, PyTorch    {np.mean(from_pytorch.argmax(1) == test_y):.4f}")
    print(f"accuracy, trine      {np.mean(from_trine.argmax(1) == test_y):.4f}")
    print(f"largest difference   {np.abs(from_trine - from_pytorch).max():.1e} in the logits")


if __name__ == "__main__":
    main()
