"""PyTorch modules in, graphs that answer as they do out; and clear errors where that cannot be."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest
import torch
import user_models as user
from torch import nn

from trine import structure
from trine.errors import ConfigError, InputError, ModelImportError, UnsupportedError
from trine.importers import ImportedModel, import_model
from trine.importers.eager import plain_transformers
from trine.importers.graph_runner import GraphRunner
from trine.importers.torch_export import OPSET


def rand(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def shapes(imported: ImportedModel) -> dict[str, list[Any]]:
    graph = imported.model.graph
    return {
        str(value.name): [dim if isinstance(dim, int) else str(dim.value) for dim in value.shape or ()]
        for value in [*graph.inputs, *graph.outputs]
    }


def assert_same_answers(imported: ImportedModel, inputs: Mapping[str, torch.Tensor]) -> None:
    """The graph gives what the reference gives; both by name."""
    arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
    want, got = imported.reference(arrays), GraphRunner(imported.model)(arrays)
    assert list(want) == list(got)
    for name, expected in want.items():
        assert got[name].dtype == expected.dtype
        np.testing.assert_allclose(got[name], expected, rtol=1e-4, atol=1e-5)


def test_a_classifier_comes_in_whole() -> None:
    torch.manual_seed(0)
    model = user.Small()
    imported = import_model(model, rand(1, 3, 8, 8))
    assert shapes(imported) == {"image": ["batch", 3, 8, 8], "output": ["batch", 5]}
    assert imported.name == "Small"
    assert imported.source == "torch.nn.Module user_models.Small"
    assert imported.model.opset_imports[""] == OPSET
    assert list(imported.example_inputs) == ["image"]
    assert set(imported.versions) == {"torch", "onnx", "onnx_ir", "onnxscript"}
    assert {"conv.weight", "norm.running_mean", "head.bias"} <= set(imported.model.graph.initializers)
    onnx.checker.check_model(ir.to_proto(imported.model), full_check=True)
    for batch in (1, 2, 5):
        assert_same_answers(imported, {"image": rand(batch, 3, 8, 8)})


def test_the_module_comes_back_as_it_was() -> None:
    model = user.Small().train()
    model.norm.eval()
    model.conv.weight.requires_grad_(False)
    modes = [each.training for each in model.modules()]
    values = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    pointers = {name: tensor.data_ptr() for name, tensor in model.state_dict().items()}
    imported = import_model(model, rand(2, 3, 8, 8))
    imported.reference({"image": rand(2, 3, 8, 8).numpy()})
    assert [each.training for each in model.modules()] == modes
    assert not model.conv.weight.requires_grad
    assert model.head.weight.requires_grad
    assert model.head.weight.grad is None
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, values[name])
        assert tensor.data_ptr() == pointers[name]


@pytest.mark.parametrize("forward", [user.branch_on_values, user.fails_in_eager])
def test_modes_come_back_after_errors(forward: Any) -> None:
    model = user.module(forward, part=nn.Dropout()).train()
    model.part.eval()
    with pytest.raises(ModelImportError):
        import_model(model, rand(2, 4))
    assert model.training
    assert not model.part.training


def test_weights_are_not_copied() -> None:
    model = nn.Linear(64, 64)
    imported = import_model(model, rand(1, 64))
    weight = imported.model.graph.initializers["weight"].const_value
    assert weight is not None
    assert weight.numpy().ctypes.data == model.weight.data_ptr()


def test_tied_weights_are_stored_once() -> None:
    model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16))
    model[1].weight = model[0].weight
    imported = import_model(model, rand(1, 16))
    large = [each for each in imported.model.graph.initializers.values() if list(each.shape or ()) == [16, 16]]
    assert len(large) == 1


def test_names_and_nesting_follow_the_signature() -> None:
    model = user.module(user.nested)
    example = {"a": rand(2, 4), "b": (rand(2, 4), rand(2, 1))}
    imported = import_model(model, {"d": example, "scale": 2.0})
    assert shapes(imported) == {
        "d.a": ["batch", 4],
        "d.b.0": ["batch", 4],
        "d.b.1": ["batch", 1],
        "logits": ["batch", 4],
        "extra.left": ["batch", 1],
        "extra.right.0": ["batch"],
    }
    inputs = {"d.a": rand(3, 4), "d.b.0": rand(3, 4), "d.b.1": rand(3, 1)}
    assert_same_answers(imported, inputs)
    flat = structure.flatten_call(imported.input_structure, (), {"d": example})
    answer = structure.rebuild(imported.output_structure, imported.reference({k: v.numpy() for k, v in flat.items()}))
    want = model(example, scale=2.0)
    np.testing.assert_allclose(answer.logits, want.logits, rtol=1e-6)
    assert answer.extra.right[1:] == [None, 3]


def test_outputs_of_every_kind() -> None:
    model = user.module(user.awkward_outputs, weight=nn.Parameter(rand(2, 2)))
    imported = import_model(model, (rand(2, 3), rand(2, 3)))
    names = ["passed", "twice", "again", "view", "constant", "weight"]
    assert [value.name for value in imported.model.graph.outputs] == names
    assert shapes(imported)["y"] == ["batch", 3]
    assert imported.output_structure["items"][-1] == {"kind": "constant", "value": 3}
    assert_same_answers(imported, {"x": rand(4, 3), "y": rand(4, 3)})


def test_several_inputs_with_and_without_batch() -> None:
    imported = import_model(user.module(user.masked), (rand(1, 4), torch.tensor([True, False, True, True])))
    assert shapes(imported) == {"x": ["batch", 4], "mask": [4], "output": ["batch"]}
    assert_same_answers(imported, {"x": rand(3, 4), "mask": torch.tensor([False, True, True, False])})


def test_an_unused_input_stays_an_input() -> None:
    imported = import_model(user.module(user.ignores_second), (rand(2, 4), rand(2, 4)))
    assert shapes(imported) == {"x": ["batch", 4], "unused": ["batch", 4], "output": ["batch", 4]}


def test_inputs_are_not_written_to() -> None:
    x = rand(2, 4)
    before = x.clone()
    imported = import_model(user.module(user.writes_to_its_input), x)
    assert torch.equal(x, before)
    assert_same_answers(imported, {"x": rand(3, 4)})


def test_a_buffer_that_forward_writes_to_is_put_back(caplog: pytest.LogCaptureFixture) -> None:
    model = user.module(user.counts_calls, calls=torch.tensor(1.0))
    imported = import_model(model, rand(2, 4))
    assert "writes to its buffer(s) 'calls' in every call" in caplog.text
    assert float(model.calls) == 1.0
    assert_same_answers(imported, {"x": rand(2, 4)})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_stay_what_they_are(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)).to(dtype)
    imported = import_model(model, rand(2, 3, 6, 6).to(dtype))
    assert imported.reference(imported.example_inputs)["output"].dtype == imported.example_inputs["input"].dtype
    assert str(imported.example_inputs["input"].dtype) == str(dtype).removeprefix("torch.")


def test_integer_inputs() -> None:
    torch.manual_seed(0)
    imported = import_model(nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 2)), torch.randint(0, 9, (2, 5)))
    assert imported.example_inputs["input"].dtype == np.int64
    assert shapes(imported)["output"] == ["batch", 5, 2]


class Gate(nn.Module):
    """Weight norm, attention, einsum, resizing and in-place arithmetic in one."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.linear(x)
        y += self.attention(y, y, y, need_weights=False)[0]
        y = nn.functional.scaled_dot_product_attention(y, y, self.encoder(y), is_causal=True)
        y = torch.einsum("bsd,btd->bst", y, x)
        grid = torch.stack([y.tanh()[:, :, :4], y.tanh()[:, :, :4] * 0.5], -1)
        y = nn.functional.grid_sample(y[:, None], grid, align_corners=False)
        return nn.functional.interpolate(y, scale_factor=2, mode="bilinear")


