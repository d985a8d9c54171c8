"""``trine doctor``: what this machine can do, what is missing, and the command that installs it."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import platform
import sys
from argparse import Namespace
from typing import Any

from trine.cli import console
from trine.cli.failures import ExitCode
from trine.cli.parser import Parser

__all__ = ["execute", "parser"]

# What each package is for, whether trine runs without it, and what installs it.
_PACKAGES = (
    ("numpy", True, "arrays in and out", "trine"),
    ("ml_dtypes", True, "bfloat16 and fp8 arrays", "trine"),
    ("rich", True, "tables and progress in the terminal", "trine"),
    ("openvino", True, "CPU backend", "trine"),
    ("onnxruntime", True, "CPU backend", "trine"),
    ("onnx", False, "building from ONNX files", "'trine[onnx]'"),
    ("onnx-ir", False, "building from ONNX files", "'trine[onnx]'"),
    ("onnxscript", False, "building from ONNX files", "'trine[onnx]'"),
    ("torch", False, "building from PyTorch modules", "'trine[torch]'"),
    ("cuda-bindings", False, "running on NVIDIA GPUs", "'trine[cuda]'"),
    ("triton", False, "building for NVIDIA GPUs", "'trine[cuda-build]'"),
    ("pillow", False, "trine run photo.jpg", "'trine[images]'"),
)
_FOR_GPUS = ("cuda-bindings", "triton")  # of no use without a GPU, but to build for one elsewhere
_NOT_OF_CPUS = ("best", "tf32")
# Instruction sets that the backends' kernels use, as Linux names them.
_FEATURES = {
    "avx2": ("avx2",),
    "fma": ("fma",),
    "avx512": ("avx512f",),
    "avx512 vnni": ("avx512_vnni", "avx_vnni"),
    "avx512 bf16": ("avx512_bf16",),
    "avx512 fp16": ("avx512_fp16",),
    "amx": ("amx_tile",),
    "amx bf16": ("amx_bf16",),
    "neon": ("asimd",),
    "neon fp16": ("asimdhp",),
    "neon bf16": ("bf16",),
    "sve": ("sve",),
}


def parser() -> Parser:
    """The options of ``trine doctor``."""
    return Parser(
        "doctor",
        "[options]",
        "Say what this machine can do and what is missing, with the command that installs it.\n"
        "Exit code 6 when something is missing without which no engine runs.",
        ["trine doctor", "trine doctor --json"],
    )


def execute(options: Namespace) -> int:
    """Look and print."""
    console.show_log(options)
    found = examine()
    if options.json:
        console.print_json(found)
    else:
        _print(found)
    missing = [entry["name"] for entry in found["packages"] if entry["required"] and entry["version"] is None]
    return ExitCode.MISSING_PACKAGE if missing else ExitCode.OK


def examine() -> dict[str, Any]:
    """Machine, packages, precisions and NVIDIA GPUs, JSON-able. Imports OpenVINO, and never torch."""
    from trine.cli.main import version
    from trine.versions import package_version

    return {
        "trine": version(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "packages": [
            {
                "name": name,
                "version": package_version(name),
                "required": required,
                "for": purpose,
                "install": f"pip install {target}",
            }
            for name, required, purpose, target in _PACKAGES
        ],
        "precisions": _precisions(),
        "cuda": _cuda(),
        "tensorrt": _tensorrt(),
    }


def _cpu() -> dict[str, Any]:
    from trine.runtime.cpu.features import cpu_flags, cpu_model, usable_cores

    flags = cpu_flags()
    return {
        "model": cpu_model(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "memory_bytes": _memory_bytes(),
        "features": [name for name, any_of in _FEATURES.items() if flags.intersection(any_of)],
    }


def _memory_bytes() -> int | None:
    """Physical memory; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _precisions() -> dict[str, dict[str, str]]:
    """Each precision of CPUs with "yes" or "no" and the reason, asked of the backends."""
    from trine.builder.config import PRECISIONS
    from trine.errors import MissingDependencyError
    from trine.runtime.cpu.openvino_executor import supported_precisions

    try:
        native = supported_precisions()
    except MissingDependencyError as err:
        return {name: {"available": "unknown", "why": str(err)} for name in PRECISIONS if name not in _NOT_OF_CPUS}
    found = {}
    for name in PRECISIONS:
        if name in _NOT_OF_CPUS:
            continue
        why = "OpenVINO and ONNX Runtime" if name == "fp32" else "OpenVINO computes in it on this CPU"
        if name not in native:
            why = f"this CPU does not compute in {name}; engines built elsewhere run in fp32 here"
        found[name] = {"available": "yes" if name in native else "no", "why": why}
    return found


