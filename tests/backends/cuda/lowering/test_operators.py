"""Each operator by itself, lowered and run in NumPy, beside ONNX Runtime."""

from __future__ import annotations

import re

import numpy as np
import pytest
from backends.cuda.lowered import agrees, kinds
from pass_checks import build

from trine.backends.cuda.lowering.operators import HANDLERS

RANDOM = np.random.default_rng(7)


def weights(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


IMAGE = "float[n,6,9,10] x"
CASES: dict[str, tuple[str, str, dict[str, np.ndarray]]] = {
    "conv": (IMAGE, "y = Conv<pads=[1,1,1,1]>(x, w, b)", {"w": weights(5, 6, 3, 3), "b": weights(5)}),
    "conv stride dilation": (
        IMAGE,
        "y = Conv<strides=[2,1], dilations=[1,2], pads=[0,1,2,1]>(x, w)",
        {"w": weights(5, 6, 3, 3)},
    ),
    "conv same upper": (IMAGE, 'y = Conv<strides=[2,2], auto_pad="SAME_UPPER">(x, w)', {"w": weights(5, 6, 3, 3)}),
    "conv same lower": (IMAGE, 'y = Conv<strides=[2,2], auto_pad="SAME_LOWER">(x, w)', {"w": weights(5, 6, 2, 2)}),
    "conv grouped": (IMAGE, "y = Conv<group=3, pads=[1,1,1,1]>(x, w, b)", {"w": weights(9, 2, 3, 3), "b": weights(9)}),
    "conv depthwise": (
        IMAGE,
        "y = Conv<group=6, pads=[2,2,2,2]>(x, w, b)",
        {"w": weights(6, 1, 5, 5), "b": weights(6)},
    ),
    "conv depthwise multiplied": (IMAGE, "y = Conv<group=6>(x, w)", {"w": weights(12, 1, 3, 3)}),
    "conv 1x1": (IMAGE, "y = Conv(x, w, b)", {"w": weights(7, 6, 1, 1), "b": weights(7)}),
    "conv 1x1 strided": (IMAGE, "y = Conv<strides=[2,2]>(x, w)", {"w": weights(7, 6, 1, 1)}),
    "conv stem": ("float[n,3,9,10] x", "y = Conv<pads=[1,1,1,1]>(x, w)", {"w": weights(5, 3, 3, 3)}),
    "conv 1-d": ("float[n,4,11] x", "y = Conv<pads=[1,1], strides=[2]>(x, w)", {"w": weights(5, 4, 3)}),
    "conv two readers": (
        "float[n,3,9,10] x",
        "a = Conv(x, w)  b = Sigmoid(x)  c = ReduceMean<keepdims=1>(b, axes)  y = Add(a, c)",
        {"w": weights(5, 3, 1, 1), "axes": ints(1, 2, 3)},
    ),
    "max pool": (IMAGE, "y = MaxPool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(x)", {}),
    "max pool ceil": (IMAGE, "y = MaxPool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1>(x)", {}),
    "average pool": (IMAGE, "y = AveragePool<kernel_shape=[2,3], strides=[2,2], pads=[0,1,0,1]>(x)", {}),
    "average pool counts": (
        IMAGE,
        "y = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1>(x)",
        {},
    ),
    "average pool whole": (IMAGE, "y = AveragePool<kernel_shape=[9,10]>(x)", {}),
    "max pool 1-d": ("float[n,4,11] x", "y = MaxPool<kernel_shape=[3], strides=[2]>(x)", {}),
    "global average": (IMAGE, "y = GlobalAveragePool(x)", {}),
    "global maximum": (IMAGE, "y = GlobalMaxPool(x)", {}),
    "gemm": ("float[n,6] x", "y = Gemm<transB=1>(x, w, b)", {"w": weights(5, 6), "b": weights(5)}),
    "gemm scaled": (
        "float[n,6] x",
        "y = Gemm<alpha=0.5, beta=2.0>(x, w, b)",
        {"w": weights(6, 5), "b": weights(1, 5)},
    ),
    "gemm residual": ("float[n,6] x, float[n,5] z", "y = Gemm<alpha=0.5>(x, w, z)", {"w": weights(6, 5)}),
    "matmul": ("float[n,4,6] x", "y = MatMul(x, w)", {"w": weights(6, 5)}),
    "matmul left constant": ("float[n,4,6] x", "y = MatMul(w, x)", {"w": weights(5, 4)}),
    "matmul turned": (
        "float[n,4,6] x",
        "t = Transpose<perm=[0,2,1]>(x)  m = MatMul(t, w)  y = Transpose<perm=[0,2,1]>(m)",
        {"w": weights(4, 5)},
    ),
    "matmul batched": ("float[n,3,4,6] x, float[n,3,6,5] z", "y = MatMul(x, z)", {}),
    "matmul broadcast": ("float[n,3,4,6] x, float[n,1,6,5] z", "y = MatMul(x, z)", {}),
    "matmul vector": ("float[n,4,6] x", "y = MatMul(x, w)", {"w": weights(6)}),
    "matmul weights of each head": ("float[n,3,4,6] x", "y = MatMul(x, w)", {"w": weights(3, 6, 5)}),
    "matmul five axes": ("float[n,2,3,4,6] x, float[n,2,3,6,5] z", "y = MatMul(x, z)", {}),
    "attention": (
        "float[n,2,5,4] x, float[n,2,7,4] k, float[n,2,7,3] v",
        "y = Attention<scale=0.3>(x, k, v)",
        {},
    ),
    "attention with a mask": (
        "float[n,2,5,4] x, float[n,2,7,4] k, float[n,2,7,3] v",
        "y = Attention(x, k, v, m)",
        {"m": weights(1, 2, 5, 7)},
    ),
    "einsum": ("float[n,2,5,4] x, float[n,2,7,4] z", 'y = Einsum<equation="bhid,bhjd->bhij">(x, z)', {}),
    "einsum turned": ("float[n,5,4] x, float[n,7,4] z", 'y = Einsum<equation="bid,bjd->jbi">(x, z)', {}),
    "einsum sums": ("float[n,5,4] x", 'y = Einsum<equation="bid->db">(x)', {}),
    "layer norm": (
        "float[n,4,6] x",
        "y = LayerNormalization<epsilon=0.001>(x, w, b)",
        {"w": weights(6), "b": weights(6)},
    ),
    "layer norm two axes": (
        "float[n,4,6] x",
        "y = LayerNormalization<axis=1>(x, w, b)",
        {"w": weights(4, 6), "b": weights(4, 6)},
    ),
    "layer norm of channels": (
        IMAGE,
        "c = Conv(x, k)  t = Transpose<perm=[0,2,3,1]>(c)  l = LayerNormalization(t, w, b)"
        "  y = Transpose<perm=[0,3,1,2]>(l)",
        {"k": weights(8, 6, 3, 3), "w": weights(8), "b": weights(8)},
    ),
    "rms norm": ("float[n,4,6] x", "y = RMSNormalization(x, w)", {"w": weights(6)}),
    "rms norm, one scale of three axes": ("float[n,4,6] x", "y = RMSNormalization(x, w)", {"w": weights(1, 1, 1)}),
    "layer norm of two axes, a scale of one": (
        "float[n,4,6] x",
        "y = LayerNormalization<axis=1>(x, w)",
        {"w": weights(1, 6)},
    ),
    "batch norm": (
        IMAGE,
        "y = BatchNormalization(x, s, b, m, v)",
        {"s": weights(6), "b": weights(6), "m": weights(6), "v": np.abs(weights(6)) + 0.1},
    ),
    "instance norm": (IMAGE, "y = InstanceNormalization(x, s, b)", {"s": weights(6), "b": weights(6)}),
    "group norm": (
        IMAGE,
        "y = GroupNormalization<num_groups=3>(x, s, b)",
        {"s": weights(6), "b": weights(6)},
    ),
    "softmax": ("float[n,4,6] x", "y = Softmax(x)", {}),
    "softmax of an axis inside": (IMAGE, "y = Softmax<axis=1>(x)", {}),
    "log softmax": ("float[n,6] x", "y = LogSoftmax(x)", {}),
    "reduce mean": (IMAGE, "y = ReduceMean(x, a)", {"a": ints(2, 3)}),
    "reduce without the axis": (IMAGE, "y = ReduceMax<keepdims=0>(x, a)", {"a": ints(1)}),
    "reduce in between": (IMAGE, "y = ReduceSum<keepdims=0>(x, a)", {"a": ints(1, 3)}),
    "reduce l2": ("float[n,4,6] x", "y = ReduceL2(x, a)", {"a": ints(-1)}),
    "reduce l1": ("float[n,4,6] x", "y = ReduceL1(x, a)", {"a": ints(-1)}),
    "reduce minimum": ("float[n,4,6] x", "y = ReduceMin(x, a)", {"a": ints(1)}),
    "reduce product": ("float[n,4,6] x", "y = ReduceProd(x, a)", {"a": ints(1)}),
    "reduce squares": ("float[n,4,6] x", "y = ReduceSumSquare(x, a)", {"a": ints(1)}),
    "concat": (IMAGE, "r = Relu(x)  s = Sigmoid(x)  y = Concat<axis=1>(r, x, s)", {}),
    "concat of a constant": (
        "float[n,4,6] x",
        "e = Expand(c, s)  y = Concat<axis=1>(e, x)",
        {"c": weights(1, 1, 6), "s": ints(3, 1, 6)},
    ),
    "split": (IMAGE, "a, b = Split<axis=1>(x, s)  y = Sub(a, b)", {"s": ints(3, 3)}),
    "split evenly": ("float[n,6] x", "a, b, c = Split<axis=1, num_outputs=3>(x)  d = Mul(a, b)  y = Add(d, c)", {}),
    "slice": (
        IMAGE,
        "y = Slice(x, s, e, a, t)",
        {"s": ints(1, -3), "e": ints(8, 100), "a": ints(2, 3), "t": ints(2, 1)},
    ),
    "pad": (IMAGE, "y = Pad(x, p, c)", {"p": ints(0, 0, 1, 2, 0, 1, 0, 1), "c": np.array(0.5, np.float32)}),
    "pad negative": (IMAGE, "y = Pad(x, p)", {"p": ints(0, 0, -1, 2, 0, 0, -2, 0)}),
    "pad of a product": (
        "float[n,4,6] x",
        "m = MatMul(x, w)  p = Pad(m, pads)  s = Sigmoid(m)  q = ReduceSum<keepdims=1>(p, a)  y = Add(q, s)",
        {"w": weights(6, 6), "pads": ints(0, 1, 0, 0, 2, 0), "a": ints(1)},
    ),
    "pad reflected": ("float[n,4,6] x", 'y = Pad<mode="reflect">(x, p)', {"p": ints(0, 1, 2, 0, 2, 1)}),
    "pad with edges": ("float[n,4,6] x", 'y = Pad<mode="edge">(x, p)', {"p": ints(0, 1, 2, 0, 2, 1)}),
    "gather one": ("float[n,4,6] x", "y = Gather<axis=1>(x, i)", {"i": np.array(2, np.int64)}),
    "gather spaced": ("float[n,4,6] x", "y = Gather<axis=2>(x, i)", {"i": ints(1, 3, 5)}),
    "gather any": ("float[n,4,6] x", "y = Gather<axis=2>(x, i)", {"i": ints(5, 0, 1, 1, -1)}),
    "expand": ("float[n,1,6] x", "e = Expand(x, s)  y = Mul(e, w)", {"s": ints(1, 4, 1), "w": weights(4, 1)}),
    "tile": ("float[n,2,3] x", "y = Tile(x, r)", {"r": ints(1, 2, 3)}),
    "reshape and transpose": (
        "float[n,4,6] x",
        "r = Reshape(x, s)  t = Transpose<perm=[0,2,1,3]>(r)  y = Reshape(t, u)",
        {"s": ints(0, 4, 2, 3), "u": ints(0, 2, -1)},
    ),
    "flatten": (IMAGE, "y = Flatten(x)", {}),
    "flatten after convolution": (
        IMAGE,
        "c = Conv(x, k)  f = Flatten(c)  y = Gemm(f, w, b)",
        {"k": weights(4, 6, 3, 3), "w": weights(224, 5), "b": weights(5)},
    ),
    "squeeze": ("float[n,1,6] x", "s = Squeeze(x, a)  y = Unsqueeze(s, b)", {"a": ints(1), "b": ints(0, 3)}),
    "shape": (
        "float[n,4,6] x",
        "s = Shape<start=0, end=1>(x)  t = Concat<axis=0>(s, r)  y = Reshape(x, t)",
        {"r": ints(3, 8)},
    ),
    "shuffle": (
        IMAGE,
        "c = Conv(x, w)  r = Reshape(c, s)  t = Transpose<perm=[0,2,1,3,4]>(r)  u = Reshape(t, v)  y = Conv(u, w)",
        {"w": weights(6, 6, 1, 1), "s": ints(0, 2, 3, 9, 10), "v": ints(0, 6, 9, 10)},
    ),
    "resize": (
        IMAGE,
        'y = Resize<mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor">(x, , s)',
        {"s": np.array([1, 1, 2, 3], np.float32)},
    ),
    "depth to space": ("float[n,8,3,4] x", "y = DepthToSpace<blocksize=2>(x)", {}),
    "depth to space by columns": ("float[n,8,3,4] x", 'y = DepthToSpace<blocksize=2, mode="CRD">(x)', {}),
    "space to depth": ("float[n,2,4,6] x", "y = SpaceToDepth<blocksize=2>(x)", {}),
    "identity": ("float[n,6] x", "a = Identity(x)  y = Dropout(a)", {}),
    "an input as it is": ("float[n,6] x", "y = Identity(x)", {}),
}


@pytest.mark.parametrize("name", CASES)
def test_operator(name: str) -> None:
    inputs, body, constants = CASES[name]
    agrees(build(inputs, "float y", body.replace("  ", "\n"), **constants))


UNARY = [
    "Abs(x)", "Ceil(x)", "Clip(x, low, high)", "Clip(x, low)", "Cos(x)", "Elu<alpha=0.7>(x)", "Erf(x)", "Exp(x)",
    "Floor(x)", "Gelu(x)", 'Gelu<approximate="tanh">(x)', "HardSigmoid<alpha=0.3>(x)", "HardSwish(x)",
    "LeakyRelu<alpha=0.2>(x)", "Mish(x)", "Neg(x)", "Reciprocal(x)", "Relu(x)", "Round(x)", "Selu(x)", "Sigmoid(x)",
    "Sign(x)", "Sin(x)", "Softplus(x)", "Softsign(x)", "Tanh(x)", "Pow(x, two)", "PRelu(x, slope)", "Add(x, v)",
    "Sub(v, x)", "Mul(x, x)", "Div(x, high)", "Max(x, v)", "Min(x, v, high)", "Sum(x, v, x)", "Mean(x, v)",
    "Mul(x, low)",
]  # fmt: skip


@pytest.mark.parametrize("call", UNARY)
def test_pointwise(call: str) -> None:
    constants = {
        "low": np.float32(-0.5),
        "high": np.float32(0.8),
        "two": np.float32(2),
        "slope": weights(4, 1),
        "v": weights(1, 4, 6),
    }
    made = agrees(build("float[n,4,6] x", "float y", f"y = {call}", **constants))
    assert kinds(made) == {}  # the copies of input and output do it


def test_pointwise_on_what_others_compute() -> None:
    body = "m = MatMul(x, w)\na = Abs(m)\ns = Sqrt(a)\nl = Log(a)\np = Pow(a, e)\nt = Add(s, l)\ny = Add(t, p)"
    agrees(build("float[n,4] x", "float y", body, w=weights(4, 5), e=np.float32(1.3)))


def test_conditions() -> None:
    body = (
        "c = Greater(x, z)\nd = LessOrEqual(x, k)\ne = And(c, d)\nf = Not(e)\ng = Equal(x, x)\nh = IsNaN(z)"
        "\ni = Or(f, h)\nj = GreaterOrEqual(x, k)\nl = Less(z, k)\nm = Or(j, l)"
        "\no = And(i, m)\np = And(g, o)\ny = Where(p, x, z)"
    )
    agrees(build("float[n,4] x, float[n,4] z", "float y", body, k=np.float32(0.5)))


def test_integers() -> None:
    body = "a = Add(x, k)\nb = Mul(a, x)\ny = Cast<to=1>(b)"
    agrees(build("int64[n,4] x", "float y", body, k=ints(1, 2, 3, 4)))
    agrees(build("int64[n,4] x", "int64 y", "y = Mod(x, k)", k=ints(3)))


def test_a_boolean_output() -> None:
    agrees(build("float[n,4] x", "bool y", "y = Greater(x, k)", k=np.float32(0.1)))


def test_an_output_that_is_constant() -> None:
    agrees(build("float[n,4] x", "float y, float z", "y = Relu(x)\nz = Add(k, k)", k=weights(3, 4)))


CONDITIONS = "And Cast Equal Greater GreaterOrEqual IsNaN Less LessOrEqual Log Mod Not Or Sqrt Where"
OLD_OR_NEW = "Swish Upsample"  # of opsets that the text above cannot say
ELSEWHERE = "Col2Im ConvTranspose GRU GatherND LSTM RNN ScatterND"  # in files of their own


def test_swish_of_opset_24() -> None:
    agrees(build("float[n,6] x", "float y", "y = Swish(x)", opset=24))
    agrees(build("float[n,6] x", "float y", "y = Swish<alpha=1.5>(x)", opset=24))


def test_upsample_of_opset_9() -> None:
    scales = np.array([1, 1, 2, 2], np.float32)
    agrees(build(IMAGE, "float y", "y = Upsample(x, s)", opset=9, s=scales))


def test_every_handler_has_a_case() -> None:
    text = " ".join([body for _, body, _ in CASES.values()] + UNARY)
    missing = [name for name in HANDLERS if not re.search(rf"\b{name}[(<]", text)]
    assert sorted(missing) == sorted(f"{CONDITIONS} {OLD_OR_NEW} {ELSEWHERE}".split())
