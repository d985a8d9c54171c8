"""Kernels that begin by waiting for the launch before them, so that it may still be running when they are started.

From Hopper on, a launch may be started before the one that it depends on has ended ("programmatic dependent launch" in
the CUDA programming guide): its blocks take their places, and ``griddepcontrol.wait`` holds them until all that the
launches before have written is there (PTX ISA, griddepcontrol). What starting costs is then hidden. Triton has no such
option for all kernels at once; so the two instructions are put into its PTX, before ptxas makes machine code of it.
Neither does anything in a launch that is not started early.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["EARLIEST", "begin_by_waiting", "kernels_wait", "waits"]

EARLIEST = 90  # compute capability
_BEGIN = "\tgriddepcontrol.wait;\n\tgriddepcontrol.launch_dependents;\n"
_DECLARATION = re.compile(r"\s*(?:$|//|\.(?:reg|local|shared|loc|pragma)\b|\$L__func_begin)")


def waits(ptx: str) -> bool:
    """Whether a kernel's PTX is what ``begin_by_waiting`` made."""
    return _BEGIN in ptx


def begin_by_waiting(ptx: str) -> str:
    """Wait first, then let the next launch take its places: it starts once all blocks of this one have begun, and so
    never takes a place from them.

    Raises ValueError for PTX that is not of one kernel.
    """
    if ptx.count(".entry") != 1:
        raise ValueError(f"PTX of {ptx.count('.entry')} kernels; wanted one")
    lines = ptx.splitlines(keepends=True)
    entry = next(index for index, line in enumerate(lines) if ".entry" in line)
    index = next(index for index in range(entry, len(lines)) if lines[index].strip() == "{") + 1
    while _DECLARATION.match(lines[index]):
        index += 1
    return "".join([*lines[:index], _BEGIN, *lines[index:]])


@contextlib.contextmanager
def kernels_wait(capability: int) -> Iterator[None]:
    """While this lasts, what Triton compiles begins by waiting, if the architecture can."""
    import triton

    if capability < EARLIEST:
        yield
        return

    def change_stages(*given: Any) -> tuple[str, str] | None:
        if not given:
            return "begin by waiting", "1"  # for the key of Triton's own cache
        stages = given[1]
        stages["ptx"] = _then_waiting(stages["ptx"])
        return None

    with triton.knobs.runtime.scope():
        triton.knobs.runtime.add_stages_inspection_hook = change_stages
        yield


def _then_waiting(make_ptx: Callable[..., str]) -> Callable[..., str]:
    return lambda source, metadata: begin_by_waiting(make_ptx(source, metadata))
