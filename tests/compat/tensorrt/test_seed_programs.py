"""The tutorial's part 3, from first line to last: networks layer by layer and from ONNX, without a batch in shapes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

import trine.compat.tensorrt as trt
from trine.compat.pycuda import driver as cuda
from trine.compat.tensorrt import eras

pytestmark = pytest.mark.filterwarnings("ignore:.* is retired:DeprecationWarning")

INPUT_NAME, INPUT_SHAPE, OUTPUT_NAME, OUTPUT_SIZE = "data", (1, 28, 28), "prob", 10


class Net(torch.nn.Module):
    """The digit classifier of NVIDIA's sample, with fewer channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = torch.nn.Conv2d(1, 4, 5)
        self.conv2 = torch.nn.Conv2d(4, 6, 5)
        self.fc1 = torch.nn.Linear(96, 20)
        self.fc2 = torch.nn.Linear(20, OUTPUT_SIZE)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 1, 28, 28) to (N, 10)."""
        x = torch.max_pool2d(self.conv1(x), 2, 2)
        x = torch.max_pool2d(self.conv2(x), 2, 2).flatten(1)
        return self.fc2(torch.relu(self.fc1(x)))


@pytest.fixture(scope="module")
def net() -> Net:
    """With weights from a fixed seed."""
    torch.manual_seed(3)
    return Net().eval()


@pytest.fixture(autouse=True)
def context() -> Iterator[cuda.Context]:
    """A current context, as pycuda.autoinit makes one for a program."""
    cuda.init()
    context = cuda.Device(0).make_context()
    yield context
    context.pop()


@pytest.fixture(params=[None, "7", "8"])
def era(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """Each era in which shapes leave the batch out, and no era."""
    with eras.override(request.param):
        yield request.param


def add_layers(network: trt.INetworkDefinition, net: Net) -> None:
    """The tutorial's lines."""
    weights = net.state_dict()
    input_tensor = network.add_input(name=INPUT_NAME, dtype=trt.float32, shape=INPUT_SHAPE)
    conv1_w = weights["conv1.weight"].numpy()
    conv1_b = weights["conv1.bias"].numpy()
    conv1 = network.add_convolution(
        input=input_tensor, num_output_maps=4, kernel_shape=(5, 5), kernel=conv1_w, bias=conv1_b
    )
    conv1.stride = (1, 1)
    pool1 = network.add_pooling(input=conv1.get_output(0), type=trt.PoolingType.MAX, window_size=(2, 2))
    pool1.stride = (2, 2)
    conv2_w = weights["conv2.weight"].numpy()
    conv2_b = weights["conv2.bias"].numpy()
    conv2 = network.add_convolution(pool1.get_output(0), 6, (5, 5), conv2_w, conv2_b)
    conv2.stride = (1, 1)
    pool2 = network.add_pooling(conv2.get_output(0), trt.PoolingType.MAX, (2, 2))
    pool2.stride = (2, 2)
    fc1_w = weights["fc1.weight"].numpy()
    fc1_b = weights["fc1.bias"].numpy()
    fc1 = network.add_fully_connected(input=pool2.get_output(0), num_outputs=20, kernel=fc1_w, bias=fc1_b)
    relu1 = network.add_activation(fc1.get_output(0), trt.ActivationType.RELU)
    fc2_w = weights["fc2.weight"].numpy()
    fc2_b = weights["fc2.bias"].numpy()
    fc2 = network.add_fully_connected(relu1.get_output(0), OUTPUT_SIZE, fc2_w, fc2_b)
    fc2.get_output(0).name = OUTPUT_NAME
    network.mark_output(fc2.get_output(0))


def infer(engine: trt.ICudaEngine, image: np.ndarray) -> np.ndarray:
    """The tutorial's lines for buffers and asynchronous execution."""
    h_input = cuda.pagelocked_empty(engine.get_binding_shape(0).volume(), dtype=np.float32)
    h_output = cuda.pagelocked_empty(engine.get_binding_shape(1).volume(), dtype=np.float32)
    d_input = cuda.mem_alloc(h_input.nbytes)
    d_output = cuda.mem_alloc(h_output.nbytes)
    stream = cuda.Stream()
    np.copyto(h_input, image.ravel())
    with engine.create_execution_context() as context:
        cuda.memcpy_htod_async(d_input, h_input, stream)
        assert context.execute_async(bindings=[int(d_input), int(d_output)], stream_handle=stream.handle)
        cuda.memcpy_dtoh_async(h_output, d_output, stream)
        stream.synchronize()
        return h_output


