"""Eras: the version reported, names that come and go with it, numbers that changed, and the retired warn once."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import trine.compat.tensorrt as trt
from trine.compat.tensorrt import eras
from trine.errors import ConfigError


def test_versions() -> None:
    assert trt.__version__.startswith("10.")
    for era, version in (("8", "8.6.1"), ("8.2", "8.2.1.8"), ("10.0", "10.0.0"), ("11", "11.1.0.106")):
        with eras.override(era):
            assert trt.__version__ == version
    with pytest.raises(ConfigError, match="9"):
        eras.use("9")


def test_members_come_and_go() -> None:
    logger = trt.Logger()
    with eras.override("10"):
        assert not hasattr(trt.ICudaEngine, "num_bindings")
        assert not hasattr(trt.Builder, "build_cuda_engine")
        assert hasattr(trt.ICudaEngine, "num_io_tensors")
        config = trt.Builder(logger).create_builder_config()
        with pytest.raises(AttributeError, match="max_workspace_size"):
            config.max_workspace_size = 1
    with eras.override("8.2"):
        assert hasattr(trt.ICudaEngine, "num_bindings")
        assert not hasattr(trt.ICudaEngine, "num_io_tensors")
        assert not hasattr(trt, "bfloat16")
        assert not hasattr(trt, "IProgressMonitor")
    with eras.override("11"):
        assert not hasattr(trt.BuilderFlag, "FP16")
        assert not hasattr(trt.ILayer, "precision")
    assert hasattr(trt.ICudaEngine, "num_bindings")
    assert hasattr(trt.ICudaEngine, "num_io_tensors")


def test_numbers_that_changed() -> None:
    numbers = {}
    for era in ("8.6", "10", "11"):
        with eras.override(era):
            numbers[era] = (int(trt.BuilderFlag.REFIT), int(trt.LayerType.CONSTANT), int(trt.LayerType.IDENTITY))
    assert numbers == {"8.6": (5, 19, 21), "10": (4, 19, 20), "11": (4, 19, 20)}
    with eras.override("11"):
        assert int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) == 0
    with eras.override("10"):
        assert int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) == 1


def test_the_batch_is_implicit_only_before_ten() -> None:
    builder = trt.Builder(trt.Logger())
    for era, implicit in (("7", True), ("8", True), ("10", False), ("11", False), (None, False)):
        with eras.override(era):
            network = builder.create_network()
            network.add_input("x", trt.float32, (1, 2))
            assert network._implicit is implicit


def test_a_retired_idiom_warns_once() -> None:
    config = trt.Builder(trt.Logger()).create_builder_config()
    eras._warned.discard("IBuilderConfig.max_workspace_size")
    with pytest.warns(DeprecationWarning, match="set_memory_pool_limit"):
        config.max_workspace_size = 1 << 20
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert config.max_workspace_size == 1 << 20
        assert config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) == 1 << 20


def test_a_program_runs_unchanged(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        "import sys\n"
        "import tensorrt as trt\n"
        "import pycuda.autoinit\n"
        "import pycuda.driver as cuda\n"
        "print(trt.__version__, sys.argv[1:], hasattr(trt.ICudaEngine, 'num_bindings'),"
        " cuda.mem_alloc(4) is not None)\n"
    )
    command = [sys.executable, "-m", "trine.compat.run", "--era", "10", str(script), "a"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.stdout.split() == ["10.16.0.72", "['a']", "False", "True"], run.stderr
    missing = subprocess.run([*command[:-2], "nothing.py"], capture_output=True, text=True, check=False)
    assert missing.returncode == 2
    assert "no such file" in missing.stderr


def test_running_an_engine_imports_no_onnx() -> None:
    code = (
        "import sys, trine.compat.tensorrt as trt\n"
        "runtime = trt.Runtime(trt.Logger(trt.Logger.INTERNAL_ERROR))\n"
        "assert runtime.deserialize_cuda_engine(b'garbage') is None\n"
        "trt.ICudaEngine, trt.IExecutionContext\n"
        "sys.exit(any(name in sys.modules for name in ('onnx', 'onnx_ir', 'torch')))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
