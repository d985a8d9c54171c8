"""Whole engines on the GPU: right for every number of rows, whatever was in memory before, in threads and processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("triton", reason="compiles kernels with Triton, which is not installed")

from gpu.gpu_engines import ANY, BUCKETS, NETWORKS, allowed_error, answer_of, built, pictures, relative_error

import trine
from trine.runtime.cuda.executor import CudaExecutor

pytestmark = pytest.mark.gpu

SRC = Path(__file__).resolve().parents[2] / "src"


@pytest.mark.parametrize("rows", range(1, BUCKETS[-1] + 1))
@pytest.mark.parametrize("name", NETWORKS)
def test_every_number_of_rows(name: str, rows: int) -> None:
    x = pictures(name, rows, seed=rows)
    assert relative_error(built(name)(x), answer_of(name, x)) <= allowed_error(name, "fp16")


@pytest.mark.parametrize("precision", ["bf16", "tf32", "fp32"])
@pytest.mark.parametrize("name", ["resnet", ANY, "vit"])
def test_every_precision(name: str, precision: str) -> None:
    x = pictures(name, 5)
    assert relative_error(built(name, precision)(x), answer_of(name, x)) <= allowed_error(name, precision)


@pytest.mark.parametrize("name", NETWORKS)
def test_rows_that_are_the_same_are_answered_the_same(name: str) -> None:
    row = pictures(name, 1)
    for rows in (2, 4, 7):
        answers = built(name)(np.repeat(row, rows, axis=0))
        assert all(answer.tobytes() == answers[0].tobytes() for answer in answers)


@pytest.mark.parametrize("byte", [0x00, 0xFF, 0x7B])
@pytest.mark.parametrize("name", NETWORKS)
def test_what_was_in_memory_does_not_matter(name: str, byte: int) -> None:
    engine, x = built(name), pictures(name, 3)
    want = engine(x)
    with engine.create_execution_context() as context:
        context._session.poison(byte)  # type: ignore[union-attr]
        (got,) = context.execute({engine.manifest.inputs[0].name: x}).values()
    assert got.tobytes() == want.tobytes()


@pytest.mark.parametrize("name", NETWORKS)
def test_launches_that_start_early_change_nothing(name: str) -> None:
    engine = built(name)
    plans = [
        replace(engine.plan, buckets=tuple(replace(bucket, early=early) for bucket in engine.plan.buckets))
        for early in (False, True)
    ]
    executors = [CudaExecutor(plan, engine.manifest.inputs, engine.manifest.outputs) for plan in plans]
    sessions = [executor.open_session() for executor in executors]
    for seed in range(20):
        x = pictures(name, BUCKETS[seed % len(BUCKETS)], seed)
        plain, early = (session.run([x], [None])[0] for session in sessions)
        assert plain.tobytes() == early.tobytes()
    for executor in executors:
        executor.close()


def test_contexts_in_two_threads() -> None:
    engine = built(ANY)
    name = engine.manifest.inputs[0].name
    inputs = [[pictures(ANY, 1 + (seed + thread) % 8, seed) for seed in range(30)] for thread in range(2)]
    want = [[engine(x) for x in each] for each in inputs]
    got: list[list[np.ndarray]] = [[], []]

    def work(number: int) -> None:
        with engine.create_execution_context() as context:
            for x in inputs[number]:
                got[number].extend(context.execute({name: x}).values())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for found, expected in zip(got, want, strict=True):
        assert [each.tobytes() for each in found] == [each.tobytes() for each in expected]


LOAD = """
import sys, numpy as np, trine
engine = trine.load("net.trine")
np.save("y.npy", engine(np.load("x.npy")))
print(engine.device, sorted({"torch", "triton", "onnx", "onnxruntime", "openvino"} & sys.modules.keys()))
"""


def run_in(folder: Path, program: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(SRC), *filter(None, sys.path)]), **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_new_process_loads_neither_torch_nor_triton(tmp_path: Path) -> None:
    engine, x = built(ANY), pictures(ANY, 3)
    engine.save(tmp_path / "net.trine")
    np.save(tmp_path / "x.npy", x)
    assert run_in(tmp_path, LOAD) == "cuda:0 []"
    assert np.load(tmp_path / "y.npy").tobytes() == engine(x).tobytes()


BUILD = """
import numpy as np, torch, trine
from gpu.gpu_engines import ANY, module_of, pictures
engine = trine.build(
    module_of(ANY), (torch.from_numpy(pictures(ANY, 2)),), target=TARGET, precision="fp16", batch=(1, 4, 4),
    verify=False,
)
print(engine.device)
engine.save("net.trine")
"""


def test_an_engine_that_was_built_without_a_gpu(tmp_path: Path) -> None:
    target = built(ANY).plan.target
    program = f"TARGET = {target!r}\n{BUILD}"
    tests = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join([str(SRC), tests, *filter(None, sys.path)])
    assert run_in(tmp_path, program, CUDA_VISIBLE_DEVICES="", PYTHONPATH=path) == "cpu"
    engine = trine.load(tmp_path / "net.trine", device="cuda")
    x = pictures(ANY, 3, seed=5)
    assert relative_error(engine(x), answer_of(ANY, x)) <= allowed_error(ANY, "fp16")