def _cuda() -> dict[str, Any]:
    """NVIDIA GPUs, asked of the driver itself, so that neither torch nor a toolkit is needed."""
    name = "nvcuda.dll" if sys.platform == "win32" else ctypes.util.find_library("cuda")
    if name is None:
        return {"driver": None, "devices": [], "note": "no NVIDIA driver (libcuda)"}
    try:
        driver = ctypes.CDLL(name)
    except OSError as err:
        return {"driver": None, "devices": [], "note": f"the NVIDIA driver cannot be loaded: {err}"}
    status = driver.cuInit(0)
    if status != 0:
        return {"driver": None, "devices": [], "note": f"the NVIDIA driver does not start: CUDA error {status}"}
    number, count = ctypes.c_int(), ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(number))
    driver.cuDeviceGetCount(ctypes.byref(count))
    devices: list[dict[str, Any]] = []
    for ordinal in range(count.value):
        device, text, size = ctypes.c_int(), ctypes.create_string_buffer(256), ctypes.c_size_t()
        major, minor = ctypes.c_int(), ctypes.c_int()
        driver.cuDeviceGet(ctypes.byref(device), ordinal)
        driver.cuDeviceGetName(text, len(text), device)
        driver.cuDeviceTotalMem_v2(ctypes.byref(size), device)
        driver.cuDeviceGetAttribute(ctypes.byref(major), 75, device)  # compute capability, major and minor
        driver.cuDeviceGetAttribute(ctypes.byref(minor), 76, device)
        devices.append(
            {
                "name": text.value.decode(errors="replace"),
                "compute_capability": f"{major.value}.{minor.value}",
                "target": f"sm_{major.value}{minor.value}",
                "memory_bytes": size.value,
            }
        )
    version = f"{number.value // 1000}.{number.value % 1000 // 10}"
    return {"driver": version, "devices": devices, "note": _cuda_note({device["target"] for device in devices})}


def _tensorrt() -> dict[str, Any]:
    """Which of TensorRT's packages builds plans here, or what installs one. Loads its libraries."""
    from trine.errors import MissingDependencyError
    from trine.runtime.tensorrt.packages import INSTALL, installed_tensorrt

    try:
        found = installed_tensorrt()
    except MissingDependencyError as err:
        return {"package": None, "version": None, "install": INSTALL, "note": str(err)}
    note = "trine build --device tensorrt builds plans with it; they run on the GPUs that it supports"
    return {"package": found.name, "version": found.version, "install": INSTALL, "note": note}


def _cuda_note(targets: set[str]) -> str:
    """What can be done with GPUs of these architectures."""
    from trine.backends.cuda.target import TARGETS

    if not targets:
        return "the NVIDIA driver sees no GPU"
    known = f"trine build --device cuda makes engines for {', '.join(TARGETS)}"
    unknown = sorted(targets - TARGETS.keys())
    return f"{known}; not for {', '.join(unknown)}" if unknown else known


def _print(found: dict[str, Any]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from trine.report.markup import size

    out = console.results()
    cpu = found["cpu"]
    memory = f", {size(cpu['memory_bytes'])} memory" if cpu["memory_bytes"] else ""
    out.print(f"[bold]trine {found['trine']}[/bold], Python {found['python']}, {escape(found['platform'])}\n")
    out.print("[bold]CPU[/bold]")
    out.print(
        f"  {escape(cpu['model'])} ({cpu['machine']}), {cpu['usable_cores']} of {cpu['cores']} cores usable{memory}"
    )
    out.print(f"  instruction sets: {', '.join(cpu['features']) or 'unknown on this system'}")
    for name, entry in found["precisions"].items():
        mark = {"yes": "[green]yes[/green]", "no": "[yellow]no[/yellow] "}.get(
            entry["available"], "[yellow]?[/yellow]  "
        )
        out.print(f"  {name}  {mark}  {escape(entry['why'])}")
    out.print("\n[bold]NVIDIA GPUs[/bold]")
    for device in found["cuda"]["devices"]:
        capability = f"compute capability {device['compute_capability']}"
        out.print(f"  {escape(device['name'])}, {capability} ({device['target']}), {size(device['memory_bytes'])}")
    out.print(f"  {escape(found['cuda']['note'])}")
    out.print("\n[bold]TensorRT[/bold]")
    package = found["tensorrt"]["package"]
    out.print(f"  {package} {found['tensorrt']['version']}" if package else "  not installed")
    out.print(f"  {escape(found['tensorrt']['note'])}")
    out.print("\n[bold]packages[/bold]")
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False, pad_edge=False)
    for entry in found["packages"]:
        absent = "[red]missing[/red]" if entry["required"] else "[yellow]not installed[/yellow]"
        todo = "" if entry["version"] else f"→ {entry['install']}"
        table.add_row("", entry["name"], entry["version"] or absent, entry["for"], escape(todo))
    out.print(table)
    gpu = bool(found["cuda"]["devices"])
    lacking = [
        entry for entry in found["packages"] if entry["version"] is None and (gpu or entry["name"] not in _FOR_GPUS)
    ]
    if lacking:
        commands = dict.fromkeys(entry["install"] for entry in lacking)
        out.print(f"\nTo get what is missing: {escape(' && '.join(commands))}")
    else:
        out.print("\n[green]Nothing is missing.[/green]")
