"""ONNX files in: what is imported, what is refused, and with which words."""

from __future__ import annotations

import contextlib
import os
import pickle
import zipfile

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper, numpy_helper

from trine.errors import ConfigError, ExternalDataError, InputError, ModelImportError, UnsupportedError
from trine.importers.onnx_file import import_onnx

RNG = np.random.default_rng(0)


def float_info(name, shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def model_of(nodes, inputs, outputs, initializers=(), opset=20, ir_version=10, functions=(), domains=()):
    graph = helper.make_graph(list(nodes), "net", inputs, outputs, list(initializers))
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir_version, functions=list(functions))


def linear(opset=20, ir_version=10, batch="n", weight=None):
    weight = RNG.standard_normal((8, 64)).astype(np.float32) if weight is None else weight
    return model_of(
        [helper.make_node("MatMul", ["x", "w"], ["h"], name="mm"), helper.make_node("Relu", ["h"], ["y"], name="relu")],
        [float_info("x", [batch, 8])],
        [float_info("y", [batch, 64])],
        [numpy_helper.from_array(weight, "w")],
        opset,
        ir_version,
    )


def test_imports_bytes_and_paths(tmp_path):
    model = linear()
    path = tmp_path / "linear.onnx"
    onnx.save(model, path)
    x = RNG.standard_normal((3, 8)).astype(np.float32)
    wanted = np.maximum(x @ numpy_helper.to_array(model.graph.initializer[0]), 0)
    for source in (model.SerializeToString(), path, str(path)):
        imported = import_onnx(source, {"x": x})
        assert np.allclose(imported.reference({"x": x})["y"], wanted, atol=1e-5)
        assert imported.example_inputs["x"] is not None
        assert [value.name for value in imported.model.graph.inputs] == ["x"]
        assert list(imported.model.graph.initializers) == ["w"]
        assert [str(dim) for dim in imported.model.graph.inputs[0].shape] == ["n", "8"]
    assert imported.name == "linear"
    assert imported.source == str(path)
    assert {"onnx", "onnxruntime"} <= set(imported.versions)


def test_every_value_has_a_shape():
    hidden = next(iter(import_onnx(linear().SerializeToString()).model.graph)).outputs[0]
    assert [str(dim) for dim in hidden.shape] == ["n", "64"]


def test_initializers_that_are_inputs_too_are_no_inputs():
    model = linear(opset=9, ir_version=3)
    model.graph.input.append(float_info("w", [8, 64]))
    imported = import_onnx(model.SerializeToString())
    assert [value.name for value in imported.model.graph.inputs] == ["x"]
    assert list(imported.example_inputs) == ["x"]


def test_unnamed_dimensions_get_names():
    model = model_of(
        [helper.make_node("Relu", ["x"], ["y"])], [float_info("x", [None, 3, None])], [float_info("y", [None, 3, None])]
    )
    shape = import_onnx(model.SerializeToString()).model.graph.inputs[0].shape
    assert [str(dim) for dim in shape] == ["batch", "3", "x_2"]


def test_an_unknown_rank_comes_from_the_example_or_the_shapes():
    model = model_of([helper.make_node("Relu", ["x"], ["y"])], [float_info("x", None)], [float_info("y", None)])
    data = model.SerializeToString()
    with pytest.raises(UnsupportedError, match="does not say how many dimensions"):
        import_onnx(data)
    assert import_onnx(data, shapes={"x": (2, 3)}).example_inputs["x"].shape == (2, 3)
    assert import_onnx(data, np.zeros((4, 1, 2), np.float32)).model.graph.inputs[0].shape.rank() == 3


