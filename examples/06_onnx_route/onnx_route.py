"""A TensorRT program, on trine, by way of ONNX: exported from PyTorch, parsed, built, and run through pycuda's buffers.

    python examples/06_onnx_route/onnx_route.py

The same network as in 04_mnist_layer_by_layer, trained here on scikit-learn's 1797 scans, brought to MNIST's 28 x 28.
"""

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

import trine.compat.pycuda.autoinit  # noqa: F401  # makes a context
import trine.compat.pycuda.driver as cuda
import trine.compat.tensorrt as trt

TRT_LOGGER = trt.Logger(trt.Logger.ERROR)
model_path = "mnist.onnx"


def train(model, images, labels, epochs=5):
    """Plain Adam on shuffled batches of 64."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()


def build_engine():
    """The engine of the ONNX file; where it cannot be parsed, why not."""
    with (
        trt.Builder(TRT_LOGGER) as builder,
        builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)) as network,
        trt.OnnxParser(network, TRT_LOGGER) as parser,
    ):
        with open(model_path, "rb") as model:  # noqa: PTH123
            if not parser.parse(model.read()):
                raise SystemExit("\n".join(str(parser.get_error(index)) for index in range(parser.num_errors)))
        builder.max_workspace_size = 1 << 20
        return builder.build_cuda_engine(network)


def classify(engine, images):
    """The logits for each image, one at a time."""
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
            context.execute_async_v2(bindings=[int(d_input), int(d_output)], stream_handle=stream.handle)
            cuda.memcpy_dtoh_async(h_output, d_output, stream)
            stream.synchronize()
            answers.append(h_output.copy())
    return np.stack(answers)


def main():
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.from_numpy((digits.images / 16).astype(np.float32))[:, None]
    images = nn.functional.interpolate(images, (28, 28), mode="bilinear").numpy()
    train_x, test_x, train_y, test_y = train_test_split(
        images, digits.target, test_size=0.25, random_state=0, stratify=digits.target
    )
    model = nn.Sequential(
        *(nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10)),
    )
    train(model, torch.from_numpy(train_x), torch.from_numpy(train_y))
    model.eval()
    with torch.inference_mode():
        from_pytorch = model(torch.from_numpy(test_x)).numpy()

    example = (torch.zeros(1, 1, 28, 28),)
    names = {"input_names": ["data"], "output_names": ["prob"]}
    torch.onnx.export(model, example, model_path, external_data=False, **names)  # one file, as parser.parse takes it
    with build_engine() as engine:
        from_trine = classify(engine, test_x)

    print(f"unseen digits        {len(test_x)}")
    print(f"accuracy, PyTorch    {np.mean(from_pytorch.argmax(1) == test_y):.4f}")
    print(f"accuracy, trine      {np.mean(from_trine.argmax(1) == test_y):.4f}")
    print(f"largest difference   {np.abs(from_trine - from_pytorch).max():.1e} in the logits")


if __name__ == "__main__":
    main()
