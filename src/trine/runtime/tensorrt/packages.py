"""Which of TensorRT's Python packages is here: ``tensorrt`` (10 or 11) or ``tensorrt_rtx``."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from dataclasses import dataclass
from typing import Any

from trine.errors import MissingDependencyError

__all__ = ["INSTALL", "TensorRT", "install_command", "installed_tensorrt"]

INSTALL = "pip install 'trine[tensorrt-rtx]'"

# Module and what the plan calls it. The bindings' wheel of TensorRT for RTX has a module name of its own.
_MODULES = (("tensorrt", "tensorrt"), ("tensorrt_rtx", "tensorrt_rtx"), ("tensorrt_rtx_bindings", "tensorrt_rtx"))
_MAJORS = {"tensorrt": (10, 11)}  # whose networks can be strongly typed, and whose API this is written for


@dataclass(frozen=True)
class TensorRT:
    """An imported package. ``name`` is "tensorrt" or "tensorrt_rtx"; ``version`` as it says itself."""

    name: str
    version: str
    module: Any

    @property
    def capabilities(self) -> dict[int, Any]:
        """The compute capabilities that it says it is for: 86 for 8.6, with its own name for it. {} if it says none."""
        members = getattr(getattr(self.module, "ComputeCapability", None), "__members__", {})
        return {int(name[2:]): value for name, value in members.items() if name.startswith("SM")}


def install_command(package: str, version: str = "") -> str:
    """What installs the package that a plan calls by this name."""
    if package == "tensorrt_rtx" and not version:
        return INSTALL
    exactly = f"=={version}" if version else ""
    wheels = ("tensorrt-rtx-cu13-bindings", "tensorrt-rtx-cu13-libs") if package == "tensorrt_rtx" else ("tensorrt",)
    return "pip install " + " ".join(wheel + exactly for wheel in wheels)


def installed_tensorrt(wanted: str | None = None) -> TensorRT:
    """The first that can be imported, or the one called ``wanted``.

    ``trine.compat``'s stand-in for ``tensorrt`` is passed over.

    Raises MissingDependencyError, with the install command, and why those that are here cannot be used.
    """
    problems = []
    for module_name, name in _MODULES:
        if wanted not in (None, name) or not _is_here(module_name):
            continue
        try:
            module = importlib.import_module(module_name)
        except (ImportError, OSError) as err:  # OSError: its shared libraries do not load
            problems.append(f"{module_name} cannot be imported: {' '.join(str(err).split())[:300]}")
            continue
        version = str(getattr(module, "__version__", "?"))
        if not hasattr(module, "OnnxParser"):
            problems.append(f"{module_name} {version} has no OnnxParser")
        elif name in _MAJORS and not version.startswith(tuple(f"{major}." for major in _MAJORS[name])):
            problems.append(f"{module_name} is version {version}, not {' or '.join(map(str, _MAJORS[name]))}")
        else:
            return TensorRT(name, version, module)
    found = f" ({'; '.join(problems)})" if problems else ""
    if wanted is not None:
        raise MissingDependencyError(
            f"the plan was built by {wanted}, which is not here{found}: {install_command(wanted)}", name=wanted
        )
    raise MissingDependencyError(
        f'device="tensorrt" needs TensorRT 10 or 11, or TensorRT for RTX{found}: {INSTALL} '
        "(its builder needs no GPU), or pip install tensorrt where an NVIDIA GPU is",
        name="tensorrt_rtx",
    )


def _is_here(module_name: str) -> bool:
    loaded = sys.modules.get(module_name)
    if loaded is not None:  # trine.compat puts a module of its own there for programs written for TensorRT
        return not loaded.__name__.startswith("trine.")
    return importlib.util.find_spec(module_name) is not None
