"""Runs NVIDIA's Python samples, unmodified, on trine and without a GPU, and writes what became of each.

    python benchmarks/nvidia_samples.py CHECKOUT [--only NAME] [--era 8]

CHECKOUT is a checkout of NVIDIA's TensorRT repository at any version; nothing of it is copied. Each sample runs by
``trine.compat.run`` in a folder of its own, on data from installed packages (see nvidia_samples_data.py). Where a
sample says what it recognised, that is compared with ONNX Runtime's answer. Writes
benchmarks/results/nvidia_samples.json, where the samples of other versions stay as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machine import RESULTS, write_results
from nvidia_samples_data import MNIST_FILES, reference_labels, write_classifier, write_mnist, write_photos

MNIST = Path("/tmp/mnist/data/MNIST/raw")  # written in network_api_pytorch_mnist itself
PHOTOS = ["binoculars.jpeg", "reflex_camera.jpeg", "tabby_tiger_cat.jpg"]
SECONDS = 500
# python -m trine.compat.run; before it, what torchvision's wheel for GPUs lacks beside a PyTorch for CPUs.
START = """
import sys
from trine.compat import install_as
from trine.compat.run import main
install_as("cuda")
import torch
from PIL import Image
Image.ANTIALIAS = Image.LANCZOS  # its name before Pillow 10, in samples of then
library = torch.library.Library("torchvision", "FRAGMENT")
library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
sys.exit(main())
"""


@dataclass(frozen=True)
class Sample:
    """One program: its steps, each a script with arguments, and what must stand in what it prints.

    ``check`` takes the whole output and the data folder, and returns why it is wrong, or "".
    """

    name: str
    steps: tuple[tuple[str, ...], ...]
    check: Callable[[str, Path], str]


def digit_is_right(output: str, data: Path) -> str:
    """The sample takes one digit by chance; the network that it trained may be wrong about it, rarely."""
    case, prediction = re.search(r"Test Case: (\d)", output), re.search(r"Prediction: (\d)", output)
    if not case or not prediction:
        return "it named no digit"
    return "" if case[1] == prediction[1] else f"it took a {case[1]} for a {prediction[1]}"


def label_is_right(output: str, data: Path) -> str:
    """Recognised as ONNX Runtime does on the same file; the sample's own verdict goes by the file's name."""
    found = re.findall(r"orrectly recognized \S+ as (.+)", output)
    wanted = reference_labels(data / "resnet50", PHOTOS[0])
    return "" if found and all(label.strip() == wanted for label in found) else f"{found} instead of {wanted!r}"


def prints(*texts: str) -> Callable[[str, Path], str]:
    """All of the texts are there."""
    return lambda output, data: "; ".join(f"it did not print {text!r}" for text in texts if text not in output)


def class_is_right(output: str, data: Path) -> str:
    """efficientnet's infer.py prints the file and the class number: the cat's."""
    found = re.findall(r"\.jpe?g\t(\d+)\t", output)
    labels = (data / "resnet50" / "class_labels.txt").read_text(encoding="utf-8").split("\n")
    wanted = reference_labels(data / "resnet50", PHOTOS[0], cropped=True)
    named = {labels[int(number)] for number in found}
    return "" if named == {wanted} else f"{named or 'nothing'} instead of {wanted!r}"


DATA = ("-d", "{data}")
SAMPLES = (
    Sample("network_api_pytorch_mnist", (("sample.py",),), digit_is_right),
    Sample("introductory_parser_samples", (("onnx_resnet50.py", *DATA),), label_is_right),
    Sample("simple_progress_monitor", (("simple_progress_monitor.py", *DATA),), label_is_right),
    Sample("stream_writer", (("build.py",),), prints("Engine deserialized successfully")),
    Sample(
        "sample_weight_stripping",
        (("build_engines.py", *DATA), ("refit_engine_and_infer.py", *DATA)),
        prints("Refitted stripped engine correctly recognized"),
    ),
    Sample(
        "efficientnet",
        (
            ("build_engine.py", "--onnx", "{model}", "--engine", "b0.engine", "--precision", "fp32"),
            ("infer.py", "--engine", "b0.engine", "--input", "{data}/resnet50", "--preprocessor", "V1MS"),
        ),
        class_is_right,
    ),
    Sample(
        "notebook: construct a network with layer APIs",
        (("refactored/2_construct_network_with_layer_apis/main.ipynb",),),
        prints("Notebook executed successfully"),
    ),
)
KNOWN = {  # why a sample fails, where that is known
    "sample_weight_stripping": "it builds with STRIP_PLAN, which is refused: an engine holds its weights",
    "notebook: construct a network with layer APIs": "polygraphy calls NVIDIA's CUDA library, which finds no GPU",
}
DOWNLOADED = "the model that it is about must be downloaded"
PLUGINS = "it is about plugins, which are CUDA programs"
NOT_RUN = {
    "engine_refit_onnx_bidaf": DOWNLOADED,
    "onnx_packnet": DOWNLOADED,
    "yolov3_onnx": DOWNLOADED,
    "efficientdet": DOWNLOADED,
    "tensorflow_object_detection_api": DOWNLOADED,
    "dds_faster_rcnn": DOWNLOADED,
    "detectron2": f"{DOWNLOADED}; it needs Detectron2",
    "strongly_type_autocast": f"{DOWNLOADED}; it needs NVIDIA's modelopt",
    "notebook: run ONNX with TensorRT": "it downloads its model, and the photo that it checks the answer by",
    "aliased_io_plugin": PLUGINS,
    "cute_dsl_plugin": PLUGINS,
    "non_zero_plugin": PLUGINS,
    "onnx_custom_plugin": PLUGINS,
    "python_plugin": PLUGINS,
    "quickly_deployable_plugins": PLUGINS,
    "attention_mdtrt": "it computes on several GPUs by NCCL",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--only", default="", help="run the samples whose name contains this; prints, writes nothing")
    parser.add_argument("--era", help="the version to give python -m trine.compat.run; else that of the checkout")
    args = parser.parse_args()
    root = args.checkout.resolve() / "samples" / "python"
    if not root.is_dir():
        parser.error(f"{args.checkout} has no samples/python; give a checkout of NVIDIA's TensorRT repository")
    version = (args.checkout / "VERSION").read_text(encoding="utf-8").strip()
    era = args.era or ("8" if version.startswith("8.") else version.split(".")[0])
    results = []
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        model = write_classifier(data / "resnet50")
        write_photos(data / "resnet50", PHOTOS)
        made = not MNIST.exists()
        if made:
            write_mnist(MNIST)
        elif not all((MNIST / name).exists() for name in MNIST_FILES):
            parser.error(f"{MNIST} is there, but not complete; remove it")
        try:
            for sample in SAMPLES:
                if args.only in sample.name and (where := place(root, sample)) is not None:
                    results.append(run(sample, where, Path(folder), data, model, era))
                    print(json.dumps(results[-1], indent=1) if args.only else f"{sample.name}: {results[-1]['status']}")
        finally:
            if made:
                shutil.rmtree(MNIST.parent)
    if not args.only:
        write(version, results)
    return 0


def place(root: Path, sample: Sample) -> Path | None:
    """The folder that a sample's scripts are in; None where this version has no such sample."""
    folder = root if sample.steps[0][0].endswith(".ipynb") else root / sample.name.split(",")[0]
    return folder if (folder / sample.steps[0][0]).exists() else None


