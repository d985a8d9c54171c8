"""Random small graphs through the whole list: valid afterwards, and the same answers."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pass_checks import build, feed_for, optimise, run


@dataclass
class Graph:
    """A graph under construction: lines of ONNX's text format, the values so far with their shapes, weights."""

    random: np.random.Generator
    draw: st.DrawFn
    lines: list[str] = field(default_factory=list)
    values: list[tuple[str, tuple[int | str, ...]]] = field(default_factory=list)
    weights: dict[str, np.ndarray] = field(default_factory=dict)

    def pick(self, rank: int | None = None) -> tuple[str, tuple[int | str, ...]]:
        """One of the values so far, mostly a late one: chains are what patterns are made of."""
        fitting = [value for value in self.values if rank is None or len(value[1]) == rank]
        late = fitting[-3:]
        return self.draw(st.sampled_from(fitting if self.draw(st.integers(0, 4)) == 0 else late))

    def weight(self, *shape: int, low: float = -1.0, high: float = 1.0) -> str:
        """A new constant."""
        name = f"w{len(self.weights)}"
        self.weights[name] = self.random.uniform(low, high, shape).astype(np.float32)
        return name

    def number(self, value: float) -> str:
        """A new scalar constant."""
        name = f"w{len(self.weights)}"
        self.weights[name] = np.array(value, np.float32)
        return name

    def integers(self, *values: int) -> str:
        """A new constant of int64."""
        name = f"w{len(self.weights)}"
        self.weights[name] = np.array(values, np.int64)
        return name

    def put(self, expression: str, shape: tuple[int | str, ...], keep: bool = True) -> str:
        """A new value."""
        name = f"v{len(self.lines)}"
        self.lines.append(f"{name} = {expression}")
        if keep:
            self.values.append((name, shape))
        return name


def _conv(g: Graph) -> None:
    x, (n, c, h, w) = g.pick(4)
    out, pad = g.draw(st.sampled_from([2, 4])), g.draw(st.integers(0, 1))
    if g.draw(st.booleans()):
        x = g.put(f"Pad({x}, {g.integers(0, 0, 1, 0, 0, 0, 1, 1)})", (), keep=False)
        h, w = h + 2, w + 1
    bias = f", {g.weight(out)}" if g.draw(st.booleans()) else ""
    y = g.put(
        f"Conv<pads = [{pad}, {pad}, {pad}, {pad}]>({x}, {g.weight(out, c, 3, 3)}{bias})",
        (n, out, h + 2 * pad - 2, w + 2 * pad - 2),
    )
    if g.draw(st.booleans()):
        shape = g.values[-1][1]
        parameters = [g.weight(out), g.weight(out), g.weight(out), g.weight(out, low=0.3)]
        y = g.put(f"BatchNormalization({', '.join([y, *parameters])})", shape)
    if g.draw(st.booleans()):
        g.put(f"{g.draw(st.sampled_from(['Mul', 'Add', 'Sub']))}({y}, {g.weight(out, 1, 1)})", g.values[-1][1])


def _affine(g: Graph) -> None:
    x, shape = g.pick()
    op = g.draw(st.sampled_from(["Add", "Mul", "Sub", "Div"]))
    rank = len(shape)
    dims = [()] + ([(shape[1], *[1] * (rank - 2))] if isinstance(shape[1], int) else [])
    if isinstance(shape[-1], int):
        dims.append((shape[-1],))
    constant = g.weight(*g.draw(st.sampled_from(dims)), low=0.5, high=1.5)
    flipped = op != "Div" and g.draw(st.booleans())
    g.put(f"{op}({constant}, {x})" if flipped else f"{op}({x}, {constant})", shape)


def _unary(g: Graph) -> None:
    x, shape = g.pick()
    op = g.draw(
        st.sampled_from(["Relu", "Identity", "Dropout", "Sigmoid", "Tanh", "Cast<to = 1>", "Softmax<axis = -1>"])
    )
    g.put(f"{op}({x})", shape)


def _binary(g: Graph) -> None:
    (x, shape), (y, other) = g.pick(), g.pick()
    if shape == other:
        g.put(f"{g.draw(st.sampled_from(['Add', 'Mul', 'Sub', 'Max']))}({x}, {y})", shape)


