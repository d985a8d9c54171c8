import threading

import ml_dtypes
import numpy as np
import onnx.parser
import pytest
import torch

import trine


@pytest.fixture(scope="module", params=["openvino", "onnxruntime"])
def engine(request):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3, padding=1), torch.nn.Conv2d(6, 4, 1)).eval()
    return trine.build(net, torch.randn(2, 3, 8, 8), batch=(1, 2, 16), tactics=(request.param,))


def image(rows=1):
    return np.random.default_rng(rows).standard_normal((rows, 3, 8, 8)).astype(np.float32)


def test_numpy_in_numpy_out_torch_in_torch_out(engine):
    x = image(2)
    from_numpy, from_torch = engine(x), engine(torch.from_numpy(x))
    assert isinstance(from_numpy, np.ndarray)
    assert isinstance(from_torch, torch.Tensor)
    np.testing.assert_array_equal(from_numpy, from_torch.numpy())


@pytest.mark.parametrize(
    "make",
    [
        lambda x: np.asfortranarray(x),
        lambda x: np.repeat(x, 2, axis=3)[..., ::2],
        lambda x: x[::-1].copy()[::-1],
        lambda x: np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
        lambda x: torch.from_numpy(x).to(memory_format=torch.channels_last),
        lambda x: torch.from_numpy(x).requires_grad_(),
        lambda x: np.frombuffer(x.tobytes(), np.float32).reshape(x.shape),
    ],
    ids=["fortran", "strided", "negative stride", "transposed", "channels_last", "requires_grad", "read-only"],
)
def test_any_layout_gives_the_same_answer(engine, make):
    x = image(3)
    np.testing.assert_array_equal(np.asarray(engine(make(x))), engine(x))


def fake_tensor():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        return torch.empty(1, 3, 8, 8)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.ma.masked_array(image(), mask=image() > 0), "'input': is a masked array, .* x.filled"),
        (fake_tensor(), "'input': expected a plain tensor, got a FakeTensor"),
        (torch.from_numpy(image()).to_sparse(), "'input': expected a dense tensor"),
        (torch.empty(1, 3, 8, 8, device="meta"), "'input': expected a tensor in host memory"),
    ],
    ids=["masked", "fake", "sparse", "meta"],
)
def test_what_holds_no_plain_numbers_is_refused(engine, value, text):
    with pytest.raises(trine.InputError, match=text):
        engine(value)


def test_nothing_masked_is_an_array_like_others(engine):
    np.testing.assert_array_equal(engine(np.ma.masked_array(image())), engine(image()))


def test_an_engine_cannot_be_transformed(engine):
    with pytest.raises(trine.InputError, match=r"got one under torch\.func"):
        torch.vmap(engine)(torch.from_numpy(image())[None])


def test_names_are_needed_by_a_context(engine):
    with engine.create_execution_context() as context:
        with pytest.raises(
            trine.InputError, match=r"expected a dict with an array for each of \['input'\], got ndarray"
        ):
            context.execute(image())
        with pytest.raises(trine.InputError, match="out: expected a dict of arrays by output's name, got ndarray"):
            context.execute({"input": image()}, out=np.empty(1, np.float32))
        with pytest.raises(trine.InputError, match=f"out '{engine.outputs[0].name}': expected an array .* got list"):
            context.execute({"input": image()}, out={engine.outputs[0].name: [1]})


