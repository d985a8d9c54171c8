"""Fusion: what becomes one group, what stays apart, and that the answers stay the same."""

from __future__ import annotations

import numpy as np
import pytest
from backends.cuda.lowered import agrees, kinds, lowered
from pass_checks import build

from trine.backends.cuda.groups import (
    Activation,
    Attention,
    Conv,
    DepthwiseConv,
    GatherRows,
    Gemm,
    Pointwise,
    Reduce,
    SqueezeExcite,
)

RANDOM = np.random.default_rng(11)
IMAGE = "float[n,6,9,10] x"


def weights(*shape: int) -> np.ndarray:
    return (RANDOM.standard_normal(shape) / np.sqrt(max(1, np.prod(shape[1:])))).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def statistics(channels: int) -> dict[str, np.ndarray]:
    names = ("scale", "shift", "mean", "variance")
    return {name: np.abs(weights(channels)) + 0.5 if name == "variance" else weights(channels) for name in names}


def only(groups: object, kind: type) -> object:
    found = [group for group in groups.groups if isinstance(group, kind)]  # type: ignore[attr-defined]
    assert len(found) == 1
    return found[0]


class TestEpilogues:
    def test_residual_block(self) -> None:
        body = (
            "a = Conv<pads=[1,1,1,1]>(x, w, b)\nb1 = Relu(a)\n"
            "c = Conv<pads=[1,1,1,1]>(b1, v)\nd = Add(c, x)\ny = Relu(d)"
        )
        made = agrees(build(IMAGE, "float y", body, w=weights(6, 6, 3, 3), b=weights(6), v=weights(6, 6, 3, 3)))
        assert kinds(made) == {"Conv": 2}
        first, second = (group for group in made.groups if isinstance(group, Conv))
        assert first.epilogue.act == Activation("relu")
        assert second.epilogue.residual is not None
        assert second.epilogue.act_after == Activation("relu")

    def test_downsampling_adds_two_convolutions(self) -> None:
        body = "a = Conv<strides=[2,2]>(x, w)\nb = Conv<strides=[2,2]>(x, v)\nc = Add(a, b)\ny = Relu(c)"
        made = agrees(build(IMAGE, "float y", body, w=weights(4, 6, 1, 1), v=weights(4, 6, 1, 1)))
        assert kinds(made) == {"Conv": 2}

    def test_silu_that_is_spelled_out(self) -> None:
        body = "a = Conv(x, w)\ns = Sigmoid(a)\ny = Mul(a, s)"
        made = agrees(build(IMAGE, "float y", body, w=weights(4, 6, 3, 3)))
        assert kinds(made) == {"Conv": 1}
        assert only(made, Conv).epilogue.act == Activation("silu")  # type: ignore[attr-defined]

    def test_factor_of_each_channel_goes_into_the_weights(self) -> None:
        body = "m = MatMul(x, w)\na = Add(m, b)\ns = Mul(a, f)\ny = Add(s, x)"
        made = agrees(
            build("float[n,4,6] x", "float y", body, w=weights(6, 6), b=weights(6), f=weights(6)), tolerance=1e-6
        )
        assert kinds(made) == {"Gemm": 1}

    def test_factor_after_an_activation_stays(self) -> None:
        body = "m = MatMul(x, w)\na = Relu(m)\ny = Mul(a, f)"
        made = agrees(build("float[n,6] x", "float y", body, w=weights(6, 5), f=weights(5)))
        assert [type(group) for group in made.groups] == [Pointwise, Gemm, Pointwise]

    def test_shared_value_stays(self) -> None:
        body = "a = Conv(x, w)\nb = Relu(a)\nc = Conv(a, v)\nd = Conv(b, v)\ny = Add(c, d)"
        made = agrees(build(IMAGE, "float y", body, w=weights(6, 6, 1, 1), v=weights(6, 6, 3, 3)))
        assert kinds(made) == {"Gemm": 1, "Pointwise": 1, "Conv": 2}

    def test_output_stays(self) -> None:
        body = "y = Conv(x, w)\nz = Relu(y)"
        agrees(build(IMAGE, "float y, float z", body, w=weights(4, 6, 3, 3)))

    def test_residual_that_is_spread_stays_right(self) -> None:
        body = "a = Conv(x, w)\ny = Add(a, r)"
        agrees(build(f"{IMAGE}, float[n,1,9,10] r", "float y", body, w=weights(4, 6, 1, 1)))

    @pytest.mark.parametrize(
        ("residual", "shape"),
        [("g = Softmax(r)\nt = Transpose<perm=[0,2,1]>(g)", (4,)), ("t = MatMul(x, v)", (6, 1))],
        ids=["turned", "one for each row"],
    )
    def test_residual_that_is_not_read_in_whole_rows_stays(self, residual: str, shape: tuple[int, ...]) -> None:
        body = f"m = MatMul(x, w)\n{residual}\ny = Add(m, t)"
        made = agrees(build("float[1,5,6] x, float[1,4,5] r", "float y", body, w=weights(6, 4), v=weights(*shape)))
        assert all(group.epilogue.residual is None for group in made.groups if isinstance(group, Gemm))

    def test_reduction_takes_an_activation(self) -> None:
        body = "a = GlobalAveragePool(x)\nb = Sigmoid(a)\ny = Mul(b, x)"
        made = agrees(build(IMAGE, "float y", body))
        assert only(made, Reduce).act == Activation("sigmoid")  # type: ignore[attr-defined]