def run(sample: Sample, where: Path, folder: Path, data: Path, model: Path, era: str) -> dict[str, Any]:
    """The steps, one after the other, each in a process of its own."""
    work = Path(tempfile.mkdtemp(dir=folder))
    output, begin, status = "", time.perf_counter(), "pass"
    for script, *arguments in sample.steps:
        path = where / script
        if path.suffix == ".ipynb":
            path = as_script(path, work)
        filled = [argument.format(data=data, model=model) for argument in arguments]
        command = [sys.executable, "-c", START, "--era", era, "--cuda", "host", str(path), *filled]
        done = subprocess.run(
            command,
            cwd=work,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        output += done.stdout
        if done.returncode:
            status = "fail"
            reason = f"{script} exited with {done.returncode}"
            break
    else:
        reason = sample.check(output, data)
        status = "fail" if reason else "pass"
    plain = (
        re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", output)
        .replace(str(work), "")
        .replace(str(folder), "")
        .replace(str(where.parents[2]), "")
    )
    plain = re.sub(r'File "[^"]*/([^/"]+)"', r'File "\1"', plain)  # nothing of where things are installed
    tail = [line for line in plain.splitlines() if line.strip()][-6:]
    return {
        "name": sample.name,
        "status": status,
        "reason": reason,
        "why": KNOWN.get(sample.name, "") if reason else "",
        "seconds": round(time.perf_counter() - begin, 1),
        "output": tail,
    }


def as_script(notebook: Path, folder: Path) -> Path:
    """The notebook's cells one after the other, as Jupyter runs them; its installing lines are left out."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    lines = [line for text in code for line in text.split("\n") if not line.startswith("%")]
    path = folder / "notebook.py"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def write(version: str, results: list[dict[str, Any]]) -> None:
    """Into the results file, in the place of what it had of this version."""
    path = RESULTS / "nvidia_samples.json"
    before = json.loads(path.read_text(encoding="utf-8"))["versions_run"] if path.exists() else {}
    write_results(path, {"versions_run": {**before, version: results}, "not_run": NOT_RUN})


if __name__ == "__main__":
    sys.exit(main())