def test_a_context_that_computes_in_another_thread(engine):
    """OpenVINO says so; ONNX Runtime does not mind."""
    barrier, failures = threading.Barrier(2), []

    def call(context):
        barrier.wait()
        for _ in range(200):
            try:
                context.execute({"input": image(16)})
            except trine.TrineError as err:
                failures.append(err)

    with engine.create_execution_context() as context:
        threads = [threading.Thread(target=call, args=(context,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert all(isinstance(err, trine.ExecutionError) and "in another thread" in str(err) for err in failures)
    if engine.tactic == "onnxruntime":
        assert not failures


def test_values_that_the_model_cannot_take():
    embedding = torch.nn.Embedding(5, 3).eval()
    engine = trine.build(embedding, torch.zeros(1, 2, dtype=torch.int64), tactics=("onnxruntime",))
    with pytest.raises(trine.ExecutionError, match=r"ONNX Runtime: .*out of data bounds.* Does an input hold"):
        engine(np.array([[0, 5]]))
    assert engine(np.array([[0, 4]])).shape == (1, 2, 3)


def test_answers_are_the_callers_to_keep(engine):
    first = engine(image(1))
    kept = first.copy()
    engine(image(1) + 1)
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("rows", [1, 16])
def test_out_is_written_in_place(engine, rows):
    x = image(rows)
    name = engine.outputs[0].name
    out = np.full((rows, 4, 8, 8), np.nan, np.float32)
    with engine.create_execution_context() as context:
        answer = context.execute({engine.inputs[0].name: x}, out={name: out})
        assert answer[name] is out
        np.testing.assert_array_equal(out, engine(x))
        free = context.execute({engine.inputs[0].name: image(2)})[name]  # after bound memory, the backend's own again
        np.testing.assert_array_equal(free, engine(image(2)))


def test_out_may_be_a_tensor(engine):
    out = torch.empty(2, 4, 8, 8)
    name = engine.outputs[0].name
    context = engine.create_execution_context()
    assert context.execute({engine.inputs[0].name: image(2)}, out={name: out})[name] is out
    np.testing.assert_array_equal(out.numpy(), engine(image(2)))


def test_nan_passes_through_to_its_own_row_only(engine):
    # Through a ReLU it would not: OpenVINO computes max(x, 0), for which NaN is 0, as SSE's maxps says.
    x = image(2)
    x[0] = np.nan
    y = engine(x)
    assert np.isnan(y[0]).all()
    np.testing.assert_array_equal(y[1:], engine(image(2))[1:])


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (image()[0], r"expected 4 dimensions \(batch, 3, 8, 8\), got 3.*add a batch dimension"),
        (image().astype(np.float64), r"expected float32, got float64; convert it"),
        (image().astype(ml_dtypes.bfloat16), "expected float32, got bfloat16"),
        (np.zeros((1, 4, 8, 8), np.float32), "axis 1 is 4, expected 3"),
        (np.zeros((17, 3, 8, 8), np.float32), r"axis 0 \(batch\) is 17, but the engine's profile goes from 1 to 16"),
        (np.zeros((0, 3, 8, 8), np.float32), "send at least one row"),
        (torch.zeros(1, 3, 8, 8, device="meta"), "in host memory"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.float16), "expected float32, got float16"),
    ],
    ids=["rank", "float64", "bfloat16", "channels", "too many", "empty", "device", "half"],
)
def test_inputs_that_do_not_fit(engine, x, text):
    with pytest.raises(trine.InputError, match=text):
        engine(x)


def test_sizes_outside_the_profile_say_what_to_do():
    text = '<ir_version: 8, opset_import: ["": 17]> g (float[N, W] x) => (float[N, W] y) { y = Relu(x) }'
    model = onnx.parser.parse_model(text).SerializeToString()
    engine = trine.build(model, shapes={"x": ((2, 4), (2, 6), (4, 8))}, tactics=("onnxruntime",))
    for shape, advice in (
        ((1, 4), "fill it up to 2 rows"),
        ((5, 4), "split the input"),
        ((2, 3), "pad the input"),
        ((2, 9), "cut or resize the input"),
    ):
        with pytest.raises(trine.InputError, match=f"{advice}, or build with a wider profile"):
            engine(np.zeros(shape, np.float32))


def test_a_list_is_no_array(engine):
    with pytest.raises(trine.InputError, match="expected"):
        engine([[1.0]])


def test_names_must_fit(engine):
    context = engine.create_execution_context()
    with pytest.raises(trine.InputError, match=r"missing \['input'\] and unknown \['image'\]; the engine takes"):
        context.execute({"image": image()})
    with pytest.raises(trine.InputError, match=r"out: unknown \['logits'\]"):
        context.execute({"input": image()}, out={"logits": image()})


@pytest.mark.parametrize(
    ("out", "text"),
    [
        (np.empty((2, 4, 8, 8), np.float32), r"expected float32 \(1, 4, 8, 8\), got float32 \(2"),
        (np.empty((1, 4, 8, 8), np.float64), "got float64"),
        (np.empty((1, 4, 8, 16), np.float32)[..., ::2], "C-contiguous"),
    ],
)
def test_out_must_fit(engine, out, text):
    context = engine.create_execution_context()
    with pytest.raises(trine.InputError, match=text):
        context.execute({"input": image()}, out={engine.outputs[0].name: out})


def test_a_closed_context_says_so(engine):
    context = engine.create_execution_context()
    context.close()
    with pytest.raises(trine.InputError, match="closed"):
        context.execute({"input": image()})


def test_many_threads_at_once(engine):
    inputs = [image(rows) for rows in range(1, 9)]
    wanted = [engine(x) for x in inputs]
    wrong: list[int] = []

    def work(index):
        with engine.create_execution_context() as context:
            for _ in range(20):
                got = context.execute({"input": inputs[index]})[engine.outputs[0].name]
                by_call = engine(inputs[index])
                if not (np.array_equal(got, wanted[index]) and np.array_equal(by_call, wanted[index])):
                    wrong.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
