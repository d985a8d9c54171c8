"""The network itself: inputs, outputs, names, changes, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from network_runs import answer, answers, start

import trine
from trine.dtypes import DataType
from trine.errors import ConfigError
from trine.network import Layer, Network

X = np.linspace(-2, 1.5, 8, dtype=np.float32).reshape(2, 4)
IMAGE = np.linspace(-1, 1, 75, dtype=np.float32).reshape(1, 3, 5, 5)


def test_the_example_of_the_class_docstring_builds() -> None:
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((8, 3, 3, 3)).astype(np.float32)
    network = trine.Network("small")
    x = network.add_input("x", "float32", ("batch", 3, 8, 8))
    convolution = network.add_convolution_nd(x, 8, (3, 3), kernel, np.zeros(8, np.float32))
    convolution.padding_nd = (1, 1)
    network.mark_output(network.add_activation(convolution.get_output(0), "RELU").get_output(0))
    engine = trine.build(network, batch=(1, 2, 4))
    assert engine.manifest.name == "small"
    assert "network 'small'" in engine.manifest.source
    image = rng.standard_normal((3, 3, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(engine(image), answers(network, {"x": image})[0], rtol=1e-4, atol=1e-5)
    assert (engine(image) >= 0).all()


def test_shapes_and_dtypes_are_known_at_once() -> None:
    network = Network()
    x = network.add_input("x", np.float16, (-1, 3, -1, 5))
    assert (x.shape, x.dtype, x.is_network_input) == (("batch", 3, "x_2", 5), DataType.FLOAT16, True)
    layer = network.add_reduce(x, "SUM", axes=1 << 3, keep_dims=False)
    assert layer.get_output(0).shape == ("batch", 3, "x_2")
    shape = network.add_shape(x).get_output(0)
    height = network.add_slice(shape, [2], [1], [1]).get_output(0)
    minus = network.add_constant([-1]).get_output(0)
    shuffle = network.add_shuffle(x)
    joined = network.add_concatenation([minus, height])
    shuffle.set_input(1, joined.get_output(0))
    assert shuffle.get_output(0).shape is not None
    assert shuffle.get_output(0).shape[1] == "x_2"


def test_inputs_can_be_changed_and_all_behind_follows() -> None:
    network = Network()
    x = network.add_input("x", "float32", (2, 6))
    out = network.add_softmax(network.add_identity(x).get_output(0)).get_output(0)
    x.shape = (3, 4)
    assert out.shape == (3, 4)
    x.dtype = "float16"
    assert out.dtype is DataType.FLOAT16
    with pytest.raises(ConfigError, match=r"layer 'softmax_1' \(SOFTMAX\): Softmax does not take int64 as its input 0"):
        x.dtype = "int64"
    assert (x.dtype, out.dtype) == (DataType.FLOAT16, DataType.FLOAT16)
    with pytest.raises(ConfigError, match="only an input's shape can be set"):
        out.shape = (1,)


def test_a_changed_layer_changes_what_is_behind_it() -> None:
    network, (x,) = start(x=IMAGE)
    kernel = np.ones((2, 3, 3, 3), np.float32)
    convolution = network.add_convolution_nd(x, 2, (3, 3), kernel)
    head = network.add_fully_connected(convolution.get_output(0), 4, np.ones((4, 18), np.float32))
    with pytest.raises(ConfigError, match=r"layer 'fully_connected_1' .*kernel has 72 weights.*wanted 200"):
        convolution.padding_nd = 1
    assert convolution.padding_nd == (0, 0)
    assert head.get_output(0).shape == (1, 4, 1, 1)
    assert answer(network, head, x=IMAGE).shape == (1, 4, 1, 1)


def test_a_layer_may_make_sense_only_when_its_properties_are_set() -> None:
    network, (x,) = start(x=IMAGE)
    layer = network.add_convolution_nd(x, 1, 7, np.ones((1, 3, 7, 7), np.float32), name="wide")
    with pytest.raises(ConfigError, match=r"layer 'wide' \(CONVOLUTION\): the window covers 7 .* has only 5; set"):
        _ = layer.get_output(0).shape
    with pytest.raises(ConfigError, match="layer 'wide'"):
        network.add_identity(layer.get_output(0))
    with pytest.raises(ConfigError, match="layer 'wide'"):
        network.mark_output(layer.get_output(0))
    layer.padding_nd = (1, 1)
    assert layer.get_output(0).shape == (1, 1, 1, 1)
    np.testing.assert_allclose(answer(network, layer, x=IMAGE), IMAGE.sum().reshape(1, 1, 1, 1), atol=1e-4)


def test_names_objects_and_outputs() -> None:
    network, (x,) = start(x=X)
    layer = network.add_node("Split", [x], {"axis": 1, "num_outputs": 2}, outputs=2, name="halves")
    assert (layer.name, layer.num_outputs, layer.get_output(1).name) == ("halves", 2, "halves_output_1")
    assert layer.get_output(1) is layer.get_output(1)
    assert network.get_layer(0) is layer
    assert layer.get_input(0) is x
    assert layer.get_output(1).layer is layer
    assert "(2, 2)" in repr(layer.get_output(1))
    layer.name = "split"
    assert layer.get_output(0).name == "split_output_0"
    with pytest.raises(ConfigError, match=r"layer 'split' \(Split\) has 2 output\(s\), so no 2"):
        layer.get_output(2)
    layer.get_output(1).name = "right"
    network.mark_output(layer.get_output(1))
    assert layer.get_output(1).is_network_output
    assert [value.name for value in network.to_model().graph.outputs] == ["right"]
    assert [node.name for node in network.to_model().graph] == ["split"]
    network.unmark_output(layer.get_output(1))
    assert network.num_outputs == 0


def test_only_what_the_outputs_need_is_written_and_names_are_made_different() -> None:
    network, (x,) = start(x=X)
    network.add_unary(x, "EXP")
    a = network.add_unary(x, "ABS", name="same")
    b = network.add_unary(a.get_output(0), "NEG", name="same")
    got = answer(network, b, x=X)
    np.testing.assert_array_equal(got, -np.abs(X))
    names = [node.name for node in network.to_model().graph]
    assert len(names) == len(set(names)) == 2


def test_inputs_and_constants_can_be_outputs() -> None:
    network, (x,) = start(x=X)
    network.mark_output(x)
    network.mark_output(network.add_constant(np.arange(3)).get_output(0))
    same, numbers = answers(network, {"x": X})
    np.testing.assert_array_equal(same, X)
    np.testing.assert_array_equal(numbers, [0, 1, 2])


def test_inputs_of_layers_can_be_replaced_but_not_go_round() -> None:
    network, (x,) = start(x=X)
    first = network.add_unary(x, "ABS")
    last = network.add_unary(first.get_output(0), "NEG")
    later = network.add_unary(x, "EXP")
    with pytest.raises(ConfigError, match="computed from this layer's own output"):
        first.set_input(0, last.get_output(0))
    with pytest.raises(ConfigError, match="has inputs 0 to 0, so no 1"):
        first.set_input(1, x)
    last.set_input(0, later.get_output(0))
    np.testing.assert_allclose(answer(network, last, x=X), -np.exp(X), rtol=1e-6)


def test_tensors_can_be_removed_when_nothing_uses_them() -> None:
    network, (x,) = start(x=X)
    spare = network.add_input("spare", "float32", (1,))
    network.add_identity(x)
    with pytest.raises(ConfigError, match=r"tensor 'x' is an input of layer 'identity_1'"):
        network.remove_tensor(x)
    network.remove_tensor(spare)
    assert [tensor.name for tensor in network.inputs] == ["x"]
    with pytest.raises(ConfigError, match="'spare', which was removed"):
        network.add_identity(spare)


def test_mistakes_are_refused_where_they_are_made() -> None:
    network, (x,) = start(x=X)
    other, (foreign,) = start(y=X)
    whole = network.add_constant(np.arange(4)).get_output(0)
    cases = [
        (lambda: network.add_activation(x, "RELUX"), "ActivationType 'RELUX' is unknown; allowed: RELU, SIGMOID"),
        (lambda: network.add_identity(network.add_identity(x)), "expected a Tensor of the network, got IdentityLayer"),
        (lambda: network.add_identity(foreign), "'y' of the network 'tested'; tensors cannot go"),
        (lambda: network.add_node("Relux", [x]), "ONNX opset 23 has no operator 'Relux'"),
        (lambda: network.add_node("Relu", [x, x]), "Relu takes 1 inputs, got 2"),
        (lambda: network.add_elementwise(x, whole, "SUM"), "inputs 0 and 1 of one dtype, got float32 and int64"),
        (lambda: network.add_unary(whole, "EXP"), "Exp does not take int64 as its input 0"),
        (lambda: network.add_input("x", "float32", (1,)), "has an input 'x' already"),
        (lambda: network.add_input("z", "float33", (1,)), "'float33' is no dtype"),
        (lambda: network.add_input("z", "float32", (1.5,)), "dimension 0 is 1.5"),
        (lambda: network.add_elementwise(x, network.add_constant(np.ones(3, "f")).get_output(0), "SUM"), "ELEMENTWISE"),
        (lambda: Network(""), "not empty"),
        (lambda: other.mark_output(x), "tensor 'x' is not in the network"),
    ]
    layers = network.num_layers
    for make, text in cases:
        with pytest.raises(ConfigError, match=text):
            make()
    assert network.num_layers <= layers + 2  # what was refused was not added


def test_a_network_that_is_not_finished_is_refused() -> None:
    network, (x,) = start(x=X)
    with pytest.raises(ConfigError, match=r"network 'tested' has no outputs; mark one"):
        network.to_model()
    layer = network.add_identity(x)
    layer.get_output(0).name = "x"
    network.mark_output(layer.get_output(0))
    with pytest.raises(ConfigError, match="two inputs or outputs are called 'x'"):
        network.to_onnx()
    with pytest.raises(ConfigError, match="is an output of the network already"):
        network.mark_output(layer.get_output(0))


def test_other_domains_are_written_and_stay_unknown() -> None:
    network, (x,) = start(x=X)
    made = network.add_node("Mystery", [x, None], domain="com.example")
    assert isinstance(made, Layer)
    assert (made.get_output(0).shape, made.get_output(0).dtype) == (None, None)
    with pytest.raises(ConfigError, match="its input 'mystery_1_output' is not known"):
        _ = network.add_softmax(made.get_output(0)).axes
    with pytest.raises(ConfigError, match="cannot be an output: an operator that ONNX does not know"):
        network.mark_output(made.get_output(0))


def test_a_deep_network_needs_no_recursion() -> None:
    network, (x,) = start(x=X)
    tensor = x
    for _ in range(1200):
        tensor = network.add_unary(tensor, "NEG").get_output(0)
    network.mark_output(tensor)
    assert len(network.to_model().graph) == 1200


def test_weights_are_copied_when_the_layer_is_made() -> None:
    network, _ = start(x=X)
    array = np.ones(3, np.float32)
    layer = network.add_constant(array)
    array[:] = 5
    np.testing.assert_array_equal(answer(network, layer, x=X), np.ones(3, np.float32))


def test_constants_whose_weights_do_not_fill_the_shape_are_refused() -> None:
    network = Network()
    with pytest.raises(ConfigError, match=r"five: 5 weights do not fill the shape \(2, 3\)"):
        network.add_constant((2, 3), np.zeros(5, np.float32), name="five")
    assert network.num_layers == 0