def test_a_transformer_with_a_little_of_everything() -> None:
    torch.manual_seed(0)
    imported = import_model(Gate(), rand(1, 6, 8))
    assert_same_answers(imported, {"x": rand(3, 6, 8)})


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_recurrent_layers(kind: Any) -> None:
    torch.manual_seed(0)
    imported = import_model(kind(4, 5, num_layers=2, batch_first=True, bidirectional=True), rand(1, 3, 4))
    assert shapes(imported)["output_0"] == ["batch", 3, 10]
    assert_same_answers(imported, {"input": rand(3, 3, 4)})


def test_other_dims_can_be_dynamic() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.AdaptiveAvgPool2d(1))
    imported = import_model(model, rand(1, 3, 8, 8), dynamic_axes={"input": {2: "height", -1: "width"}})
    assert shapes(imported)["input"] == ["batch", 3, "height", "width"]
    assert_same_answers(imported, {"input": rand(2, 3, 9, 14)})


def test_a_fixed_batch_can_be_asked_for() -> None:
    assert shapes(import_model(user.Small(), rand(1, 3, 8, 8), batch="static"))["image"] == [1, 3, 8, 8]


@pytest.mark.parametrize(
    ("forward", "code"),
    [
        (user.loop_over_batch, "rows = [row * 2 for row in x]"),
        (user.fixed_view, "return x.view(2, -1) * 3"),
    ],
)
def test_a_batch_that_cannot_be_dynamic(forward: Any, code: str, caplog: pytest.LogCaptureFixture) -> None:
    imported = import_model(user.module(forward), rand(2, 4))
    assert shapes(imported)["x"] == [2, 4]
    assert user.line_of(code) in caplog.text
    with pytest.raises(ModelImportError, match="cannot take a dynamic 'batch'") as caught:
        import_model(user.module(forward), rand(2, 4), batch="dynamic")
    assert user.line_of(code) in str(caught.value)


