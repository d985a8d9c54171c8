from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from cli_models import classifier
from onnx import numpy_helper
from PIL import Image


def test_an_engine_and_its_source(trine, engine_file: Path, model_file: Path, in_folder: Path) -> None:
    Image.new("RGB", (12, 12), (9, 99, 199)).save("photo.png")
    np.save("x.npy", np.ones((2, 3, 8, 8), np.float32))
    for files in ((), ("photo.png",), ("x.npy",)):
        result = trine("verify", engine_file, model_file, *files)
        assert result.code == 0, result.err
        assert "PASSED" in result.out


def test_another_model_fails_with_a_table(trine, engine_file: Path, in_folder: Path) -> None:
    other = classifier()
    dense = next(tensor for tensor in other.graph.initializer if tensor.name == "dense")
    dense.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(dense), "dense"))
    onnx.save(other, "other.onnx")
    result = trine("verify", engine_file, "other.onnx")
    assert result.code == 1
    assert "FAILED" in result.out
    document = json.loads(trine("verify", engine_file, "other.onnx", "--json").out)
    assert document["passed"] is False
    assert trine("verify", engine_file, "other.onnx", "--tolerance", "10").code == 0


def test_a_source_that_is_missing(trine, engine_file: Path, in_folder: Path) -> None:
    assert trine("verify", engine_file, "no.onnx").code == 2
