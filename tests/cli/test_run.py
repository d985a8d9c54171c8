from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import trine as package


@pytest.fixture
def photos(in_folder: Path) -> list[str]:
    for number in range(5):
        Image.new("RGB", (20, 12), (50 * number, 0, 100)).save(f"{number}.png")
    Path("labels.txt").write_text("one\ntwo\nthree\nfour\nfive\n")
    return [f"{number}.png" for number in range(5)]


def test_random_data(trine, engine_file: Path) -> None:
    result = trine("run", engine_file, "--seed", "3")
    assert result.code == 0, result.err
    assert "random data, seed 3" in result.out
    assert "scores  float32 2x5" in result.out


def test_photos_with_labels(trine, engine_file: Path, photos: list[str]) -> None:
    result = trine("run", engine_file, *photos, "--labels", "labels.txt", "--top", "2")
    assert result.code == 0, result.err
    assert [line.split()[0] for line in result.out.splitlines() if ".png" in line] == photos
    assert sum("%" in line for line in result.out.splitlines()) == 2 * len(photos)


def test_options_may_stand_between_the_files(trine, engine_file: Path, photos: list[str]) -> None:
    result = trine("run", "--top", "1", engine_file, "0.png", "--labels", "labels.txt", "1.png", "--seed", "0", "2.png")
    assert result.code == 0, result.err
    assert [line.split()[0] for line in result.out.splitlines() if ".png" in line] == photos[:3]


def test_photos_as_json_are_the_engine_s_own_answers(trine, engine_file: Path, photos: list[str]) -> None:
    result = trine("run", engine_file, *photos, "--labels", "labels.txt", "--top", "5", "--json", "-o", "out.npz")
    documents = json.loads(result.out)["results"]
    assert [document["input"] for document in documents] == photos
    scores = np.load("out.npz")["scores"]
    assert scores.shape == (5, 5)
    for document, row in zip(documents, scores, strict=True):
        assert [entry["index"] for entry in document["top"]] == list(np.argsort(-row, kind="stable"))
        assert sum(entry["probability"] for entry in document["top"]) == pytest.approx(1)
        assert document["top"][0]["label"] in ("one", "two", "three", "four", "five")


def test_arrays_in_and_out(trine, engine_file: Path, in_folder: Path) -> None:
    x = np.random.default_rng(0).standard_normal((3, 3, 8, 8)).astype(np.float32)
    np.save("x.npy", x)
    for file in ("x.npy", "images=x.npy"):
        assert trine("run", engine_file, file, "--output", "y.npz").code == 0
        with package.load(engine_file) as engine:
            np.testing.assert_array_equal(np.load("y.npz")["scores"], engine(x))


def test_classes_of_arrays_where_asked_for(trine, engine_file: Path, in_folder: Path) -> None:
    np.save("x.npy", np.zeros((2, 3, 8, 8), np.float32))
    assert "%" not in trine("run", engine_file, "x.npy").out
    result = trine("run", engine_file, "x.npy", "--top", "1")
    assert result.out.startswith("x.npy  ")
    assert result.out.count("%") == 2


def test_more_labels_than_classes_are_remarked_on(trine, engine_file: Path, photos: list[str]) -> None:
    Path("long.txt").write_text("background\n" + Path("labels.txt").read_text() + "\n\n")
    result = trine("run", engine_file, photos[0], "--labels", "long.txt")
    assert result.code == 0
    assert "long.txt: 6 labels for 5 classes; are they this model's?" in result.err


def test_sizes_of_random_data_beside_files(trine, engine_file: Path, photos: list[str]) -> None:
    result = trine("run", engine_file, photos[0], "--batch", "3")
    assert (result.code, result.out) == (2, "")
    assert "--batch and --shapes are of random data" in result.err


def test_wrong_inputs(trine, engine_file: Path, in_folder: Path) -> None:
    np.save("rank.npy", np.zeros((3, 8, 8), np.float32))
    np.save("dtype.npy", np.zeros((1, 3, 8, 8)))
    np.save("batch.npy", np.zeros((9, 3, 8, 8), np.float32))
    for file, says in (
        ("rank.npy", "expected 4 dimensions"),
        ("dtype.npy", "expected float32, got float64"),
        ("batch.npy", "is 9, but the engine's profile goes from 1 to 4"),
        ("none.npy", "none.npy: no such file"),
    ):
        result = trine("run", engine_file, file)
        assert result.code == 2
        assert says in result.err
    result = trine("run", engine_file, "--batch", "9")
    assert result.code == 2
    assert "is 9" in result.err


def test_outputs_are_npz(trine, engine_file: Path, in_folder: Path) -> None:
    result = trine("run", engine_file, "-o", "out.csv")
    assert result.code == 2
    assert "name it out.npz" in result.err
    result = trine("run", engine_file, "-o", "no/folder/out.npz")
    assert (result.code, result.out) == (2, "")
    assert "there is no folder no/folder; create it first" in result.err


def test_damaged_engines(trine, engine_file: Path, in_folder: Path) -> None:
    data = bytearray(engine_file.read_bytes())
    data[-1] ^= 1
    Path("flipped.trine").write_bytes(data)
    Path("short.trine").write_bytes(data[:100])
    Path("text.trine").write_text("hello")
    for name in ("flipped.trine", "short.trine", "text.trine"):
        assert trine("run", name).code == 4
