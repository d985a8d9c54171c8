"""What kernels begin with on Hopper and later: they wait for the launch before, and fetch what a later one will read.

From Hopper on, a launch may be started before the one that it depends on has ended ("programmatic dependent launch" in
the CUDA programming guide): it is on its way while the last blocks of the one before end, and ``griddepcontrol.wait``
holds its blocks until all that the launches before have written is there (PTX ISA, griddepcontrol). What starting costs
is then hidden. No kernel gives the next one leave while it still computes (``griddepcontrol.launch_dependents``):
blocks that wait beside it slowed two thirds of five networks' buckets on an H200, by up to an eighth; without, 18 of 20
are faster.

Small layers wait for their weights, which other layers' have driven out of the L2 cache. A launch therefore asks the
cache for those that come next, a piece in each block (PTX ISA, cp.async.bulk.prefetch). What to fetch comes in the two
parameters that Triton keeps for scratch memories, which no kernel here has: an address, and in one word the bytes for
each block and how many of the grid's first blocks fetch; null for nothing.

Triton has no option for either; so the instructions are put into its PTX, before ptxas makes machine code of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from trine.backends.cuda.groups import ITEM_BYTES, View
from trine.backends.cuda.tactic import Launch, Pointer, TensorMap

__all__ = ["EARLIEST", "begin_by_waiting", "first_instructions", "kernels_wait", "waits", "weight_to_fetch"]

EARLIEST = 90  # compute capability
_LEAST_FETCHED = 16 << 10  # bytes: biases and scales come soon enough, and would hide the matrix after them
_WAIT = "\tgriddepcontrol.wait;\n"
_FETCH = """\
	{{
	.reg .pred %ahead_p<3>;
	.reg .b32 %ahead_r<9>;
	.reg .b64 %ahead_d<5>;
	ld.param.b64 %ahead_d2, [{pieces}];
	ld.param.b64 %ahead_d1, [{address}];
	mov.u32 %ahead_r4, %tid.x;
	mov.u32 %ahead_r3, %ctaid.x;
	mov.u32 %ahead_r5, %ctaid.y;
	mov.u32 %ahead_r6, %ctaid.z;
	mov.u32 %ahead_r7, %nctaid.x;
	mov.u32 %ahead_r8, %nctaid.y;
	mad.lo.u32 %ahead_r5, %ahead_r6, %ahead_r8, %ahead_r5;
	mad.lo.u32 %ahead_r3, %ahead_r5, %ahead_r7, %ahead_r3;
	cvt.u32.u64 %ahead_r1, %ahead_d2;
	shr.u64 %ahead_d3, %ahead_d2, 32;
	cvt.u32.u64 %ahead_r2, %ahead_d3;
	setp.eq.u32 %ahead_p1, %ahead_r4, 0;
	setp.lt.and.u32 %ahead_p2, %ahead_r3, %ahead_r2, %ahead_p1;
	mad.wide.u32 %ahead_d4, %ahead_r3, %ahead_r1, %ahead_d1;
	@%ahead_p2 cp.async.bulk.prefetch.L2.global [%ahead_d4], %ahead_r1;
	}}
"""
_PARAMETER = re.compile(r"\.param\s+\.(\w+)[^,()]*?(\w+)\s*(?=[,)\n])")
_DECLARATION = re.compile(r"\s*(?:$|//|\.(?:reg|local|shared|loc|pragma)\b|\$L__func_begin)")


def first_instructions(capability: int) -> str:
    """What every kernel for this architecture begins with; empty where it cannot."""
    return _WAIT + _FETCH if capability >= EARLIEST else ""


def weight_to_fetch(launches: Iterable[Launch]) -> View | None:
    """What the launches of the group before are to fetch for these: the largest weight; None if all are small."""
    arguments = [argument for launch in launches for argument in launch.arguments]
    views = [argument.view for argument in arguments if isinstance(argument, Pointer | TensorMap)]
    weights = [view for view in views if view.buffer.kind == "weight"]
    largest = max(weights, key=_bytes, default=None)
    return largest if largest is not None and _bytes(largest) >= _LEAST_FETCHED else None


def _bytes(view: View) -> int:
    return view.reach * ITEM_BYTES[view.dtype]


def waits(ptx: str) -> bool:
    """Whether a kernel's PTX is what ``begin_by_waiting`` made."""
    return _WAIT in ptx


def begin_by_waiting(ptx: str) -> str:
    """Wait, fetch ahead, then what the kernel does.

    Raises ValueError for PTX that is not of one kernel, and of one that does not end its parameters with two addresses.
    """
    if ptx.count(".entry") != 1:
        raise ValueError(f"PTX of {ptx.count('.entry')} kernels; wanted one")
    header = ptx[ptx.index(".entry") :]
    parameters = _PARAMETER.findall(header[: header.index("{")])
    if len(parameters) < 2 or any(kind not in ("u64", "b64") for kind, _ in parameters[-2:]):
        raise ValueError(f"PTX with the parameters {parameters}; wanted two addresses at their end")
    begin = _WAIT + _FETCH.format(address=parameters[-2][1], pieces=parameters[-1][1])
    lines = ptx.splitlines(keepends=True)
    entry = next(index for index, line in enumerate(lines) if ".entry" in line)
    index = next(index for index in range(entry, len(lines)) if lines[index].strip() == "{") + 1
    while _DECLARATION.match(lines[index]):
        index += 1
    return "".join([*lines[:index], begin, *lines[index:]])


@contextlib.contextmanager
def kernels_wait(capability: int) -> Iterator[None]:
    """While this lasts, what Triton compiles begins by waiting, if the architecture can."""
    import triton

    if capability < EARLIEST:
        yield
        return

    def change_stages(*given: Any) -> tuple[str, str] | None:
        if not given:
            text = _WAIT + _FETCH  # Triton puts it into the keys of its own caches
            return text, hashlib.sha256(text.encode()).hexdigest()
        stages = given[1]
        stages["ptx"] = _then_waiting(stages["ptx"])
        return None

    with triton.knobs.runtime.scope():
        triton.knobs.runtime.add_stages_inspection_hook = change_stages
        yield


def _then_waiting(make_ptx: Callable[..., str]) -> Callable[..., str]:
    return lambda source, metadata: begin_by_waiting(make_ptx(source, metadata))