class TestOpsets:
    def test_old_ones_are_raised_and_answer_alike(self):
        imported = import_onnx(linear(opset=7).SerializeToString())
        assert imported.model.opset_imports[""] == 20

    def test_what_cannot_be_converted_keeps_its_opset(self):
        branch = [helper.make_graph([helper.make_node("Relu", ["x"], ["b"])], "b", [], [float_info("b", [2])])] * 2
        model = model_of(
            [helper.make_node("If", ["c"], ["y"], then_branch=branch[0], else_branch=branch[1])],
            [helper.make_tensor_value_info("c", TensorProto.BOOL, []), float_info("x", [2])],
            [float_info("y", [2])],
            opset=11,
        )
        assert import_onnx(model.SerializeToString()).model.opset_imports[""] == 11

    def test_a_softmax_of_opset_12_keeps_its_meaning(self):
        model = model_of(
            [helper.make_node("Softmax", ["x"], ["y"], axis=1)],
            [float_info("x", [2, 3, 4])],
            [float_info("y", [2, 3, 4])],
            opset=12,
        )  # before 13, axes 1 and 2 were flattened together
        x = RNG.standard_normal((2, 3, 4)).astype(np.float32)
        imported = import_onnx(model.SerializeToString(), x)
        assert imported.reference({"x": x})["y"].reshape(2, -1).sum(1) == pytest.approx([1, 1])

    @pytest.mark.parametrize(("opset", "text"), [(5, "opset 5; supported: "), (999, "opset 999; onnx .* knows up to")])
    def test_others_are_refused(self, opset, text):
        with pytest.raises(UnsupportedError, match=text):
            import_onnx(linear(opset=opset).SerializeToString())

    def test_a_newer_ir_version_is_refused(self):
        with pytest.raises(UnsupportedError, match=r"IR version 99; onnx .* knows up to"):
            import_onnx(linear(ir_version=99).SerializeToString())

    def test_opset_6_is_taken_when_its_conversion_is_exact(self):
        assert import_onnx(linear(opset=6).SerializeToString()).model.opset_imports[""] == 20

    def test_one_that_no_backend_has_kernels_for_is_lowered(self):
        imported = import_onnx(linear(opset=onnx.defs.onnx_opset_version(), ir_version=13).SerializeToString())
        assert imported.model.opset_imports[""] == 25