def _transpose(g: Graph) -> None:
    x, shape = g.pick()
    if shape[0] != "n" and not all(isinstance(dim, int) for dim in shape[1:]):
        return
    perm = [0, *g.draw(st.permutations(range(1, len(shape))))]
    turned = tuple(shape[axis] for axis in perm)
    y = g.put(f"Transpose<perm = {perm}>({x})", turned)
    if g.draw(st.booleans()):
        g.put(f"Transpose<perm = {[perm.index(axis) for axis in range(len(perm))]}>({y})", shape)


def _reshape(g: Graph) -> None:
    x, shape = g.pick()
    size = int(np.prod(shape[1:]))
    kind = g.draw(st.integers(0, 4))
    if kind == 0:
        g.put(f"Flatten({x})", (shape[0], size))
    elif kind == 1:
        g.put(f"Reshape({x}, {g.integers(-1, size)})", (shape[0], size))
    elif kind == 2 and size % 4 == 0:
        batch = g.put(f"Shape<end = 1>({x})", (), keep=False)
        target = g.put(f"Concat<axis = 0>({batch}, {g.integers(4, size // 4)})", (), keep=False)
        g.put(f"Reshape({x}, {target})", (shape[0], 4, size // 4))
    elif kind == 3 and len(shape) < 4:
        g.put(f"Unsqueeze({x}, {g.integers(1)})", (shape[0], 1, *shape[1:]))
    elif shape[1] == 1 and len(shape) > 2:
        g.put(f"Squeeze({x}, {g.integers(1)})", (shape[0], *shape[2:]))


def _matmul(g: Graph) -> None:
    x, shape = g.pick()
    y = g.put(f"MatMul({x}, {g.weight(shape[-1], 4)})", (*shape[:-1], 4))
    if g.draw(st.booleans()):
        y = g.put(f"Add({y}, {g.weight(4)})", (*shape[:-1], 4))
    if g.draw(st.booleans()):
        g.put(f"Mul({y}, {g.weight(4)})", (*shape[:-1], 4))


def _pool(g: Graph) -> None:
    x, (n, c, h, w) = g.pick(4)
    if min(h, w) < 3:
        return
    padded = g.put(f"Pad({x}, {g.integers(0, 0, 1, 1, 0, 0, 1, 1)})", (), keep=False)
    op = g.draw(st.sampled_from(["AveragePool", "MaxPool"]))
    g.put(f"{op}<kernel_shape = [3, 3]>({padded})", (n, c, h, w))


def _select(g: Graph, chosen: tuple[str, tuple[int | str, ...]] | None = None) -> None:
    x, shape = chosen or g.pick()
    if len(shape) < 3:
        return
    axis = g.draw(st.integers(1, len(shape) - 1))
    before, after = shape[:axis], shape[axis + 1 :]
    kind = g.draw(st.integers(0, 2))
    if kind == 0:
        index = g.integers(-1)
        g.weights[index] = g.weights[index].reshape(())
        g.put(f"Gather<axis = {axis}>({x}, {index})", (*before, *after))
    elif kind == 1:
        g.put(f"Gather<axis = {axis}>({x}, {g.integers(0, -1)})", (*before, 2, *after))
    else:
        bounds = f"{g.integers(0)}, {g.integers(1)}, {g.integers(axis)}"
        g.put(f"Slice({x}, {bounds})", (*before, 1, *after))


def _norm(g: Graph) -> None:
    x, shape = g.pick()
    kind = g.draw(st.integers(0, 3))
    if kind == 0:
        _spelled_norm(g, x, shape)
    else:
        # A product may be all that reads it, with or without a bias, or a selection.
        y = g.put(f"LayerNormalization({x}, {g.weight(shape[-1])}, {g.weight(shape[-1])})", shape, keep=kind == 1)
        if kind == 3:
            _select(g, (y, shape))
            return
        if kind == 2:
            y = g.put(f"MatMul({y}, {g.weight(shape[-1], 4)})", (*shape[:-1], 4))
            if g.draw(st.booleans()):
                g.put(f"Add({y}, {g.weight(4)})", (*shape[:-1], 4))
    if g.draw(st.booleans()):
        _select(g, g.values[-1])


def _spelled_norm(g: Graph, x: str, shape: tuple[int | str, ...]) -> None:
    axis = g.integers(-1)
    if g.draw(st.booleans()):
        mean = g.put(f"ReduceMean({x}, {axis})", (), keep=False)
        x = g.put(f"Sub({x}, {mean})", shape, keep=g.draw(st.integers(0, 3)) == 0)
    square = g.put(f"Mul({x}, {x})", (), keep=False)
    mean = g.put(f"ReduceMean({square}, {axis})", (), keep=False)
    root = g.put(f"Sqrt({g.put(f'Add({mean}, {g.number(0.01)})', (), keep=False)})", (), keep=False)
    y = g.put(f"Div({x}, {root})", shape)
    if g.draw(st.booleans()):
        y = g.put(f"Mul({y}, {g.weight(shape[-1])})", shape)
        g.put(f"Add({y}, {g.weight(shape[-1])})", shape)


def _activation(g: Graph) -> None:
    x, shape = g.pick()
    if g.draw(st.booleans()):
        gate = g.put(f"Exp({g.put(f'Neg({x})', (), keep=False)})", (), keep=False)
        g.put(f"Div({x}, {g.put(f'Add({gate}, {g.number(1)})', (), keep=False)})", shape)
        return
    inner = g.put(f"Erf({g.put(f'Mul({x}, {g.number(0.5**0.5)})', (), keep=False)})", (), keep=False)
    outer = g.put(f"Mul({x}, {g.put(f'Add({inner}, {g.number(1)})', (), keep=False)})", (), keep=False)
    g.put(f"Mul({outer}, {g.number(0.5)})", shape)


def _attention(g: Graph) -> None:
    x, shape = g.pick(4)
    scale = g.number(0.4)
    keys = g.put(f"Transpose<perm = [0, 1, 3, 2]>({x})", (), keep=False)
    scores = g.put(f"Mul({g.put(f'MatMul({x}, {keys})', (), keep=False)}, {scale})", (), keep=False)
    g.put(f"MatMul({g.put(f'Softmax({scores})', (), keep=False)}, {x})", shape)


STEPS = [
    _conv, _affine, _unary, _binary, _transpose, _reshape, _matmul, _pool, _norm, _select, _activation, _attention,
]  # fmt: skip


@st.composite
def models(draw: st.DrawFn) -> onnx.ModelProto:
    """A valid model with one input of four dimensions, a few random steps, and one to three outputs."""
    g = Graph(np.random.default_rng(draw(st.integers(0, 2**16))), draw)
    g.put("Relu(x)" if draw(st.booleans()) else "Identity(x)", ("n", 4, 5, 6))
    for step in draw(st.lists(st.sampled_from(STEPS), min_size=1, max_size=9)):
        if step in (_conv, _pool, _attention) and not any(len(shape) == 4 for _, shape in g.values):
            continue
        if step is _conv:
            shape = next(shape for _, shape in reversed(g.values) if len(shape) == 4)
            if any(len(s) == 4 and min(s[2:]) < 3 for _, s in g.values) or not isinstance(shape[1], int):
                continue
        step(g)
    chosen = [g.values[-1]]
    if draw(st.booleans()):
        chosen += draw(st.lists(st.sampled_from(g.values[:-1] or g.values), max_size=2, unique=True))
    names = dict.fromkeys(name for name, _ in chosen)
    shapes = dict(g.values)
    outputs = ", ".join(f"float[{', '.join(map(str, shapes[name]))}] {name}" for name in names)
    return build("float[n, 4, 5, 6] x", outputs, "\n".join(g.lines), **g.weights)


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(models())
def test_random_graphs_keep_their_answers(proto: onnx.ModelProto) -> None:
    model, _ = optimise(proto)
    feed = feed_for(proto, dynamic=2)
    for want, got in zip(run(proto, feed), run(model, feed), strict=True):
        assert got.shape == want.shape
        assert got.dtype == want.dtype
        # Sums of up to 36 products, through at most nine steps, in float32: 1e-4 of the largest element.
        scale = float(np.max(np.abs(want[np.isfinite(want)]), initial=1e-3))
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-4 * scale)
