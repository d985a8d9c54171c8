"""Timings in a file: of one GPU for that GPU, of one architecture for builds without a GPU."""

from dataclasses import replace

import pytest
from backends.cuda.kernels.test_conv import SM90, TACTIC, convolution

from trine.backends.cuda.groups import Activation
from trine.backends.cuda.kernels.conv_gluon import HopperConv
from trine.backends.cuda.signature import group_signature
from trine.backends.cuda.tuning_cache import SHIPPED, TuningCache
from trine.errors import ConfigError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "timings.json"


@pytest.fixture
def written(path):
    cache = TuningCache(path, "NVIDIA H200", "sm_90")
    cache.put("g", "a[x=1]", 1.23456)
    cache.put("g", "b[]", None)
    cache.save()
    return path


@pytest.mark.parametrize(
    ("device", "target", "found"),
    [
        ("NVIDIA H200", "sm_90", True),
        ("", "sm_90", True),
        ("NVIDIA H100", "sm_90", False),
        ("", "sm_89", False),
        ("NVIDIA H200", "sm_89", False),
    ],
)
def test_who_may_use_it(written, device, target, found):
    timings = TuningCache(written, device, target).timings("g")
    assert timings == ({"a[x=1]": 1.235, "b[]": None} if found else {})


def test_two_processes_share_a_file(written):
    first, second = (TuningCache(written, "NVIDIA H200", "sm_90") for _ in range(2))
    first.put("h", "a[]", 2.0)
    second.put("g", "a[x=1]", 3.0)
    first.save()
    second.save()
    merged = TuningCache(written, "NVIDIA H200", "sm_90")
    assert merged.timings("h") == {"a[]": 2.0}
    assert merged.timings("g")["a[x=1]"] == 3.0
    assert [file.name for file in written.parent.iterdir()] == ["timings.json"]


def test_two_gpus_share_a_file(written):
    other = TuningCache(written, "NVIDIA H100", "sm_90")
    other.put("g", "a[x=1]", 7.0)
    other.save()
    assert TuningCache(written, "NVIDIA H100", "sm_90").timings("g") == {"a[x=1]": 7.0}
    assert TuningCache(written, "NVIDIA H200", "sm_90").timings("g") == {"a[x=1]": 1.235, "b[]": None}


def test_ones_own_timings_come_before_the_shipped(written, tmp_path):
    own = TuningCache(tmp_path / "own.json", "NVIDIA H200", "sm_90", shipped=written)
    own.put("g", "a[x=1]", 9.0)
    assert own.timings("g") == {"a[x=1]": 9.0, "b[]": None}


def test_timings_of_other_architectures(tmp_path):
    path = tmp_path / "timings.json"
    for target, latency in (("sm_75", 9.0), ("sm_86", 2.0), ("sm_90", 3.0), ("sm_100", None), ("new", 4.0)):
        cache = TuningCache(path, "a GPU", target)
        cache.put("g", "a[]", latency)
        cache.put("only " + target, "a[]", latency)
        cache.save()
    assert TuningCache(path, "", "sm_80").elsewhere("g") == {"a[]": 9.0}
    assert TuningCache(path, "", "sm_89").elsewhere("g") == {"a[]": 3.0}
    assert TuningCache(path, "a GPU", "sm_90").elsewhere("g") == {"a[]": 2.0}, "not its own"
    assert TuningCache(path, "", "sm_90").elsewhere("only sm_90") == {}
    assert TuningCache(path, "", "sm_90").elsewhere("only sm_100") == {}, "what does not compile there may here"
    assert TuningCache(None, "", "sm_90", path).elsewhere("only new") == {"a[]": 4.0}


def test_nothing_new_writes_nothing(written):
    before = written.stat().st_mtime_ns
    TuningCache(written, "", "sm_90").save()
    assert written.stat().st_mtime_ns == before
    TuningCache(None, "", "sm_90").save()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"timings": [1]}', '{"timings": {"sm_90": {"x": {"g": 1}}}}'])
def test_what_is_no_timing_cache(path, text):
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"timing cache .*not readable"):
        TuningCache(path, "", "sm_90")


def test_groups_that_differ_in_their_activation_are_not_the_same_work():
    group = convolution((1, 6, 6, 64), (64, 3, 3))
    others = [
        replace(group, epilogue=replace(group.epilogue, act=Activation(name))) for name in ("none", "relu", "gelu")
    ]
    assert len({group_signature(each) for each in others}) == 3
    assert group_signature(replace(others[0], name="another")) == group_signature(others[0])


def test_timings_of_an_h200_ship():
    """They serve builds without a GPU: here for the 3x3 convolutions of ResNet's first stage."""
    group = convolution((1, 56, 56, 64), (64, 3, 3), pads=(1, 1, 1, 1))
    group = replace(group, epilogue=replace(group.epilogue, act=Activation("relu")))
    timings = TuningCache(None, "", "sm_90", SHIPPED).timings(group_signature(group))
    labels = {
        f"{tactic.name}[{','.join(f'{key}={value}' for key, value in sorted(each.items()))}]"
        for tactic in (TACTIC, HopperConv(True))
        for each in tactic.configurations(group, SM90)
    }
    assert timings
    assert timings.keys() <= labels
    assert all(1.0 < latency < 100.0 for latency in timings.values() if latency is not None)
    elsewhere = TuningCache(None, "", "sm_80", SHIPPED).elsewhere(group_signature(group))
    assert elsewhere == {name: latency for name, latency in timings.items() if latency is not None}