def test_an_input_that_shares_the_batch_s_size_by_accident(caplog: pytest.LogCaptureFixture) -> None:
    model = user.module(user.second_input_is_fixed)
    for batch in ("auto", "dynamic"):
        imported = import_model(model, (rand(2, 4), rand(2, 4)), batch=batch)
        assert shapes(imported) == {"x": ["batch", 4], "table": [2, 4], "output": ["batch", 2]}
    assert "fixes dim 0 of input 'table'" in caplog.text
    assert_same_answers(imported, {"x": rand(3, 4), "table": rand(2, 4)})


@pytest.mark.parametrize("leading", [(), (2,), (3, 2, 4)])
@pytest.mark.parametrize("mask", [False, True])
def test_attention_of_any_rank(leading: tuple[int, ...], mask: bool) -> None:
    def attend(self: Any, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        return nn.functional.scaled_dot_product_attention(x, x * 2, x + 1, bias, 0.0, bias is None)

    bias = rand(*leading[:1], *[1] * len(leading[1:]), 5, 5)
    example = (rand(*leading, 5, 8), bias) if mask else rand(*leading, 5, 8)
    imported = import_model(user.module(attend), example)
    assert "Attention" in [node.op_type for node in imported.model.graph]


@pytest.mark.parametrize("heads", [(1,), ()])
def test_attention_of_many_heads_over_one_of_keys(heads: tuple[int, ...]) -> None:
    def attend(self: Any, x: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        return nn.functional.scaled_dot_product_attention(x, keys, keys + 1)

    imported = import_model(user.module(attend), (rand(2, 4, 5, 8), rand(*[2] * len(heads), *heads, 6, 8)))
    if heads:
        assert_same_answers(imported, {"x": rand(3, 4, 5, 8), "keys": rand(3, 1, 6, 8)})


def test_tensor_data_and_constants_made_in_forward() -> None:
    imported = import_model(user.module(user.own_data), rand(2, 4))
    assert_same_answers(imported, {"x": rand(3, 4)})


def test_a_number_made_from_the_batch_fixes_it(caplog: pytest.LogCaptureFixture) -> None:
    imported = import_model(user.module(user.returns_batch_size), rand(2, 4))
    assert shapes(imported)["x"] == [2, 4]
    assert "returns a number that depends on an input's size" in caplog.text
    with pytest.raises(ModelImportError, match="returns a number that depends on an input's size"):
        import_model(user.module(user.returns_batch_size), rand(2, 4), batch="dynamic")


def test_branching_on_values_names_the_line_and_the_cure() -> None:
    with pytest.raises(ModelImportError) as caught:
        import_model(user.module(user.branch_on_values), rand(2, 4))
    text = str(caught.value)
    assert user.line_of("if x.sum() > 0:") in text
    assert "torch.where" in text
    assert "torch.cond" in text
    assert "Traceback" not in text
    assert caught.value.__cause__ is not None


def test_leaving_pytorch_names_the_line() -> None:
    with pytest.raises(ModelImportError) as caught:
        import_model(user.module(user.through_numpy), rand(2, 4))
    assert user.line_of("scale = float(x.detach().cpu().numpy().mean())") in str(caught.value)
    assert "would be frozen" in str(caught.value)


def test_a_value_that_stays_in_pytorch_is_followed() -> None:
    imported = import_model(user.module(user.through_item), rand(2, 4))
    assert_same_answers(imported, {"x": rand(3, 4)})


def test_every_unsupported_operator_is_named_with_its_line() -> None:
    with pytest.raises(UnsupportedError) as caught:
        import_model(user.module(user.two_unsupported), rand(4, 4))
    svd, qr = caught.value.problems
    assert svd.startswith("aten._linalg_svd")
    assert svd.endswith(user.line_of("singular = torch.linalg.svdvals(x)"))
    assert qr.startswith("aten.linalg_qr")
    assert qr.endswith(user.line_of("orthogonal = torch.linalg.qr(x)[0]"))
    assert all(problem in str(caught.value) for problem in caught.value.problems)


def test_a_model_that_fails_by_itself() -> None:
    with pytest.raises(ModelImportError, match=r"itself fails on the example inputs \(x: \(2, 4\) torch.float32\)"):
        import_model(user.module(user.fails_in_eager), rand(2, 4))


def test_a_float64_example_names_the_weights_type() -> None:
    with pytest.raises(ModelImportError, match=r"torch.float64\).*its weights are torch.float32"):
        import_model(nn.Linear(4, 4), rand(2, 4).double())


def test_random_answers_are_refused() -> None:
    with pytest.raises(ModelImportError, match="answers differently each time"):
        import_model(user.module(user.random_numbers), rand(2, 4))


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_what_is_no_module_is_told_so() -> None:
    script = torch.jit.script(nn.Linear(4, 4))
    for given, text in [
        (script, "TorchScript"),
        (nn.Linear, "is a class; pass an instance"),
        (lambda x: x, "expected a torch.nn.Module, got the function"),
        (torch.relu, "expected a torch.nn.Module, got the function"),
        ({"weight": 1}, "expected a torch.nn.Module, got dict"),
        (nn.Linear(4, 4, device="meta"), "'weight' is on the meta device"),
        (nn.LazyLinear(4), "'weight' of a lazy module has no shape yet"),
    ]:
        with pytest.raises(ModelImportError, match=text):
            import_model(given, rand(2, 4))


def test_example_inputs_that_do_not_fit() -> None:
    model = nn.Linear(4, 4)
    for example, text in [
        (None, "needs example inputs"),
        ((), "do not fit Linear.forward"),
        ((rand(2, 4), rand(2, 4)), "do not fit Linear.forward"),
        ({"inputs": rand(2, 4)}, "do not fit Linear.forward"),
        ((3,), "hold no tensor"),
        (({1, 2},), "'input' is a builtins.set"),
        (rand(0, 4), "no row to check answers with"),
        (torch.ones(2, 4, dtype=torch.complex64), "dense real"),
    ]:
        with pytest.raises(ModelImportError, match=text):
            import_model(model, example)


def test_what_is_no_module_says_what_to_give() -> None:
    onnx_model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[1] x) => (float[1] y) {y = Relu(x)}'
    )
    exported = torch.export.export(nn.Linear(4, 4), (rand(2, 4),))
    for model, text in [
        (onnx_model, r"its bytes: model.SerializeToString\(\)"),
        (exported, r"pass its .module\(\)"),
        (nn.Linear(4, 4).state_dict(), "weights alone are no model"),
        (abs, "wrap it in a module whose forward calls it"),
    ]:
        with pytest.raises(ModelImportError, match=text):
            import_model(model, rand(2, 4))


