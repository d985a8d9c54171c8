"""From a KernelSource to machine code, by Triton, in several processes; what a cache holds is not compiled."""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.process
import contextlib
import multiprocessing
import os
import re
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from trine.backends.cuda.dependent_launch import kernels_wait, waits
from trine.backends.cuda.kernel_cache import KernelCache, kernel_key, plain_value
from trine.backends.cuda.tactic import KernelSource
from trine.backends.cuda.target import Target
from trine.errors import BuildError, MissingDependencyError
from trine.runtime.cuda.plan import Kernel

__all__ = ["compile_all", "compile_each", "compile_kernel"]

_POINTER_BYTES = {"i32": "i32", "i64": "i64", "fp32": "fp32"}


@dataclass(frozen=True)
class _Job:
    """A KernelSource that can be sent to another process: functions by where they are defined."""

    module: str
    function: str
    text: str  # of a generated function; empty for those in files
    source: KernelSource
    capability: int


def compile_kernel(source: KernelSource, target: Target) -> Kernel:
    """Compile with the installed Triton; needs no GPU.

    Raises MissingDependencyError without Triton, BuildError for a kernel that takes more shared memory than the target
    has. What Triton itself raises is left to the caller, who knows whether another configuration may do.
    """
    try:
        import triton
        from triton.backends.compiler import GPUTarget
    except ImportError as err:
        raise MissingDependencyError(
            "compiling CUDA kernels needs Triton: pip install 'trine[cuda-build]'", name="triton"
        ) from err
    if source.gluon and not _has_im2col_loads():
        raise MissingDependencyError(
            "Triton 3.8 or newer compiles this kernel; the one installed is older", name="triton"
        )
    names = list(source.signature)
    constants = {(names.index(name),): value for name, value in source.constants.items()}
    attributes = {(names.index(name),): [["tt.divisibility", 16]] for name in source.divisible}
    if source.gluon:
        from triton.experimental.gluon._runtime import GluonASTSource as Source
    else:
        from triton.compiler import ASTSource as Source
    ast = Source(source.function, dict(source.signature), constants, attributes)
    options = {"num_warps": source.num_warps, "enable_fp_fusion": True, **source.options}  # said: its default changes
    if not source.gluon:
        options["num_stages"] = source.num_stages
    with kernels_wait(target.capability), triton.knobs.compilation.scope():
        triton.knobs.compilation.disable_line_info = True  # with its PTX, three quarters of the machine code's file
        compiled = triton.compile(ast, target=GPUTarget("cuda", target.capability, 32), options=options)
    metadata = compiled.metadata
    if metadata.shared > target.shared_bytes:  # Triton asks the GPU, and there may be none
        raise BuildError(
            f"{source.function.fn.__name__}: a block takes {metadata.shared} bytes of shared memory, and one on "
            f"{target.name} has {target.shared_bytes}; smaller tiles or fewer stages take less"
        )
    found = re.search(r"\.reqntid\s+(\d+)", compiled.asm["ptx"]) or re.search(r"\.maxntid\s+(\d+)", compiled.asm["ptx"])
    threads = int(found[1]) if found else metadata.num_warps * 32
    return Kernel(
        name=source.function.fn.__name__,
        symbol=metadata.name,
        cubin=compiled.asm["cubin"],
        shared_bytes=metadata.shared,
        threads=threads,
        parameters=_parameters(source),
        null_pointers=_null_pointers(compiled.asm["ptx"], metadata.name, source),
        cluster=_cluster(metadata),
        waits=waits(compiled.asm["ptx"]),
    )


def _has_im2col_loads() -> bool:
    from triton.experimental.gluon.language.nvidia.hopper import tma

    return hasattr(tma, "async_load_im2col")


def _parameters(source: KernelSource) -> tuple[str, ...]:
    kinds = []
    for kind in source.signature.values():
        if kind == "constexpr":
            continue
        if kind.startswith("*"):
            kinds.append("pointer")
        elif kind.startswith("tensordesc"):
            kinds.append("tensormap")
        else:
            kinds.append(_POINTER_BYTES[kind])
    return tuple(kinds)


def _null_pointers(ptx: str, symbol: str, source: KernelSource) -> int:
    """How many parameters the machine code has beyond the source's: Triton's scratch memories."""
    header = re.search(rf"\.entry\s+{re.escape(symbol)}\s*\((.*?)\)", ptx, re.DOTALL)
    assert header is not None
    total = header[1].count(".param")
    expected = 0
    for kind in source.signature.values():
        if kind == "constexpr":
            continue
        expected += 1 + 2 * _descriptor_rank(kind)
    return total - expected


