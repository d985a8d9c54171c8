"""A few models measured again: which cells of the earlier run stay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from merged_cells import kept_cells

MACHINE = {"date": "2026-02-02", "hardware": {"gpu": "A"}, "versions": {"torch": "1"}}


def earlier(folder: Path) -> Path:
    cells = [
        {"model": "one", "batch": 1},
        {"model": "one", "batch": 8},
        {"model": "two", "batch": 1},
        {"model": "three", "batch": 1, "date": "2025-12-31"},
    ]
    path = folder / "results.json"
    path.write_text(json.dumps({**MACHINE, "date": "2026-01-01", "cells": cells}))
    return path


def test_cells_of_other_models_stay_with_their_date(tmp_path: Path) -> None:
    assert kept_cells(earlier(tmp_path), MACHINE, {"one"}) == [
        {"model": "two", "batch": 1, "date": "2026-01-01"},
        {"model": "three", "batch": 1, "date": "2025-12-31"},
    ]


def test_nothing_stays_without_a_file(tmp_path: Path) -> None:
    assert kept_cells(tmp_path / "none.json", MACHINE, {"one"}) == []


@pytest.mark.parametrize("other", [{"hardware": {"gpu": "B"}}, {"versions": {"torch": "2"}}])
def test_another_machine_or_version_is_refused(tmp_path: Path, other: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"other {next(iter(other))}"):
        kept_cells(earlier(tmp_path), {**MACHINE, **other}, {"one"})
