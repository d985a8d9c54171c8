"""From starting a process to its first answer: trine with an engine file, PyTorch eager with the same
weights.

    python benchmarks/cold_start.py                                        # some minutes
    python benchmarks/cold_start.py --models resnet50 --rounds 2 --output /tmp/try.json

Each round starts one new process of each kind, one after the other, and measures from the start of the
process to the line that it prints with its answer; the answers are compared. Files are in the system's
cache for all, as after a first start. PyTorch is run in two ways, and the faster counts: as its tutorials
do it (make the model, load the state dict), and tuned (no random initialisation: made on the meta device,
weights mapped and assigned). trine is run in two ways, too: ``trine.load(path)``, and with ``tiered=True``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from interleaved import spread
from machine import RESULTS, write_results
from models import make_model

import trine

HERE = Path(__file__).resolve().parent
MODELS = ("resnet50", "mobilenet_v3_large", "vit_b_16")
LIMIT_S = 300

# Every program prints one line of JSON: its phases in seconds, and a few numbers of its answer.
END = """
import json
first = [float(value) for value in answer[0][:8]]
print(json.dumps({"phases": phases, "answer": first, "torch": "torch" in sys.modules}), flush=True)
"""

TRINE = """
import sys, time
start = time.perf_counter()
import numpy as np
import trine
imported = time.perf_counter()
engine = trine.load(sys.argv[1]{options})
loaded = time.perf_counter()
answer = engine(np.load(sys.argv[2]))
done = time.perf_counter()
phases = {{"import": imported - start, "load": loaded - imported, "first_call": done - loaded}}
"""

PYTORCH = """
import sys, time
start = time.perf_counter()
import numpy as np
import torch
from models import define_missing_operators
define_missing_operators()
import torchvision
imported = time.perf_counter()
{load}
model.eval()
loaded = time.perf_counter()
with torch.inference_mode():
    answer = model(torch.from_numpy(np.load(sys.argv[2]))).numpy()
done = time.perf_counter()
phases = {{"import": imported - start, "load": loaded - imported, "first_call": done - loaded}}
"""

PLAIN = """
model = torchvision.models.get_model(sys.argv[3], weights=None)
model.load_state_dict(torch.load(sys.argv[1], weights_only=True))
"""

TUNED = """
with torch.device("meta"):
    model = torchvision.models.get_model(sys.argv[3], weights=None)
model.load_state_dict(torch.load(sys.argv[1], weights_only=True, mmap=True), assign=True)
"""

PROGRAMS = {
    "trine": TRINE.format(options="") + END,
    "trine tiered": TRINE.format(options=", tiered=True") + END,
    "pytorch": PYTORCH.format(load=PLAIN) + END,
    "pytorch tuned": PYTORCH.format(load=TUNED) + END,
}


def main() -> int:
    args = parse_arguments()
    results = []
    for name in args.models:
        with tempfile.TemporaryDirectory() as folder:
            result = measure_model(name, Path(folder), args)
        results.append(result)
        seconds = {kind: entry["median_ms"] / 1e3 for kind, entry in result["times"].items()}
        times = "  ".join(f"{kind} {value:.2f} s" for kind, value in seconds.items())
        print(f"{name:20} times sooner: {result['times_sooner']}  {times}", file=sys.stderr, flush=True)
    write_results(
        args.output,
        {"rounds": args.rounds, "method": "new processes in turns, start to first answer, medians", "models": results},
    )
    return 0


def measure_model(name: str, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Prepare both files, then start processes in turns."""
    model = make_model(name)
    example = torch.randn(1, 3, 224, 224)
    engine_file, weights, picture = folder / "net.trine", folder / "weights.pt", folder / "x.npy"
    with trine.build(model, (example,), batch=(1, 1, 8), verify=not args.no_verify) as engine:
        engine.save(engine_file)
    torch.save(model.state_dict(), weights)
    np.save(picture, np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32))
    files = {"trine": engine_file, "trine tiered": engine_file, "pytorch": weights, "pytorch tuned": weights}
    del model

    samples: dict[str, list[float]] = {kind: [] for kind in PROGRAMS}
    phases: dict[str, list[dict[str, float]]] = {kind: [] for kind in PROGRAMS}
    kinds = list(PROGRAMS)
    for round_number in range(-1, args.rounds):  # round -1 fills the system's cache, and compiles .pyc files
        answers = {}
        for position in range(len(kinds)):
            kind = kinds[(position + round_number) % len(kinds)]
            elapsed, printed = start_and_answer(PROGRAMS[kind], str(files[kind]), str(picture), name)
            answers[kind] = np.array(printed["answer"])
            if kind.startswith("trine") and printed["torch"]:
                raise RuntimeError("the process that runs the engine has loaded torch")
            if round_number >= 0:
                samples[kind].append(elapsed * 1e3)
                phases[kind].append(printed["phases"])
        for kind, answer in answers.items():
            if not np.allclose(answer, answers["pytorch"], rtol=1e-3, atol=1e-3):
                raise RuntimeError(f"{name}: {kind} answers {answer}, pytorch {answers['pytorch']}")
    times = {kind: spread(values) for kind, values in samples.items()}
    best = min(("pytorch", "pytorch tuned"), key=lambda kind: times[kind].median_ms)
    return {
        "model": name,
        "times": {kind: value.to_json() for kind, value in times.items()},
        "phases_s": {kind: median_phases(values) for kind, values in phases.items()},
        "times_sooner": {
            kind: round(times[best].median_ms / times[kind].median_ms, 2) for kind in ("trine", "trine tiered")
        },
        "compared_with": best,
    }


def start_and_answer(program: str, *arguments: str) -> tuple[float, dict[str, Any]]:
    """Seconds from starting the process to its line, and the line."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent / "src")])}
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    elapsed = time.perf_counter() - started
    _, errors = process.communicate(timeout=LIMIT_S)
    if process.returncode or not line:
        raise RuntimeError(f"a measured process failed:\n{errors}")
    printed: dict[str, Any] = json.loads(line)
    return elapsed, printed


def median_phases(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {phase: round(float(np.median([entry[phase] for entry in rounds])), 4) for phase in rounds[0]}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--no-verify", action="store_true", help="build without verification, to try the script")
    parser.add_argument("--output", type=Path, default=RESULTS / "cold_start.json")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
