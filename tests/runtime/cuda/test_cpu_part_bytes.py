"""Plans that leave something to the CPU, as bytes: what is written is read, and what is damaged is refused."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime.cuda.recording_driver import RecordingDriver
from runtime.cuda.sample_plans import STAND_INS, WIDTH, X, Y, changed, cpu_part, path, plan, plan_with_cpu, rows_of

from trine.errors import BuildError, EngineFormatError
from trine.runtime.cuda.executor import CudaExecutor
from trine.runtime.cuda.plan import CpuEdge, CpuStep
from trine.runtime.cuda.plan_bytes import plan_from_bytes, plan_to_bytes

HALF = ("w", "float32", (1, 512), bytes(2048))


def rich_plan():
    """With weights that two parts share, a value that goes from one to the other, and an output of the CPU's own."""
    sample = plan(4)
    first = replace(cpu_part("v = Neg(x)\ny = Identity(v)", outputs="float[r,c] y, float[r,c] v"), weights=(HALF,))
    second = replace(cpu_part("y = Neg(x)"), weights=(HALF,))
    (bucket,) = sample.buckets
    place = CpuEdge(("arena", 4 * WIDTH * 4), (4, WIDTH))
    steps = (
        CpuStep(0, 1, (replace(place, rows=(0, 1)),), (place, CpuEdge(("slot", 0))), 1),
        CpuStep(1, 2, (CpuEdge(("slot", 0)),), (CpuEdge(("output", 1)),), 1),
    )
    return replace(
        sample, buckets=(replace(bucket, cpu_steps=steps),), cpu_parts=(first, second), rows_vary=False,
        inputs=(((4, WIDTH), "float32"),), outputs=(((4, WIDTH), "float32"), (None, "float32")),
    )  # fmt: skip


SAMPLE = rich_plan()
DATA = plan_to_bytes(SAMPLE)


def test_round_trip():
    found = plan_from_bytes(DATA)
    assert found == SAMPLE
    assert plan_to_bytes(found) == DATA


def test_plans_without_such_parts_do_not_speak_of_them():
    assert b"cpu_" not in plan_to_bytes(plan(1, 4))


def test_weights_that_parts_share_are_kept_once():
    alone = replace(SAMPLE, cpu_parts=(SAMPLE.cpu_parts[0], replace(SAMPLE.cpu_parts[1], weights=())))
    assert len(DATA) - len(plan_to_bytes(alone)) < 512


def test_a_plan_that_was_read_runs():
    read = plan_from_bytes(plan_to_bytes(plan_with_cpu()))
    session = CudaExecutor(read, (X,), (Y,), driver=RecordingDriver(STAND_INS)).open_session()
    x = rows_of(3)
    np.testing.assert_array_equal(session.run([x], [None])[0], -(2 * x + np.arange(WIDTH, dtype=np.float32)))


STEP = ("buckets", 0, "cpu_steps", 0)
LAST = ("buckets", 0, "cpu_steps", 1)
FROM_CALLER = {"place": ["input", 0], "shape": [4, WIDTH], "rows": None}


def both(first, second):
    def change(fields):
        first(fields)
        second(fields)

    return change