class TestPrologues:
    def test_normalisation_and_relu_before_a_product_of_channels(self) -> None:
        body = (
            "c = MaxPool<kernel_shape=[2,2]>(x)\nn = BatchNormalization(c, scale, shift, mean, variance)\n"
            "a = Relu(n)\ny = Conv(a, w)"
        )
        made = agrees(build(IMAGE, "float y", body, w=weights(5, 6, 1, 1), **statistics(6)))
        assert kinds(made) == {"Pool": 1, "Gemm": 1}
        prologue = only(made, Gemm).prologue  # type: ignore[attr-defined]
        assert prologue.act == Activation("relu")
        assert prologue.scale.shape == prologue.shift.shape == (6,)

    def test_normalisation_before_a_window_stays(self) -> None:
        body = (
            "c = Conv(x, w)\nn = BatchNormalization(c, scale, shift, mean, variance)\n"
            "a = Relu(n)\ny = Conv<pads=[1,1,1,1]>(a, v)"
        )
        constants = {"v": weights(6, 6, 3, 3), "w": weights(6, 6, 1, 1), **statistics(6)}
        made = agrees(build(IMAGE, "float y", body, **constants))
        assert only(made, Conv).prologue is None  # type: ignore[attr-defined]

    @pytest.mark.parametrize("depthwise", [True, False])
    def test_squeeze_excitation(self, depthwise: bool) -> None:
        conv = "Conv<group=6, pads=[1,1,1,1]>(x, k)" if depthwise else "Conv<pads=[1,1,1,1]>(x, k)"
        body = (
            f"c = {conv}\nr = Relu(c)\nm = GlobalAveragePool(r)\na = Conv(m, s, sb)\nb = Relu(a)\nd = Conv(b, e, eb)\n"
            "g = HardSigmoid(d)\nu = Mul(g, r)\ny = Conv(u, w)"
        )
        constants = {
            "k": weights(6, 1 if depthwise else 6, 3, 3),
            "s": weights(2, 6, 1, 1), "sb": weights(2),
            "e": weights(6, 2, 1, 1), "eb": weights(6),
            "w": weights(5, 6, 1, 1),
        }  # fmt: skip
        made = agrees(build(IMAGE, "float y", body, **constants))
        gemm = only(made, Gemm)
        assert gemm.prologue.scale.shape == (3, 6)  # type: ignore[attr-defined]
        assert gemm.rows_per_image == 90  # type: ignore[attr-defined]
        assert only(made, SqueezeExcite).act2.name == "hardsigmoid"  # type: ignore[attr-defined]
        if depthwise:
            assert kinds(made) == {"DepthwiseConv": 1, "SqueezeExcite": 1, "Gemm": 1}
            assert only(made, DepthwiseConv).sums.shape[::2] == (3, 6)  # type: ignore[attr-defined]
        else:
            assert kinds(made) == {"Conv": 1, "Reduce": 1, "SqueezeExcite": 1, "Gemm": 1}


