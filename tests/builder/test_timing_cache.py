import json

import pytest

import trine
from trine.builder.timing_cache import TimingCache, graph_signature, timing_key
from trine.engine.portable_graph import PortableGraph
from trine.profile import OptimizationProfile, ShapeRange

PROFILE = OptimizationProfile({"x": ShapeRange((1,), (2,), (3,))})
KEY = {"threads": 2, "device": "cpu", "versions": {"openvino": "1"}}


def test_remembers_across_processes_files(tmp_path):
    first = TimingCache(tmp_path / "t.cache")
    first.put("a", 1.5)
    first.save()
    assert TimingCache(tmp_path / "t.cache").get("a") == 1.5


def test_keeps_what_another_build_wrote_meanwhile(tmp_path):
    mine, theirs = TimingCache(tmp_path / "t"), TimingCache(tmp_path / "t")
    mine.put("a", 1.0)
    theirs.put("b", 2.0)
    mine.save()
    theirs.save()
    merged = TimingCache(tmp_path / "t")
    assert (merged.get("a"), merged.get("b")) == (1.0, 2.0)
    assert [path.name for path in tmp_path.iterdir()] == ["t"]


def test_without_a_path_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cache = TimingCache()
    cache.put("a", 1.0)
    cache.save()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"\x80\x04", b"[]", b"{}", b'{"trine_timing_cache": 99}'])
def test_another_file_is_refused_not_overwritten(tmp_path, content):
    path = tmp_path / "t"
    path.write_bytes(content)
    with pytest.raises(trine.ConfigError, match="no timing cache of this version"):
        TimingCache(path)
    assert path.read_bytes() == content


def test_an_empty_file_is_an_empty_cache(tmp_path):
    path = tmp_path / "timings"
    path.touch()
    cache = TimingCache(path)
    cache.put("key", 0.5)
    cache.save()
    assert TimingCache(path).get("key") == 0.5


def test_timings_must_be_numbers(tmp_path):
    (tmp_path / "t").write_text(json.dumps({"trine_timing_cache": 1, "timings_ms": {"a": "fast"}}))
    with pytest.raises(trine.ConfigError, match="no timing cache"):
        TimingCache(tmp_path / "t")


@pytest.mark.parametrize(
    "change", [{"threads": 1}, {"device": "other"}, {"versions": {"openvino": "2"}}], ids=["threads", "cpu", "versions"]
)
def test_the_key_holds_everything_that_changes_timings(change):
    assert timing_key("g", PROFILE, "openvino fp32", **KEY) != timing_key("g", PROFILE, "openvino fp32", **KEY | change)


def test_the_key_holds_shape_precision_and_graph():
    other = OptimizationProfile({"x": ShapeRange((1,), (3,), (3,))})
    keys = {
        timing_key("g", PROFILE, "openvino fp32", **KEY),
        timing_key("g", other, "openvino fp32", **KEY),
        timing_key("g", PROFILE, "openvino bf16", **KEY),
        timing_key("h", PROFILE, "openvino fp32", **KEY),
    }
    assert len(keys) == 4


def test_signature_follows_the_operators():
    assert graph_signature(PortableGraph(b"a")) != graph_signature(PortableGraph(b"b"))
