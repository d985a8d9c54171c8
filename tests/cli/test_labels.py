from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trine.cli.labels import is_classification, load_labels, top
from trine.errors import ConfigError


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_one_name_a_line(tmp_path: Path) -> None:
    assert load_labels(write(tmp_path, "a.txt", "tench\r\ngreat white shark\n")) == ["tench", "great white shark"]


@pytest.mark.parametrize(
    "text", ['["cat", "dog"]', '{"0": "cat", "1": "dog"}', '{"0": ["n01", "cat"], "1": ["n02", "dog"]}']
)
def test_json(tmp_path: Path, text: str) -> None:
    assert load_labels(write(tmp_path, "a.json", text)) == ["cat", "dog"]


@pytest.mark.parametrize("text", ["", "3", '{"1": "dog"}', "[" * 100_000])
def test_json_that_is_no_labels(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"a\.json: expected a JSON list"):
        load_labels(write(tmp_path, "a.json", text))


def test_binary_files_are_no_labels(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_labels(tmp_path / "a.txt")


def test_top_turns_scores_into_probabilities() -> None:
    ranked = top(np.array([0.0, np.log(3.0), 0.0], np.float32), 2, ["a", "b", "c"])
    assert [(entry.index, entry.label) for entry in ranked] == [(1, "b"), (0, "a")]
    assert ranked[0].probability == pytest.approx(0.6)


def test_top_leaves_probabilities_as_they_are() -> None:
    ranked = top(np.array([0.25, 0.75], np.float32), 5, None)
    assert [entry.probability for entry in ranked] == [0.75, 0.25]


def test_scores_of_any_size_do_not_overflow() -> None:
    assert top(np.array([1e30, -1e30], np.float32), 1, None)[0].probability == 1.0
    assert top(np.array([np.nan, 1.0], np.float32), 1, None)[0].index == 1


def test_too_few_labels() -> None:
    with pytest.raises(ConfigError, match="2 labels for 3 classes"):
        top(np.zeros(3, np.float32), 1, ["a", "b"])


def test_what_counts_as_scores() -> None:
    assert is_classification(np.zeros((2, 10), np.float32))
    assert not is_classification(np.zeros((2, 10), np.int64))
    assert not is_classification(np.zeros((2, 1), np.float32))
    assert not is_classification(np.zeros((2, 3, 4), np.float32))