def _descriptor_rank(kind: str) -> int:
    """How many axes the tensor has; an im2col descriptor's tile has two of them only. 0 for other types."""
    if not kind.startswith("tensordesc"):
        return 0
    given = re.search(r",input_rank=(\d+)", kind)
    return int(given[1]) if given else kind[kind.index("[") : kind.index("]")].count(",") + 1


def _cluster(metadata: Any) -> tuple[int, int, int]:
    dims = getattr(metadata, "cluster_dims", None) or (getattr(metadata, "num_ctas", 1), 1, 1)
    return (int(dims[0]), int(dims[1]), int(dims[2]))


def compile_all(
    sources: Iterable[KernelSource], target: Target, cache: KernelCache, processes: int | None = None
) -> dict[str, Kernel | str]:
    """What ``compile_each`` gives, when all of it is there."""
    return dict(compile_each(sources, target, cache, processes))


def compile_each(
    sources: Iterable[KernelSource], target: Target, cache: KernelCache, processes: int | None = None
) -> Iterator[tuple[str, Kernel | str]]:
    """Every kernel with its key: those in the cache at once, others as they are compiled, in several processes, while
    the caller does something else; the reason, as text, for those that do not compile (too much shared memory for the
    target, say)."""
    wanted = {kernel_key(source, target): source for source in sources}
    jobs = {}
    for key, source in wanted.items():
        kernel = cache.get(key)
        if kernel is not None and kernel.shared_bytes <= target.shared_bytes:
            yield key, kernel
        else:
            jobs[key] = _job(source, target)
    processes = min(processes or os.cpu_count() or 1, len(jobs))
    compiled = _in_processes(jobs, processes) if processes > 1 else ((key, _run(job)) for key, job in jobs.items())
    for key, result in compiled:
        if isinstance(result, Kernel):
            cache.put(key, result)
        yield key, result


def _in_processes(jobs: Mapping[str, _Job], processes: int) -> Iterator[tuple[str, Kernel | str]]:
    """Results as they come. A kernel that brings the compiler down takes its process with it, not the build."""
    context = multiprocessing.get_context("spawn")  # not forked: a CUDA context does not survive that
    left = dict(jobs)
    alone = False
    while left:
        batch = dict(list(left.items())[:1]) if alone else dict(left)
        with concurrent.futures.ProcessPoolExecutor(min(processes, len(batch)), mp_context=context) as pool:
            with _empty_main_module():
                futures = {pool.submit(_run, job): key for key, job in batch.items()}
            try:
                for future in concurrent.futures.as_completed(futures):
                    key = futures[future]
                    try:
                        result: Kernel | str = future.result()
                    except concurrent.futures.process.BrokenProcessPool:
                        if not alone:
                            continue  # this one, or one beside it: tried again, one at a time
                        result = "the compiler crashed"
                    del left[key]
                    yield key, result
            finally:
                pool.shutdown(wait=True, cancel_futures=True)  # whoever wanted the rest may have given up
        alone = True


@contextlib.contextmanager
def _empty_main_module() -> Iterator[None]:
    """While worker processes start: they would run the caller's script again, unless it guards its main part."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _job(source: KernelSource, target: Target) -> _Job:
    function = source.function.fn
    text = getattr(source.function, "generated_source", "")
    constants = {name: plain_value(value) for name, value in source.constants.items()}
    return _Job(
        function.__module__,
        function.__name__,
        text,
        replace(source, function=None, constants=constants, signature=dict(source.signature)),
        target.capability,
    )


def _run(job: _Job) -> Kernel | str:
    """In a worker: find the function again and compile. A failure is a result: the tuner notes it and goes on."""
    import importlib

    from trine.backends.cuda.target import TARGETS

    if job.text:
        from trine.backends.cuda.kernels.generated import function_from_source

        function = function_from_source(job.text, job.function)
    else:
        function = getattr(importlib.import_module(job.module), job.function)
    target = next(each for each in TARGETS.values() if each.capability == job.capability)
    try:
        return compile_kernel(replace(job.source, function=function), target)
    except Exception as err:  # noqa: BLE001 - compilers fail in many ways; each is one configuration's refusal
        return f"{type(err).__name__}: {' '.join(str(err).split())[:300]}"
