"""What computes the parts of a CUDA plan that are left to the CPU."""

import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
from runtime.cuda.sample_plans import cpu_part

from trine.errors import MissingDependencyError
from trine.runtime.cpu.onnxruntime_executor import OnnxRuntimeExecutor
from trine.runtime.cpu.openvino_executor import OpenVinoExecutor
from trine.runtime.cuda.cpu_parts import open_part

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_any_shape():
    executor = open_part(cpu_part(), threads=1)
    session = executor.open_session()
    for x in (X, X[:1], X.reshape(3, 2)):
        np.testing.assert_array_equal(session.run([x], [None])[0], -x)
    executor.close()


def test_large_weights():
    w = np.random.default_rng(0).standard_normal((3, 400)).astype(np.float32)
    model = onnx.load_from_string(cpu_part("y = MatMul(x, w)", "float[r,c] x, float[a,b] w").model)
    del model.graph.input[1]
    part = replace(cpu_part(), model=model.SerializeToString(), weights=(("w", "float32", (3, 400), w.tobytes()),))
    (y,) = open_part(part, threads=1).open_session().run([X], [None])
    np.testing.assert_allclose(y, X @ w, rtol=1e-5)


@pytest.mark.parametrize(("missing", "kind"), [("onnxruntime", OpenVinoExecutor), ("openvino", OnnxRuntimeExecutor)])
def test_with_what_is_installed(monkeypatch, missing, kind):
    monkeypatch.setitem(sys.modules, missing, None)
    executor = open_part(cpu_part(), threads=1)
    assert isinstance(executor, kind)
    np.testing.assert_array_equal(executor.open_session().run([X], [None])[0], -X)
    executor.close()


def test_with_nothing_installed(monkeypatch):
    for name in ("onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError, match=r"part of this engine runs on the CPU.*pip install onnxruntime"):
        open_part(cpu_part(), threads=1)
