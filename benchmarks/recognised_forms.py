"""Spelled-out activations, normalisation and attention against single operators, in ONNX Runtime and OpenVINO.

    python benchmarks/recognised_forms.py                  # a minute; writes results/recognised_forms.json
    python scripts/write_pass_docs.py                      # puts the ratios into docs/passes.md

A ratio is the operator's median time over the spelled-out form's: below 1, recognising it pays. The time is the
process's on the CPU, with one thread: single nodes take a millisecond, and other work on the machine would show in
the time on the clock. The contenders take turns in random order. Every operator's largest difference from the
spelled-out form, relative to its largest element, is measured too.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx.parser
import onnxruntime
import openvino
from machine import RESULTS, write_results

Array = np.ndarray[Any, Any]

IMAGE, TOKENS, HEADS = (1, 32, 112, 112), (1, 197, 768), (1, 12, 197, 64)
NUMBERS = """
 n1 = Constant<value_float = 1.0>()  n05 = Constant<value_float = 0.5>()  n3 = Constant<value_float = 3.0>()
 n0 = Constant<value_float = 0.0>()  n6 = Constant<value_float = 6.0>()  n2 = Constant<value_float = 2.0>()
 r2 = Constant<value_float = 1.41421356>()  cubic = Constant<value_float = 0.044715>()
 s = Constant<value_float = 0.79788456>()  e = Constant<value_float = 1e-5>()  ax = Constant<value_ints = [-1]>()
 c = Constant<value_float = 0.125>()
"""
# name -> the shape of every input, the inputs' names, the spelled-out form, {operator: the line that uses it}
FORMS: dict[str, tuple[tuple[int, ...], str, str, dict[str, str]]] = {
    "SiLU": (IMAGE, "x", "g = Sigmoid(x)  y = Mul(x, g)", {"Swish (opset 24)": "y = Swish(x)"}),
    "HardSwish": (
        IMAGE,
        "x",
        "a = Add(x, n3)  b = Clip(a, n0, n6)  d = Div(b, n6)  y = Mul(x, d)",
        {"HardSwish": "y = HardSwish(x)", "Mul, HardSigmoid": "g = HardSigmoid<alpha=0.16666667>(x)  y = Mul(x, g)"},
    ),
    "GELU (erf)": (
        (1, 197, 3072),
        "x",
        "a = Div(x, r2)  b = Erf(a)  d = Add(b, n1)  f = Mul(x, d)  y = Mul(f, n05)",
        {"Gelu": "y = Gelu(x)"},
    ),
    "GELU (tanh)": (
        (1, 197, 3072),
        "x",
        "a = Pow(x, n3)  b = Mul(a, cubic)  d = Add(x, b)  f = Mul(d, s)  t = Tanh(f)  u = Add(t, n1)  "
        "v = Mul(x, u)  y = Mul(v, n05)",
        {"Gelu": 'y = Gelu<approximate = "tanh">(x)'},
    ),
    "LayerNorm": (
        TOKENS,
        "x w z",
        "m = ReduceMean(x, ax)  d = Sub(x, m)  q = Mul(d, d)  v = ReduceMean(q, ax)  u = Add(v, e)  t = Sqrt(u)  "
        "f = Div(d, t)  g = Mul(f, w)  y = Add(g, z)",
        {"LayerNormalization": "y = LayerNormalization<epsilon = 1e-5>(x, w, z)"},
    ),
    "RMSNorm": (
        TOKENS,
        "x w",
        "q = Pow(x, n2)  v = ReduceMean(q, ax)  u = Add(v, e)  t = Sqrt(u)  r = Reciprocal(t)  f = Mul(x, r)  "
        "y = Mul(f, w)",
        {"RMSNormalization": "y = RMSNormalization<epsilon = 1e-5>(x, w)"},
    ),
    "attention": (
        HEADS,
        "q k v",
        "t = Transpose<perm = [0, 1, 3, 2]>(k)  a = MatMul(q, t)  b = Mul(a, c)  p = Softmax(b)  y = MatMul(p, v)",
        {"Attention": "y = Attention<scale = 0.125>(q, k, v)"},
    ),
    "attention, batch 8": (
        (8, *HEADS[1:]),
        "q k v",
        "t = Transpose<perm = [0, 1, 3, 2]>(k)  a = MatMul(q, t)  b = Mul(a, c)  p = Softmax(b)  y = MatMul(p, v)",
        {"Attention": "y = Attention<scale = 0.125>(q, k, v)"},
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each form and backend")
    parser.add_argument("--output", type=Path, default=RESULTS / "recognised_forms.json")
    args = parser.parse_args()
    rows = []
    for name, (shape, inputs, spelled, operators) in FORMS.items():
        feed = _feed(shape, inputs.split())
        for backend, load in (("onnxruntime", _onnxruntime), ("openvino", _openvino)):
            calls = {form: load(_model(lines, feed), feed) for form, lines in {"spelled": spelled, **operators}.items()}
            want = calls["spelled"]()
            times = _times(calls, args.seconds)
            for operator in operators:
                error = float(np.max(np.abs(calls[operator]() - want)) / np.max(np.abs(want)))
                ratio = round(times[operator] / times["spelled"], 3)
                rows.append({"form": name, "operator": operator, "backend": backend, "ratio": ratio, "error": error})
                print(rows[-1], file=sys.stderr)
    write_results(args.output, {"threads": 1, "forms": rows})
    return 0


def _times(calls: dict[str, Callable[[], Array]], seconds: float) -> dict[str, float]:
    """The median CPU time of each call, in turns for about ``seconds``."""
    samples: dict[str, list[float]] = {name: [] for name in calls}
    order = random.Random(0)
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline or len(samples["spelled"]) < 20:
        for name in order.sample(list(calls), len(calls)):
            started = time.process_time()
            calls[name]()
            samples[name].append(time.process_time() - started)
    return {name: statistics.median(each) for name, each in samples.items()}


def _feed(shape: tuple[int, ...], names: list[str]) -> dict[str, Array]:
    generator = np.random.default_rng(0)
    sizes = {"w": shape[-1:], "z": shape[-1:]}
    return {name: generator.standard_normal(sizes.get(name, shape)).astype(np.float32) for name in names}


def _model(lines: str, feed: dict[str, Array]) -> bytes:
    """Opset 24 has them all. Constants that are not used are folded away by both backends."""
    shapes = {name: ["batch", *a.shape[1:]] if a.ndim > 1 else list(a.shape) for name, a in feed.items()}
    inputs = ", ".join(f"float[{', '.join(map(str, dims))}] {name}" for name, dims in shapes.items())
    text = f'<ir_version: 10, opset_import: ["" : 24]> g ({inputs}) => (float[] y) {{ {NUMBERS} {lines} }}'
    return bytes(onnx.parser.parse_model(text).SerializeToString())


def _onnxruntime(model: bytes, feed: dict[str, Array]) -> Callable[[], Array]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, feed)[0]  # type: ignore[no-any-return]


def _openvino(model: bytes, feed: dict[str, Array]) -> Callable[[], Array]:
    options = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    core = openvino.Core()
    request = core.compile_model(core.read_model(model), "CPU", options).create_infer_request()
    return lambda: np.array(request.infer(feed, share_inputs=True)[0])


if __name__ == "__main__":
    sys.exit(main())