class TestBadFiles:
    def test_no_such_file_folder_fifo(self, tmp_path):
        with pytest.raises(ModelImportError, match="no such file"):
            import_onnx(tmp_path / "absent.onnx")
        with pytest.raises(ModelImportError, match="is a folder"):
            import_onnx(tmp_path)
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ModelImportError, match="no ordinary file"):
            import_onnx(tmp_path / "pipe")

    def test_other_kinds_of_files_are_named(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
            archive.writestr("data.pkl", b"x")
        cases = [
            (b"", "is empty"),
            (b"hello, world\n" * 20, "no ONNX model"),
            (RNG.bytes(1000), "no ONNX model"),
            ((tmp_path / "model.pt").read_bytes(), "zip archive"),
            (pickle.dumps({"w": list(range(100))}), "pickle"),
            (b"\x89TRINE\r\n" + bytes(100), "trine engine"),
            (bytes(100), "no ONNX model"),
        ]
        for data, text in cases:
            with pytest.raises(ModelImportError, match=text):
                import_onnx(data)

    def test_every_truncation_is_an_error(self):
        data = linear(weight=np.ones((8, 64), np.float32)).SerializeToString()
        for end in range(0, len(data), 7):
            with pytest.raises(ModelImportError):
                import_onnx(data[:end])

    def test_an_invalid_graph_is_explained(self):
        model = linear()
        model.graph.node[1].input[0] = "nowhere"
        with pytest.raises(ModelImportError, match=r"not a valid ONNX model.*nowhere"):
            import_onnx(model.SerializeToString())

    @pytest.mark.parametrize(
        ("dims", "text"),
        [
            ([2**31, 2**31], "wanted"),
            ([2**62, 4, 8], "wanted"),
            ([-8, -64], "negative"),
            ([8, 63], "wanted"),
            ([9, 64], "wanted"),
        ],
    )
    def test_a_weight_whose_data_does_not_fit_its_shape(self, dims, text):
        model = linear()
        model.graph.initializer[0].dims[:] = dims
        with pytest.raises(ModelImportError, match=f"tensor 'w'.*{text}"):
            import_onnx(model.SerializeToString())

    def test_a_weight_without_data(self):
        model = linear()
        model.graph.initializer[0].ClearField("raw_data")
        with pytest.raises(ModelImportError, match="has 0 numbers, wanted 512"):
            import_onnx(model.SerializeToString())

    def test_names_that_are_no_text(self):
        data = linear().SerializeToString().replace(b"relu", b"re\xfflu"[:4])
        with pytest.raises(ModelImportError, match="no UTF-8"):
            import_onnx(data)

    @pytest.mark.parametrize("seed", range(20))
    def test_damaged_bytes_give_our_errors_only(self, seed):
        rng = np.random.default_rng(seed)
        data = bytearray(linear(opset=11).SerializeToString())
        for _ in range(3):
            data[int(rng.integers(0, len(data)) if rng.random() < 0.5 else rng.integers(0, 100))] = rng.integers(256)
        with contextlib.suppress(ModelImportError, ConfigError):
            import_onnx(bytes(data))

    def test_an_unknown_element_type(self):
        model = linear()
        model.graph.initializer[0].data_type = 99
        with pytest.raises(ModelImportError, match="99"):
            import_onnx(model.SerializeToString())


class TestUnsupported:
    def test_every_unknown_operator_is_listed(self):
        model = model_of(
            [
                helper.make_node("Frobnicate", ["x"], ["a"], name="f1", domain="acme"),
                helper.make_node("Relu", ["a"], ["b"], name="r"),
                helper.make_node("Twist", ["b"], ["y"], name="t1", domain="acme"),
            ],
            [float_info("x", [2])],
            [float_info("y", [2])],
            domains=["acme"],
        )
        with pytest.raises(
            UnsupportedError, match=r"'f1': operator acme::Frobnicate[\s\S]*'t1': operator acme::Twist"
        ) as info:
            import_onnx(model.SerializeToString())
        assert len(info.value.problems) == 2

    def test_an_unknown_operator_of_onnx_itself(self):
        model = linear()
        model.graph.node[1].op_type = "Reloo"
        with pytest.raises(UnsupportedError, match=r"ai.onnx::Reloo: no such operator"):
            import_onnx(model.SerializeToString())

    def test_sequences_are_named(self):
        sequence = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, [2])
        model = model_of(
            [helper.make_node("SequenceLength", ["s"], ["y"])],
            [sequence],
            [helper.make_tensor_value_info("y", TensorProto.INT64, [])],
        )
        with pytest.raises(UnsupportedError, match="input 's' is a sequence"):
            import_onnx(model.SerializeToString())

    def test_sparse_weights_and_training(self):
        model = linear()
        values = numpy_helper.from_array(np.ones(1, np.float32), "sp")
        indices = numpy_helper.from_array(np.zeros(1, np.int64), "i")
        model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4]))
        model.training_info.add()
        with pytest.raises(UnsupportedError, match=r"training[\s\S]*'sp' is sparse"):
            import_onnx(model.SerializeToString())

    def test_random_numbers(self):
        model = model_of(
            [helper.make_node("RandomNormalLike", ["x"], ["y"], name="noise")],
            [float_info("x", [2])],
            [float_info("y", [2])],
        )
        with pytest.raises(UnsupportedError, match="'noise': operator RandomNormalLike draws random numbers"):
            import_onnx(model.SerializeToString())

    def test_functions_are_inlined(self):
        function = helper.make_function(
            "acme", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 20)]
        )
        model = model_of(
            [helper.make_node("Twice", ["x"], ["y"], domain="acme")],
            [float_info("x", [2])],
            [float_info("y", [2])],
            functions=[function],
            domains=["acme"],
        )
        imported = import_onnx(model.SerializeToString())
        assert [node.op_type for node in imported.model.graph] == ["Add"]
        assert imported.reference({"x": np.ones(2, np.float32)})["y"].tolist() == [2, 2]


class TestExternalData:
    @pytest.fixture
    def path(self, tmp_path):
        path = tmp_path / "net.onnx"
        model = linear(weight=np.ones((8, 64), np.float32))
        onnx.save(model, path, save_as_external_data=True, location="net.data", size_threshold=0)
        return path

    def test_is_read_and_used_by_model_and_reference(self, path):
        imported = import_onnx(path)
        assert imported.model.graph.initializers["w"].const_value.numpy().tolist() == np.ones((8, 64)).tolist()
        assert imported.reference({"x": np.ones((1, 8), np.float32)})["y"].tolist() == [[8.0] * 64]

    def test_bytes_cannot_have_any(self, path):
        with pytest.raises(ExternalDataError, match="give the model's path"):
            import_onnx(path.read_bytes())

    @pytest.mark.parametrize(
        ("key", "value", "text"),
        [
            ("location", "../net.data", "leaves"),
            ("length", "12", "length 12"),
            ("offset", "-4", "whole number"),
            ("offset", "4096", "only 2048"),
        ],
    )
    def test_entries_are_checked(self, path, key, value, text):
        model = onnx.load(path, load_external_data=False)
        for entry in model.graph.initializer[0].external_data:
            if entry.key == key:
                entry.value = value
                break
        else:
            model.graph.initializer[0].external_data.add(key=key, value=value)
        path.write_bytes(model.SerializeToString())
        with pytest.raises(ExternalDataError, match=text):
            import_onnx(path)

    def test_a_huge_declared_shape_allocates_nothing(self, path):
        model = onnx.load(path, load_external_data=False)
        tensor = model.graph.initializer[0]
        tensor.dims[:] = [2**40, 2**20]
        del tensor.external_data[:]
        tensor.external_data.add(key="location", value="net.data")
        path.write_bytes(model.SerializeToString())
        with pytest.raises(ExternalDataError, match="only 2048 bytes"):
            import_onnx(path)