class TestConcatenation:
    def test_growing_features_share_one_buffer(self) -> None:
        body = (
            "a = Conv<pads=[1,1,1,1]>(x, w)\nb = Conv<pads=[1,1,1,1]>(a, v)\nc = Concat<axis=1>(a, b)\n"
            "d = Conv<pads=[1,1,1,1]>(c, u)\ne = Concat<axis=1>(a, b, d)\ny = Conv<pads=[1,1,1,1]>(e, t)"
        )
        made = agrees(
            build(
                IMAGE,
                "float y",
                body,
                w=weights(4, 6, 3, 3),
                v=weights(4, 4, 3, 3),
                u=weights(2, 8, 3, 3),
                t=weights(5, 10, 3, 3),
            )
        )
        assert kinds(made) == {"Conv": 4}
        assert len({group.y.buffer for group in made.groups if isinstance(group, Conv)}) == 2

    def test_concatenations_of_concatenations(self) -> None:
        body = (
            "a = Conv(x, w)\nb = Relu(a)\nc = Concat<axis=1>(a, b)\n"
            "d = Sigmoid(c)\ne = Concat<axis=1>(c, d)\ny = Conv(e, t)"
        )
        made = agrees(build(IMAGE, "float y", body, w=weights(4, 6, 3, 3), t=weights(5, 16, 3, 3)))
        assert kinds(made) == {"Conv": 2, "Pointwise": 2}

    def test_tokens(self) -> None:
        body = "e = Expand(c, s)\nm = MatMul(x, w)\nk = Concat<axis=1>(e, m)\na = Add(k, p)\ny = Relu(a)"
        made = agrees(
            build(
                "float[n,4,6] x", "float y", body, c=weights(1, 1, 5), s=ints(3, 1, 5), w=weights(6, 5), p=weights(5, 5)
            )
        )
        assert kinds(made)["Gemm"] == 1

    def test_merging_patches_is_one_copy(self) -> None:
        slices = "\n".join(f"{name} = Slice(m, {name}s, e, i, t)" for name in "abcd")
        body = f"m = MatMul(x, w)\n{slices}\nk = Concat<axis=-1>(a, b, c, d)\ny = MatMul(k, v)"
        starts = {"as": ints(0, 0), "bs": ints(1, 0), "cs": ints(0, 1), "ds": ints(1, 1)}
        made = agrees(
            build(
                "float[n,4,6,8] x", "float y", body,
                w=weights(8, 8), v=weights(32, 5), e=ints(4, 6), i=ints(1, 2), t=ints(2, 2), **starts,
            )
        )  # fmt: skip
        assert kinds(made) == {"Gemm": 2, "Pointwise": 1}

    def test_same_part_twice(self) -> None:
        body = "a = Conv(x, w)\nc = Concat<axis=1>(a, a)\nd = Relu(a)\ne = Concat<axis=1>(d, c)\ny = Conv(e, t)"
        agrees(build(IMAGE, "float y", body, w=weights(4, 6, 3, 3), t=weights(5, 12, 3, 3)))


