"""Machine code that was compiled before: what a kernel is called, and folders that hold it under that name.

A kernel's name is made of the text of its functions and everything it is compiled with, not of Triton's version: one
that was compiled elsewhere, with a newer Triton, serves where only an older one is installed.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import inspect
import json
import logging
import re
import tempfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from trine.backends.cuda.dependent_launch import first_instructions
from trine.backends.cuda.tactic import KernelSource
from trine.backends.cuda.target import Target
from trine.runtime.cuda.plan import Kernel

__all__ = ["KernelCache", "kernel_key", "plain_value"]

log = logging.getLogger(__name__)


class KernelCache:
    """Compiled kernels in folders: ``folder`` is read and written, ``more`` are only read.

    Files are written whole or not at all; two processes may share a folder.
    """

    def __init__(self, folder: Path | None = None, more: Sequence[Path] = ()) -> None:
        self.folder = folder
        self._folders = [*([folder] if folder else []), *more]
        self._memory: dict[str, Kernel] = {}

    def get(self, key: str) -> Kernel | None:
        """The kernel, or None if it is in no folder."""
        if key not in self._memory:
            for folder in self._folders:
                kernel = _read_kernel(folder / f"{key}.json")
                if kernel is not None:
                    self._memory[key] = kernel
                    break
        return self._memory.get(key)

    def put(self, key: str, kernel: Kernel) -> None:
        """Keep it, on disk too if there is a folder to write to."""
        self._memory[key] = kernel
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=self.folder, delete=False, suffix=".part") as file:
            file.write(_kernel_to_json(kernel))
        Path(file.name).replace(self.folder / f"{key}.json")


def _kernel_to_json(kernel: Kernel) -> str:
    fields = {name: getattr(kernel, name) for name in kernel.__dataclass_fields__}
    return json.dumps({**fields, "cubin": base64.b64encode(zlib.compress(kernel.cubin)).decode()})


def _read_kernel(path: Path) -> Kernel | None:
    """None for one that is not there or is damaged: it is compiled anew, and the file replaced."""
    try:
        fields = json.loads(path.read_text())
        return Kernel(
            **{
                **fields,
                "cubin": zlib.decompress(base64.b64decode(fields["cubin"])),
                "parameters": tuple(fields["parameters"]),
                "cluster": tuple(fields["cluster"]),
            }
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, zlib.error) as err:
        log.warning("kernel cache: %s is damaged (%s); compiling it anew", path, err)
        return None


def _definition(function: Any) -> str:
    """The text of a jitted function, of those of ours that it calls, and the constants that they name."""
    found: dict[str, str] = {}
    waiting = [function]
    while waiting:
        current = waiting.pop()
        plain = current.fn
        name = f"{plain.__module__}.{plain.__name__}"
        if name in found:
            continue
        found[name] = getattr(current, "generated_source", "") or _source_text(plain)
        for word in set(re.findall(r"[A-Za-z_]\w*", found[name])) & plain.__globals__.keys():
            value = plain.__globals__[word]
            if getattr(getattr(value, "fn", None), "__module__", "").startswith("trine."):
                waiting.append(value)
            elif isinstance(plain_value(value), int | float | str):
                found[f"{plain.__module__}.{word}"] = repr(plain_value(value))
    return "\0".join(f"{name}\0{found[name]}" for name in sorted(found) if not name.endswith("__"))


@functools.cache
def _source_text(function: Callable[..., Any]) -> str:
    return inspect.getsource(function)


def kernel_key(source: KernelSource, target: Target) -> str:
    """A name for what compiling ``source`` for ``target`` gives: 32 hexadecimal digits."""
    parts = [
        _definition(source.function),
        source.function.fn.__name__,
        json.dumps(
            [
                dict(source.signature),
                {name: plain_value(value) for name, value in source.constants.items()},
                source.num_warps,
                source.num_stages,
                sorted(source.divisible),
                dict(source.options),
            ],
            default=str,
        ),
        target.name,
        first_instructions(target.capability),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def plain_value(value: Any) -> Any:
    return getattr(value, "value", value)