DAMAGES = {
    "part of none": path(*STEP, "part")(2),
    "behind more launches than there are": path(*STEP, "after")(4),
    "steps out of order": path(*STEP, "after")(3),
    "group of none": path(*STEP, "group")(9),
    "input past the arena": path(*STEP, "inputs", 0, "place")(["arena", 4 * WIDTH * 4 + 1]),
    "output past the arena": path(*STEP, "outputs", 0, "place")(["arena", 1 << 40]),
    "negative offset": path(*STEP, "inputs", 0, "place")(["arena", -256]),
    "more elements than the arena has": path(*STEP, "inputs", 0, "shape")([4, 1 << 30]),
    "no shape in the arena": path(*STEP, "outputs", 0, "shape")(None),
    "unknown place": path(*STEP, "inputs", 0, "place")(["weight", 0]),
    "place without a number": path(*STEP, "inputs", 0, "place")(["arena"]),
    "too few inputs": path(*STEP, "inputs")([]),
    "too many outputs": path(*LAST, "outputs")([{"place": ["slot", 1], "shape": None, "rows": None}] * 2),
    "slot that nothing fills": path(*LAST, "inputs", 0, "place")(["slot", 3]),
    "slot of another type": path("cpu_parts", 1, "inputs", 0)(["x", "int64"]),
    "input of another type": both(path("inputs", 0, 1)("int64"), path(*STEP, "inputs", 0)(FROM_CALLER)),
    "input of none": path(*STEP, "inputs", 0)({"place": ["input", 1], "shape": [4, WIDTH], "rows": None}),
    "input of another shape": path(*STEP, "inputs", 0)({"place": ["input", 0], "shape": [5, WIDTH], "rows": None}),
    "output of another shape": path(*STEP, "outputs", 0)({"place": ["output", 0], "shape": [4], "rows": None}),
    "input as an output": path(*STEP, "outputs", 0, "place")(["input", 0]),
    "rows of another axis": path(*STEP, "inputs", 0, "rows")([1, 1]),
    "rows of no axis": path(*STEP, "inputs", 0, "rows")([2, 1]),
    "rows times nothing": path(*STEP, "inputs", 0, "rows")([0, 2]),
    "rows of an output": path(*STEP, "outputs", 0, "rows")([0, 1]),
    "output that the CPU does not give": path(*LAST, "outputs", 0, "place")(["slot", 1]),
    "output that a launch writes": path("buckets", 0, "launches", 2, "arguments", 1)(["output", 1, 0]),
    "rows that vary beside such an output": path("rows_vary")(True),
    "steps without parts": path("cpu_parts")([]),
    "model outside": path("cpu_parts", 0, "model")([0, 1 << 40]),
    "model that is none": path("cpu_parts", 0, "model")([0, 7]),
    "weight of another size": path("cpu_parts", 0, "weights", 0, 2)([1, 511]),
    "weight of less than bytes": path("cpu_parts", 0, "weights", 0, 1)("int4"),
    "unknown type": path("cpu_parts", 0, "outputs", 0, 1)("float12"),
    "node without a name": path("cpu_parts", 0, "nodes", 0)({"op": "Neg"}),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_header_is_refused(damage):
    with pytest.raises(EngineFormatError, match="build the engine again") as caught:
        plan_from_bytes(changed(DATA, damage), "plan/cuda_sm_90")
    assert caught.value.section == "plan/cuda_sm_90"


def test_a_model_that_would_read_files_is_refused():
    model = onnx.load_from_string(SAMPLE.cpu_parts[0].model)
    tensor = model.graph.initializer.add(name="secret", data_type=1, dims=[4], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/passwd")
    part = replace(SAMPLE.cpu_parts[0], model=model.SerializeToString())
    data = plan_to_bytes(replace(SAMPLE, cpu_parts=(part, SAMPLE.cpu_parts[1])))
    with pytest.raises(EngineFormatError, match="refers to external data"):
        plan_from_bytes(data)


def run_or_refuse(data):
    """EngineFormatError; or a plan that runs, or fails by an error that is meant."""
    try:
        found = plan_from_bytes(data)
    except EngineFormatError:
        return
    assert plan_to_bytes(plan_from_bytes(plan_to_bytes(found))) == plan_to_bytes(found)
    infos = [
        tuple(replace(X, shape=("n",) if shape is None else shape) for shape, _ in edges)
        for edges in (found.inputs, found.outputs)
    ]
    driver = RecordingDriver()
    driver.capability = int(found.target.removeprefix("sm_")) if found.target.startswith("sm_") else 0
    if found.target != f"sm_{driver.capability}" or [dtype for _, dtype in found.inputs] != ["float32"]:
        return
    try:
        executor = CudaExecutor(found, *infos, driver=driver)
        executor.open_session().run([np.zeros(found.inputs[0][0], np.float32)], [None] * len(found.outputs))
    except (BuildError, RuntimeError):  # what the backend says of a model, or of its arrays
        return


HEADER = 16 + int.from_bytes(DATA[8:16], "little")


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(DATA.index(b'"cpu_steps"'), HEADER - 1), st.integers(1, 255)), min_size=1, max_size=3
    )
)
def test_flipped_bits(flips):
    data = bytearray(DATA)
    for place, mask in flips:
        data[place] ^= mask
    run_or_refuse(bytes(data))