class TestAttention:
    QKV = (
        "p = MatMul(x, w)\nr = Reshape(p, s)\nt = Transpose<perm=[2,0,3,1,4]>(r)\nq = Gather<axis=0>(t, zero)\n"
        "k = Gather<axis=0>(t, one)\nv = Gather<axis=0>(t, two)\nqs = Mul(q, scale)\n"
        "kt = Transpose<perm=[0,1,3,2]>(k)\nscores = MatMul(qs, kt)\n"
    )
    END = "o = MatMul(prob, v)\nu = Transpose<perm=[0,2,1,3]>(o)\nz = Reshape(u, e)\ny = MatMul(z, last)"
    CONSTANTS = {  # noqa: RUF012
        "w": weights(8, 24), "s": ints(0, 5, 3, 2, 4), "zero": ints(), "scale": np.float32(0.5), "e": ints(0, 5, 8),
        "last": weights(8, 8),
    }  # fmt: skip

    def constants(self, **more: np.ndarray) -> dict[str, np.ndarray]:
        numbers = {name: np.array(value, np.int64) for value, name in enumerate(("zero", "one", "two"))}
        return {**self.CONSTANTS, **numbers, **more}

    def test_plain(self) -> None:
        body = f"{self.QKV}prob = Softmax(scores)\n{self.END}"
        made = agrees(build("float[n,5,8] x", "float y", body, **self.constants()))
        assert kinds(made) == {"Gemm": 2, "Attention": 1}
        assert only(made, Attention).scale == 0.5  # type: ignore[attr-defined]

    def test_bias_and_mask_of_windows(self) -> None:
        """Two windows an image, each with a mask of its own, and a bias for each head."""
        middle = (
            "b = Add(scores, bias)\nw1 = Reshape(b, windows)\nm1 = Add(w1, mask)\nw2 = Reshape(m1, back)\n"
            "prob = Softmax(w2)\n"
        )
        body = f"f = Reshape(x, fold)\n{self.QKV}{middle}{self.END}".replace("MatMul(x", "MatMul(f").replace(
            "y =", "g ="
        )
        body += "\ny = Reshape(g, unfold)"
        more = {
            "fold": ints(-1, 5, 8),
            "unfold": ints(-1, 2, 5, 8), "bias": weights(1, 2, 5, 5), "mask": weights(1, 2, 1, 5, 5),
            "windows": ints(-1, 2, 2, 5, 5), "back": ints(-1, 2, 5, 5),
        }  # fmt: skip
        made = agrees(build("float[n,2,5,8] x", "float y", body, **self.constants(**more)))
        assert kinds(made) == {"Gemm": 2, "Attention": 1}
        attention = only(made, Attention)
        assert attention.q.shape[0] == 6  # type: ignore[attr-defined]
        assert attention.bias.shape == (2, 2, 5, 5)  # type: ignore[attr-defined]

    def test_shared_probabilities_stay(self) -> None:
        body = f"{self.QKV}prob = Softmax(scores)\n{self.END}\nz2 = ReduceMax(prob, axis)"
        made = agrees(build("float[n,5,8] x", "float y, float z2", body, **self.constants(axis=ints(1))))
        assert kinds(made)["Softmax"] == 1

    def test_other_work_on_the_scores_stays(self) -> None:
        body = f"{self.QKV}h = Tanh(scores)\nprob = Softmax(h)\n{self.END}"
        made = agrees(build("float[n,5,8] x", "float y", body, **self.constants()))
        assert kinds(made)["Softmax"] == 1


class TestStem:
    def test_three_channels_become_four(self) -> None:
        made = agrees(build("float[n,3,9,10] x", "float y", "y = Conv<pads=[1,1,1,1]>(x, w)", w=weights(5, 3, 3, 3)))
        conv = only(made, Conv)
        assert conv.x.shape[3] == conv.w.shape[3] == 4  # type: ignore[attr-defined]
        assert made.groups[0].zero_after == 1  # type: ignore[attr-defined]

    def test_with_normalisation_first(self) -> None:
        body = "s = Sub(x, m)\nd = Div(s, v)\ny = Conv<pads=[1,1,1,1]>(d, w)"
        constants = {"w": weights(5, 3, 3, 3), "m": weights(1, 3, 1, 1), "v": np.abs(weights(1, 3, 1, 1)) + 1}
        made = agrees(build("float[n,3,9,10] x", "float y", body, **constants))
        assert kinds(made) == {"Conv": 1}

    def test_other_readers_keep_three(self) -> None:
        body = "a = Conv<pads=[1,1,1,1]>(x, w)\ny = Add(a, x)"
        made = agrees(build("float[n,3,9,10] x", "float y", body, w=weights(3, 3, 3, 3)))
        assert only(made, Conv).x.shape[3] == 3  # type: ignore[attr-defined]


def test_norms_stay_in_fp32() -> None:
    """1e-12 is 0 in fp16, and 0 / 0 is NaN."""
    body = "m = MatMul(x, w)\nn = ReduceL2(m, a)\nc = Clip(n, low)\nd = Div(m, c)\ny = MatMul(d, v)"
    proto = build(
        "float[n,4,6] x",
        "float y",
        body,
        w=np.zeros((6, 6), np.float32),
        v=weights(6, 5),
        a=ints(-1),
        low=np.float32(1e-12),
    )
    made = agrees(proto, precision="fp32")
    assert made
    narrow = lowered(proto, precision="fp16")
    assert only(narrow, Reduce).y.dtype == "fp32"  # type: ignore[attr-defined]


