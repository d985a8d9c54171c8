from __future__ import annotations

import inspect
import logging
import runpy
import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from pass_checks import build, op_types, optimise, optimised

from trine.passes.pipeline import DEFAULT_PASSES, PassRecord, run_passes
from trine.passes.remove_identities import RemoveIdentities

ROOT = Path(__file__).resolve().parents[2]
X, Y = "float[n, 3, 8, 8] x", "float[n, 4, 6, 6] y"


def _conv_norm_silu():
    generator = np.random.default_rng(0)
    body = """
        a = Conv(x, w)
        b = BatchNormalization(a, s, c, m, v)
        d = Dropout(b)
        e = Neg(d)
        f = Exp(e)
        g = Add(f, one)
        y = Div(d, g)
    """
    constants = {name: generator.uniform(0.5, 1, 4).astype(np.float32) for name in "scmv"}
    weights = generator.standard_normal((4, 3, 3, 3)).astype(np.float32)
    return build(X, Y, body, w=weights, one=np.float32(1), **constants)


def test_records_say_what_each_pass_did() -> None:
    seen: list[str] = []
    model = ir.from_proto(_conv_norm_silu())
    records = run_passes(model, on_pass=seen.append)
    assert seen == [record.name for record in records] == [type(each).__name__ for each in DEFAULT_PASSES]
    changed = {record.name: record.changed for record in records if record.changed}
    assert changed["RemoveIdentities"] == 1
    assert changed["RecogniseActivations"] == 1
    assert changed["FoldBatchNorm"] == 1
    assert records[-1] == PassRecord("RemoveDeadNodes", records[-1].changed, 3)
    assert op_types(model) == ["Conv", "Sigmoid", "Mul"]


def test_a_second_run_changes_nothing() -> None:
    model, _ = optimise(_conv_norm_silu())
    assert all(record.changed == 0 for record in run_passes(model))


def test_answers_stay() -> None:
    optimised(_conv_norm_silu())


def test_a_list_of_ones_own() -> None:
    model = ir.from_proto(_conv_norm_silu())
    assert [record.name for record in run_passes(model, [RemoveIdentities()])] == ["RemoveIdentities"]
    assert "BatchNormalization" in op_types(model)


def test_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("onnx_ir")
    level = logger.level
    with caplog.at_level(logging.WARNING):
        optimise(build(X, "float[n, 3, 8, 8] y, float[4] c", "y = Relu(x)", c=np.zeros(4, np.float32)))
    assert not caplog.records
    assert logger.level == level


def test_weights_are_not_copied() -> None:
    proto = _conv_norm_silu()
    del proto.graph.node[1:]
    proto.graph.node[0].output[0] = "y"
    del proto.graph.initializer[1:]
    model = ir.from_proto(proto)
    before = model.graph.initializers["w"].const_value
    run_passes(model)
    assert model.graph.initializers["w"].const_value is before


def test_names_that_two_branches_share() -> None:
    body = """
        c = ReduceSum<keepdims = 0>(x)
        t = Cast<to = 9>(c)
        y = If(t) <
            then_branch = yes () => (float[n, 3, 8, 8] r) { a = Neg(x) r = Exp(a) },
            else_branch = no () => (float[n, 3, 8, 8] r) { a = Abs(x) r = Sqrt(a) }
        >
    """
    optimised(build(X, "float[n, 3, 8, 8] y", body))


def test_loops_keep_what_they_capture() -> None:
    body = """
        k = Constant<value_int = 3>()
        t = Constant<value = bool {1}>()
        i = Identity(x)
        z = Relu(i)
        y = Loop(k, t, x) <body = step (int64 number, bool go, float[n, 3, 8, 8] had)
            => (bool on, float[n, 3, 8, 8] has) { on = Identity(go) s = Add(had, z) u = Identity(s) has = Mul(u, i) }>
    """
    model = optimised(build(X, "float[n, 3, 8, 8] y", body))
    assert op_types(model) == ["Relu", "Loop"]


def test_every_pass_has_a_file_of_its_own_and_a_docstring_with_before_and_after() -> None:
    for each in DEFAULT_PASSES:
        kind = type(each)
        snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in kind.__name__)[1:]
        assert Path(inspect.getfile(kind)).stem.replace("matmul", "mat_mul") == snake
        docstring = inspect.cleandoc(kind.__doc__ or "")
        assert docstring.index("Before: ") < docstring.index("After: ")
        assert (ROOT / "tests" / "passes" / f"test_{Path(inspect.getfile(kind)).stem}.py").exists()


def test_the_page_is_up_to_date(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    script = ROOT / "scripts" / "write_pass_docs.py"
    monkeypatch.syspath_prepend(script.parent)  # where its sibling is
    monkeypatch.setattr(sys, "argv", [str(script), "--check"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert ended.value.code == 0, capsys.readouterr().out
