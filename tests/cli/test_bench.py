from __future__ import annotations

import json
from pathlib import Path

import pytest

QUICK = ("--duration", "0.05", "--warmUp", "0", "--iterations", "5")


def test_the_summary_is_trtexec_s(trine, engine_file: Path) -> None:
    result = trine("bench", engine_file, *QUICK, "--percentile", "50,99.9")
    assert result.code == 0, result.err
    assert "=== Performance summary ===" in result.out
    assert "Throughput: " in result.out
    for part in ("min = ", "max = ", "mean = ", "median = ", "percentile(50%) = ", "percentile(99.9%) = "):
        assert part in result.out
    assert "host to host" in result.out


def test_json_adds_up(trine, engine_file: Path) -> None:
    document = json.loads(trine("bench", f"--loadEngine={engine_file}", *QUICK, "--batch", "3", "--json").out)
    (result,) = document["results"]
    latency = result["latency_ms"]
    assert document["shapes"] == {"images": [3, 3, 8, 8]}
    assert result["calls"] >= 5
    assert latency["min"] <= latency["median"] <= latency["p90"] <= latency["p95"] <= latency["p99"] <= latency["max"]
    assert result["rows_per_s"] == pytest.approx(3 * result["throughput_qps"])
    assert result["throughput_qps"] == pytest.approx(1e3 / latency["mean"], rel=0.1)


def test_the_profile_names_layers_and_their_times(trine, engine_file: Path) -> None:
    result = trine("bench", engine_file, *QUICK, "--dumpProfile")
    assert result.code == 0, result.err
    assert "=== Profile ===" in result.out
    layers = json.loads(trine("bench", engine_file, *QUICK, "--dumpProfile", "--json").out)["layers"]
    assert layers
    assert all(layer["name"] and layer["mean_ms"] >= 0 for layer in layers)


def test_several_streams(trine, engine_file: Path) -> None:
    document = json.loads(trine("bench", engine_file, *QUICK, "--streams", "3", "--threads", "1", "--json").out)
    assert (document["streams"], document["threads"]) == (3, 1)
    assert document["results"][0]["calls"] >= 5


def test_beside_the_onnx_peers(trine, engine_file: Path, model_file: Path) -> None:
    for source in ((), ("--source", model_file)):
        result = trine("bench", engine_file, *QUICK, "--vs", "onnxruntime,openvino", *source, "--json")
        assert result.code == 0, result.err
        document = json.loads(result.out)
        assert [entry["name"] for entry in document["results"]] == ["trine", "onnxruntime", "openvino"]
        assert document["median_ratios"].keys() == {"onnxruntime", "openvino"}
        assert max(document["relative_error_to"].values()) < 1e-5
        assert ("original" if source else "portable graph") in document["peers_run"]


def test_beside_torch(trine, net_file: Path) -> None:
    assert trine("build", "cli_test_net.py:make_with_inputs", "-q", "-o", "net.trine").code == 0
    source = ("--source", "cli_test_net.py:make_with_inputs")
    result = trine("bench", "net.trine", *QUICK, "--vs", "torch,onnxruntime", *source)
    assert result.code == 0, result.err
    assert "time / trine's" in result.out
    assert "as exported by PyTorch" in result.out
    assert trine("verify", "net.trine", "cli_test_net.py:make").code == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--vs", "torhc"), "unknown 'torhc'; did you mean torch?"),
        (("--vs", "torch"), "--vs torch needs the PyTorch model"),
        (("--vs", "openvino", "--streams", "2"), "one call at a time"),
        (("--source", "x.onnx"), "add --vs"),
        (("--percentile", "0"), "above 0 and up to 100"),
        (("--duration", "-1"), "expected a number above 0"),
        (("--batch", "99"), "is 99"),
    ],
)
def test_usage(trine, engine_file: Path, arguments: tuple[str, ...], says: str) -> None:
    result = trine("bench", engine_file, *arguments)
    assert (result.code, result.out) == (2, ""), result.err
    assert says in result.err