def test_unknown_options_say_what_is_allowed() -> None:
    model, x = nn.Linear(4, 4), rand(2, 4)
    for options, text in [
        ({"batch": "maybe"}, "allowed: 'auto', 'dynamic', 'static'"),
        ({"dynamic_axes": "all"}, "dynamic_axes 'all' is unknown"),
        ({"dynamic_axes": {"x": {0: "n"}}}, "names the input 'x'; the inputs are input"),
        ({"dynamic_axes": {"input": {2: "n"}}}, "has 2 dims, so no axis 2"),
        ({"dynamic_axes": {"input": {0: "1n"}}}, "'1n' is no name for a dim"),
        ({"shapes": {"input": (1, 4)}}, "shapes are for ONNX models"),
    ]:
        with pytest.raises(ConfigError, match=text):
            import_model(model, x, **options)


@pytest.mark.filterwarnings("ignore:.*torch.jit")  # torch.compile loads what warns of itself
def test_a_compiled_module_is_imported_as_it_was_written() -> None:
    imported = import_model(torch.compile(user.Small()), rand(1, 3, 8, 8))
    assert imported.name == "Small"
    assert "conv.weight" in imported.model.graph.initializers


def test_numpy_arrays_are_examples_too() -> None:
    imported = import_model(nn.Linear(4, 4), np.ones((1, 4), np.float32))
    assert shapes(imported)["input"] == ["batch", 4]