def test_layer_by_layer_through_a_file(net: Net, era: str | None, tmp_path: Path) -> None:
    logger = trt.Logger(trt.Logger.ERROR)
    with trt.Builder(logger) as builder, builder.create_network() as network:
        add_layers(network, net)
        assert network.has_implicit_batch_dimension
        assert tuple(network.get_layer(0).get_output(0).shape) == (4, 24, 24)
        builder.max_batch_size = 3
        builder.max_workspace_size = 1 << 20
        with builder.build_cuda_engine(network) as engine, (tmp_path / "sample.engine").open("wb") as f:
            f.write(engine.serialize())
    with (tmp_path / "sample.engine").open("rb") as f, trt.Runtime(logger) as runtime:
        engine = runtime.deserialize_cuda_engine(f.read())
    assert engine.max_batch_size == 3
    assert [tuple(engine.get_binding_shape(i)) for i in (0, 1)] == [(1, 28, 28), (10, 1, 1)]
    rng = np.random.default_rng(5)
    for _ in range(3):
        image = rng.standard_normal((1, 1, 28, 28), np.float32)
        expected = net(torch.from_numpy(image)).detach().numpy()[0]
        np.testing.assert_allclose(infer(engine, image), expected, rtol=1e-4, atol=1e-5)


def test_a_batch_of_rows(net: Net) -> None:
    with eras.override("7"), trt.Builder(trt.Logger(trt.Logger.ERROR)) as builder, builder.create_network() as network:
        add_layers(network, net)
        builder.max_batch_size = 3
        engine = builder.build_cuda_engine(network)
        context = engine.create_execution_context()
        images = np.random.default_rng(6).standard_normal((3, 1, 28, 28), np.float32)
        out = np.zeros((3, 10), np.float32)
        assert context.execute(batch_size=3, bindings=[images.ctypes.data, out.ctypes.data])
        np.testing.assert_allclose(out, net(torch.from_numpy(images)).detach().numpy(), rtol=1e-4, atol=1e-5)
        assert not context.execute(batch_size=4, bindings=[images.ctypes.data, out.ctypes.data])


def onnx_bytes(net: Net) -> bytes:
    """The network as an ONNX model, written by hand."""
    weights = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    nodes = [
        helper.make_node("Conv", ["data", "conv1.weight", "conv1.bias"], ["c1"]),
        helper.make_node("MaxPool", ["c1"], ["p1"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p1", "conv2.weight", "conv2.bias"], ["c2"]),
        helper.make_node("MaxPool", ["c2"], ["p2"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["p2"], ["flat"]),
        helper.make_node("Gemm", ["flat", "fc1.weight", "fc1.bias"], ["f1"], transB=1),
        helper.make_node("Relu", ["f1"], ["r1"]),
        helper.make_node("Gemm", ["r1", "fc2.weight", "fc2.bias"], ["prob"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, [1, 1, 28, 28])],
        [helper.make_tensor_value_info("prob", TensorProto.FLOAT, [1, 10])],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return model.SerializeToString()


def test_from_onnx(net: Net, era: str | None) -> None:
    logger = trt.Logger(trt.Logger.ERROR)
    with (
        trt.Builder(logger) as builder,
        builder.create_network() as network,
        trt.OnnxParser(network, logger) as parser,
    ):
        with io.BytesIO(onnx_bytes(net)) as model:
            assert parser.parse(model.read())
        assert parser.num_errors == 0
        builder.max_batch_size = 1
        builder.max_workspace_size = 1 << 20
        engine = builder.build_cuda_engine(network)
    image = np.random.default_rng(7).standard_normal((1, 1, 28, 28), np.float32)
    expected = net(torch.from_numpy(image)).detach().numpy()[0]
    np.testing.assert_allclose(infer(engine, image), expected, rtol=1e-4, atol=1e-5)
