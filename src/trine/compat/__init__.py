"""Other people's names over trine: TensorRT's, torch2trt's, pycuda's and cuda-python's.

import trine.compat.tensorrt as trt          # in a program that can be edited
trine.compat.install_as("tensorrt", era="8") # for one that cannot: its `import tensorrt` finds trine's
python -m trine.compat.run --era 8 script.py # the same from the command line
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import sys
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any

from trine.errors import ConfigError

__all__ = ["cuda_works", "install_as"]


_KINDS = {
    "tensorrt": "tensorrt",
    "tensorrt_rtx": "tensorrt",
    "torch2trt": "torch2trt",
    "pycuda": "pycuda",
    "cuda": "cuda",
}


def install_as(name: str, era: str | None = None) -> ModuleType:
    """Let ``import name`` give trine's package of that kind, for the rest of the process.

    Args:
        name: "tensorrt", "torch2trt", "pycuda" ("tensorrt_rtx" is "tensorrt" too), or "cuda": cuda-python's names over
            host memory. With the last, this process cannot use a GPU through trine, which needs the real ones.
        era: for "tensorrt", the version that it shall be: "5" to "8", "8.2", "8.6", "10", "10.0", "10.16", "11";
            None for every idiom at once.

    Returns:
        The module.

    Raises:
        ConfigError: the name or the era is not known, or another package of that name was imported before.
    """
    if name not in _KINDS:
        raise ConfigError(f"install_as: {name!r} is unknown; known: {', '.join(_KINDS)}")
    package = f"{__name__}.{_KINDS[name]}"
    already = sys.modules.get(name)
    if already is not None and already.__name__ != package:
        raise ConfigError(
            f"install_as: {name} was imported before, from {getattr(already, '__file__', 'elsewhere')}; call "
            "install_as before anything imports it"
        )
    if era is not None and _KINDS[name] != "tensorrt":
        raise ConfigError(f"install_as: an era is a version of TensorRT's; {name} has none")
    if _KINDS[name] == "tensorrt":
        from trine.compat.tensorrt import eras

        eras.use(None if era is None else str(era))
    module = importlib.import_module(package)
    sys.modules[name] = module
    finder = _Submodules(name, package)
    if not any(isinstance(known, _Submodules) and known.prefix == name for known in sys.meta_path):
        sys.meta_path.insert(0, finder)
    return module


def cuda_works() -> bool:
    """Whether ``import cuda`` finds what can work here: any package of that name, but NVIDIA's without a driver.

    Looks for the driver's library only: no device is touched.
    """
    below = _below(None, "cuda")
    if below is None:
        return importlib.util.find_spec("cuda") is not None  # a module of that name, or nothing
    bindings = _below(below, "cuda.bindings")
    driver = PathFinder.find_spec("cuda.cuda", below) if bindings is None else PathFinder.find_spec("driver", bindings)
    if driver is None or not str(driver.origin).endswith((".so", ".pyd")):
        return True  # somebody's own
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def _below(path: Any, package: str) -> Any:
    """Where a package's modules are, without importing it; None where ``path`` has no such package."""
    found = PathFinder.find_spec(package, path)
    return None if found is None else found.submodule_search_locations


class _Submodules:
    """Finds ``pycuda.driver`` in ``trine.compat.pycuda.driver``: one module under both names."""

    def __init__(self, prefix: str, package: str) -> None:
        self.prefix, self.package = prefix, package

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        """The spec of a module below the prefix; None for all others."""
        if not fullname.startswith(f"{self.prefix}."):
            return None
        own = self.package + fullname[len(self.prefix) :]
        if fullname in ("tensorrt.tensorrt", "tensorrt_rtx.tensorrt_rtx"):
            own = self.package  # NVIDIA's extension module, which holds the package's own names
        if importlib.util.find_spec(own) is None:
            return None
        loader: Any = _Alias(own)
        return importlib.util.spec_from_loader(fullname, loader)


class _Alias:
    """A loader that gives the module of another name."""

    def __init__(self, own: str) -> None:
        self.own = own

    def create_module(self, spec: Any) -> ModuleType:
        """The module itself, imported under its own name."""
        return importlib.import_module(self.own)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: it was executed under its own name."""