def test_stages_are_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    heard: list[str] = []
    import_model(nn.Linear(4, 4), rand(1, 4), on_stage=heard.append)
    assert heard == ["run eager", "trace", "translate", "check against eager"]
    assert not caplog.records


class _Masked(nn.Module):
    def forward(
        self, x: torch.Tensor, bias: torch.Tensor | None = None, mask: torch.Tensor | None = None, *, scale: float = 1.0
    ) -> torch.Tensor:
        x = x if bias is None else x + bias
        return scale * (x if mask is None else x * mask)


def test_a_keyword_input_after_a_parameter_left_out_goes_where_it_belongs() -> None:
    model = _Masked()
    imported = import_model(model, {"x": rand(2, 4), "mask": rand(2, 4), "scale": 3.0})
    inputs = {"x": rand(3, 4), "mask": rand(3, 4)}
    assert_same_answers(imported, inputs)
    want = model(**inputs, scale=3.0)
    torch.testing.assert_close(
        torch.from_numpy(imported.reference({k: v.numpy() for k, v in inputs.items()})["output"]), want
    )
    with pytest.raises(InputError, match="'mask' is missing"):
        structure.flatten_call(imported.input_structure, (inputs["x"], inputs["mask"]), {})


@pytest.mark.parametrize("options", [{}, {"padding": "same"}, {"padding": (1, 0, 2), "stride": 2, "groups": 2}])
def test_volumes_convolved_without_a_bias(options: dict[str, Any]) -> None:
    module = nn.Conv3d(2, 4, 3, bias=False, **options)
    assert_same_answers(import_model(module, rand(2, 2, 5, 6, 7)), {"input": rand(3, 2, 5, 6, 7)})


def test_transformers_of_pytorch_with_masks() -> None:
    class Translator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1)
            self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16, batch_first=True), 1)

        def forward(self, source: torch.Tensor, target: torch.Tensor, padded: torch.Tensor) -> torch.Tensor:
            padded = padded.clone()
            padded[:, 0] = False
            memory = self.encoder(source, src_key_padding_mask=padded)
            ahead = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
            return self.decoder(target, memory, tgt_mask=ahead, memory_key_padding_mask=padded)

    torch.manual_seed(0)
    model = Translator().eval()
    was = torch.backends.mha.get_fastpath_enabled()
    imported = import_model(model, (rand(2, 5, 8), rand(2, 4, 8), torch.arange(5).expand(2, 5) > 3))
    assert torch.backends.mha.get_fastpath_enabled() is was
    inputs = rand(3, 5, 8), rand(3, 4, 8), torch.arange(5) > torch.tensor([[1], [4], [2]])
    assert_same_answers(imported, dict(zip(("source", "target", "padded"), inputs, strict=True)))
    names = ("source", "target", "padded")
    answers = imported.reference({name: each.numpy() for name, each in zip(names, inputs, strict=True)})
    with torch.no_grad(), plain_transformers():
        torch.testing.assert_close(torch.from_numpy(answers["output"]), model(*inputs), rtol=1e-4, atol=1e-5)