def test_flattened_images_turn_the_weights() -> None:
    body = "c = Conv(x, k)\nf = Flatten(c)\ny = Gemm<transB=1>(f, w, b)"
    made = agrees(build(IMAGE, "float y", body, k=weights(4, 6, 3, 3), w=weights(5, 224), b=weights(5)))
    assert kinds(made) == {"Conv": 1, "Gemm": 1}


def test_padding_between_a_producer_with_other_readers_and_its_copy() -> None:
    """The filling must not come after what it surrounds."""
    body = "m = MatMul(x, w)\ns = ReduceSum(m, one)\np = Pad(m, pads)\nq = MatMul(p, v)\nt = Add(q, s)\ny = Relu(t)"
    agrees(
        build(
            "float[n,4,6] x",
            "float y",
            body,
            w=weights(6, 5),
            v=weights(5, 5),
            pads=ints(0, 1, 0, 0, 1, 0),
            one=ints(1),
        )
    )


class TestGathers:
    """Windows of 2 x 2 pixels of an image of 4 x 6, rolled by one."""

    ROLL = (
        "m = MatMul(x, w)\na = Slice(m, one, far, one)\nb = Slice(m, zero, one, one)\nr = Concat<axis=1>(a, b)\n"
        "c = Slice(r, one, far, two)\nd = Slice(r, zero, one, two)\ns = Concat<axis=2>(c, d)\n"
    )
    WINDOWS = "p = Reshape(s, split)\nt = Transpose<perm=[0,1,3,2,4,5]>(p)\nq = Reshape(t, join)\n"
    CONSTANTS = {  # noqa: RUF012
        "one": ints(1), "far": ints(100), "zero": ints(0), "two": ints(2), "split": ints(-1, 2, 2, 3, 2, 16),
        "join": ints(-1, 4, 16), "back": ints(-1, 4, 6, 32), "w": weights(16, 16), "v": weights(16, 32),
    }  # fmt: skip

    def test_a_roll_and_a_partition_are_one(self) -> None:
        body = f"{self.ROLL}{self.WINDOWS}n = MatMul(q, v)\ny = Reshape(n, back)"
        made = agrees(build("float[n,4,6,16] x", "float y", body, **self.CONSTANTS))
        assert kinds(made) == {"Gemm": 2, "GatherRows": 1}
        gather = only(made, GatherRows)
        assert gather.x.shape == gather.y.shape == (3, 24, 16)  # type: ignore[attr-defined]
        assert sorted(gather.index.buffer.data) == list(range(24))  # type: ignore[attr-defined]

    def test_what_is_added_comes_along(self) -> None:
        body = f"{self.ROLL}n = Add(x, s)\nk = MatMul(n, w)\ny = Add(k, n)"
        made = agrees(build("float[n,4,6,16] x", "float y", body, **self.CONSTANTS))
        assert kinds(made) == {"Gemm": 2, "GatherRows": 1}
        assert only(made, GatherRows).residual is not None  # type: ignore[attr-defined]

    def test_padding_counts_as_zero(self) -> None:
        body = (
            "m = MatMul(x, w)\ne = Sigmoid(m)\np = Pad(m, pads)\na = Slice(p, one, far, one)\n"
            "b = Slice(p, zero, one, one)\nr = Concat<axis=1>(a, b)\nn = MatMul(r, w)"
            "\nz = ReduceSum(e, axes)\ny = Add(n, z)"
        )
        more = {"pads": ints(0, 0, 0, 0, 0, 1, 2, 0), "axes": ints(1, 2)}
        made = agrees(build("float[n,4,6,16] x", "float y", body, **self.CONSTANTS, **more))
        assert -1 in only(made, GatherRows).index.buffer.data  # type: ignore[attr-defined]

    def test_what_others_read_in_between_stays(self) -> None:
        body = f"{self.ROLL}n = MatMul(s, w)\no = ReduceMax(r, axes)\ny = Add(n, o)"
        made = agrees(build("float[n,4,6,16] x", "float y", body, **self.CONSTANTS, axes=ints(1, 2)))
        assert kinds(made)["GatherRows"] == 2

    def test_short_rows_stay(self) -> None:
        body = "m = MatMul(x, w)\ny = Gather<axis=2>(m, i)"
        made = agrees(build("float[n,4,6] x", "float y", body, w=weights(6, 6), i=ints(5, 0, 1, 1, 3)))
        assert "GatherRows" not in kinds(made)