class TestExampleInputs:
    def data(self):
        return linear().SerializeToString()

    def test_are_seeded(self):
        first, again, other = (import_onnx(self.data(), seed=seed).example_inputs["x"] for seed in (1, 1, 2))
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)
        assert first.shape == (1, 8)

    def test_take_shapes_and_batch(self):
        assert import_onnx(self.data(), shapes={"x": (5, 8)}).example_inputs["x"].shape == (5, 8)
        assert import_onnx(self.data(), batch=3).example_inputs["x"].shape == (3, 8)
        assert import_onnx(self.data(), batch=(1, 6, 9)).example_inputs["x"].shape == (6, 8)

    def test_one_array_may_stand_alone_and_float64_is_converted(self):
        assert import_onnx(self.data(), np.zeros((2, 8))).example_inputs["x"].dtype == np.float32

    @pytest.mark.parametrize(
        ("given", "text"),
        [
            ({"z": np.zeros((1, 8))}, r"unknown \['z'\] and missing \['x'\]"),
            ((np.zeros((1, 8)),) * 2, "got 2, wanted 1"),
            (np.zeros((1, 9), np.float32), "axis 1 must be 8, got 9"),
            (np.zeros(8, np.float32), "expected 2 dimensions"),
            (np.zeros((1, 8), np.complex64), "expected dtype float32, got complex64"),
        ],
    )
    def test_wrong_ones_are_refused(self, given, text):
        with pytest.raises(InputError, match=text):
            import_onnx(self.data(), given)

    def test_wrong_shapes_are_refused(self):
        with pytest.raises(ConfigError, match="no input 'z'"):
            import_onnx(self.data(), shapes={"z": (1,)})
        with pytest.raises(ConfigError, match=r"got \[1, 9\], the model takes"):
            import_onnx(self.data(), shapes={"x": (1, 9)})

    def test_a_guess_that_does_not_run_asks_for_shapes(self):
        kernel = numpy_helper.from_array(np.ones((1, 3, 5, 5), np.float32), "k")
        model = model_of(
            [helper.make_node("Conv", ["x", "k"], ["y"])],
            [float_info("x", ["n", 3, "h", "w"])],
            [float_info("y", ["n", 1, "oh", "ow"])],
            [kernel],
        )
        with pytest.raises(ConfigError, match=r"'x' axis 2 \(h\), 'x' axis 3 \(w\)"):
            import_onnx(model.SerializeToString())
        assert import_onnx(model.SerializeToString(), shapes={"x": (2, 3, 9, 9)}).example_inputs["x"].shape[0] == 2


def test_narrow_types_pass_through_the_reference():
    import ml_dtypes

    for number, dtype in (
        (TensorProto.BFLOAT16, ml_dtypes.bfloat16),
        (TensorProto.INT4, ml_dtypes.int4),
        (TensorProto.FLOAT8E5M2, ml_dtypes.float8_e5m2),
        (TensorProto.UINT2, ml_dtypes.uint2),
    ):
        model = model_of(
            [
                helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
                helper.make_node("Cast", ["f"], ["y"], to=number),
            ],
            [helper.make_tensor_value_info("x", number, [3])],
            [helper.make_tensor_value_info("y", number, [3])],
            opset=25,
            ir_version=13,
        )
        x = np.array([0, 1, 2], dtype)
        answer = import_onnx(model.SerializeToString(), x).reference({"x": x})["y"]
        assert answer.dtype == x.dtype
        assert answer.tolist() == x.tolist()
