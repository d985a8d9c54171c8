"""Every configuration of every tactic for a network's groups, on a GPU, against the meaning of the group in NumPy.

    python tests/backends/cuda/device_check.py resnet18 --batch 2

Operands are random, results poisoned with NaN beforehand.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trine.backends.cuda.compiler import compile_all
from trine.backends.cuda.groups import Buffer, DepthwiseConv, Group
from trine.backends.cuda.kernel_cache import KernelCache, kernel_key
from trine.backends.cuda.memory_plan import plan_memory
from trine.backends.cuda.records import tensor_map_record
from trine.backends.cuda.reference import NUMPY_TYPES, Memory, run_group
from trine.backends.cuda.registry import all_tactics
from trine.backends.cuda.signature import group_signature
from trine.backends.cuda.tactic import Argument, Launch, Pointer, Rows, Scalar, Scratch, TensorMap
from trine.backends.cuda.target import TARGETS, Target
from trine.errors import TrineError
from trine.runtime.cuda.driver import Driver
from trine.runtime.cuda.parameters import Addresses, pack_parameters
from trine.runtime.cuda.plan import Kernel, LaunchRecord

# Sums in another order and one rounding at the end, relative to the largest element.
TOLERANCE = {"fp16": 4e-3, "bf16": 3e-2, "fp32": 2e-5}
TF32 = 4e-3  # operands that are cut to ten bits are 2**-11 too small in the mean, a product 2**-10; and its spread


class GroupOnDevice:
    """One group's operands, the same bytes on both sides, and its right answer.

    ``poisoned``: fill what is written and scratch with NaN beforehand; without, a tool can tell what nobody wrote.
    """

    def __init__(self, driver: Driver, group: Group, poisoned: bool = True) -> None:
        self.driver, self.group, self.poisoned = driver, group, poisoned
        self.given = {view.buffer for view in group.views()}
        generator = np.random.default_rng(0)
        self.placement = plan_memory([group])
        edges = {}
        for view in [*group.views(), *group.written()]:
            if view.buffer.kind in ("input", "output"):
                edges[view.buffer] = np.zeros(view.buffer.elements, NUMPY_TYPES[view.dtype])
        self.before = Memory(self.placement.offsets, np.full(self.placement.arena_bytes, 0xFF, np.uint8), edges)
        for buffer in dict.fromkeys(view.buffer for view in group.views() if view.buffer.kind != "weight"):
            self.before.storage(buffer)[:] = _random(generator, buffer)
        self.wanted = Memory(
            self.placement.offsets, self.before.arena.copy(), {b: a.copy() for b, a in self.before.edges.items()}
        )
        run_group(group, self.wanted)

    def error(self, launches: Sequence[Launch], kernels: Sequence[Kernel]) -> float:
        """The largest relative error over what the group writes; NaN in what is not written counts as infinite."""
        scratch = [(a.buffer, 0) for launch in launches for a in launch.arguments if isinstance(a, Scratch)]
        scratch = list(dict.fromkeys(scratch))
        driver = self.driver
        stream = driver.stream()
        places: dict[Buffer, int] = {}
        host: dict[Buffer, np.ndarray[Any, Any]] = {}
        group = self.group
        used = [view.buffer for view in [*group.views(), *group.written()]]
        used += [a.view.buffer for launch in launches for a in launch.arguments if isinstance(a, Pointer | TensorMap)]
        for buffer in dict.fromkeys([*used, *(b for b, _ in scratch)]):
            places[buffer] = driver.allocate(buffer.nbytes + 64, buffer.name)
            if not self.poisoned and buffer.kind != "weight" and buffer not in self.given:
                continue
            if (buffer, 0) in scratch:
                driver.fill(places[buffer], 0xFF, buffer.nbytes, stream)
                continue
            if buffer.kind == "weight":
                host[buffer] = np.ascontiguousarray(buffer.data).reshape(-1)
            else:
                host[buffer] = np.array(self.before.storage(buffer))
            driver.upload(places[buffer], int(host[buffer].ctypes.data), buffer.nbytes, stream)
        graph, previous, modules = driver.graph(), [], []
        for launch, kernel in zip(launches, kernels, strict=True):
            arguments = tuple(_located(each, places, group) for each in launch.arguments)
            block = pack_parameters(
                kernel, LaunchRecord(0, launch.grid, arguments, (), (), 0), Addresses(0, 0), driver.encode_tensor_map
            )
            modules.append(driver.load_module(kernel.cubin))
            function = driver.function(modules[-1], kernel.symbol, kernel.shared_bytes)
            previous = [
                driver.add_kernel(graph, previous, function, launch.grid, kernel.threads, kernel.shared_bytes, block)
            ]
        executable = driver.instantiate(graph)
        driver.launch(executable, stream)
        worst = 0.0
        after = Memory(self.placement.offsets, self.before.arena.copy(), dict(self.before.edges))
        for view in group.written():
            got = np.empty(view.buffer.elements, NUMPY_TYPES[view.dtype])
            driver.download(int(got.ctypes.data), places[view.buffer], view.buffer.nbytes, stream)
            driver.synchronize(stream)
            if view.buffer.kind == "arena":
                after.storage(view.buffer)[:] = got
            else:
                after.edges[view.buffer] = got
            left, right = after.window(view).astype(np.float64), self.wanted.window(view).astype(np.float64)
            if isinstance(group, DepthwiseConv) and view is group.sums:
                left, right = left.sum(1), right.sum(1)  # only the total over the tiles has a meaning
            scale = np.abs(right).max() or 1.0
            difference = np.abs(left - right).max() / scale
            worst = max(worst, float("inf") if np.isnan(difference) else float(difference))
        driver.destroy_executable(executable)
        driver.destroy_graph(graph)
        for module in modules:
            driver.unload_module(module)
        for address in places.values():
            driver.free(address)
        driver.destroy_stream(stream)
        return worst


def _random(generator: np.random.Generator, buffer: Buffer) -> np.ndarray[Any, Any]:
    if buffer.dtype in ("fp32", "fp16", "bf16"):
        return generator.standard_normal(buffer.elements).astype(NUMPY_TYPES[buffer.dtype])
    return generator.integers(0, 2, buffer.elements).astype(NUMPY_TYPES[buffer.dtype])


def _located(argument: Argument, places: dict[Buffer, int], group: Group) -> tuple[Any, ...]:
    match argument:
        case Pointer(view):
            return ("arena", places[view.buffer] + view.offset * NUMPY_TYPES[view.dtype].itemsize)
        case Scratch(buffer):
            return ("arena", places[buffer])
        case Scalar(dtype, value):
            return (dtype, value)
        case Rows(factor):
            return ("i32", group.y.shape[0] * factor)
        case TensorMap(view):
            base = ("arena", places[view.buffer] + view.offset * NUMPY_TYPES[view.dtype].itemsize)
            return ("tensormap", tensor_map_record(argument, base))


def candidates(group: Group, target: Target, names: str, most: int) -> Iterator[tuple[str, Sequence[Launch]]]:
    """The first ``most`` configurations of every tactic that says it can and whose name contains ``names``."""
    for tactic in all_tactics(True):
        if names in tactic.name and tactic.supports(group, target):
            for configuration in tactic.configurations(group, target)[:most]:
                yield f"{tactic.name} {dict(configuration)}", tactic.launches(group, configuration, target)


def check_groups(
    driver: Driver,
    groups: Sequence[Group],
    target: Target,
    cache: KernelCache,
    most: int = 1000,
    names: str = "",
    poisoned: bool = True,
) -> Iterator[tuple[Group, str, float | str]]:
    """(group, candidate, relative error or why it did not compile) for the distinct ones among ``groups``."""
    distinct = list({group_signature(group): group for group in groups}.values())
    work = [(group, list(candidates(group, target, names, most))) for group in distinct]
    sources = [launch.kernel for _, found in work for _, launches in found for launch in launches]
    compiled = compile_all(sources, target, cache)
    for group, found in work:
        try:
            prepared = GroupOnDevice(driver, group, poisoned)
        except Exception as err:  # noqa: BLE001 - one group's fault must not hide the others
            yield group, "reference", f"{type(err).__name__}: {err}"
            continue
        for label, launches in found:
            results = [compiled[kernel_key(launch.kernel, target)] for launch in launches]
            failed = [result for result in results if isinstance(result, str)]
            kernels = [result for result in results if isinstance(result, Kernel)]
            yield group, label, failed[0] if failed else prepared.error(launches, kernels)


def main() -> int:
    """Print what is wrong, and how many were right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--precision", default="fp16")
    parser.add_argument("--kernels", type=Path)
    parser.add_argument("--most", type=int, default=1000)
    parser.add_argument("--tactics", default="", help="only those whose name contains this")
    args = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))
    from cuda_engine import lowered_network

    driver = Driver()
    target = TARGETS[f"sm_{driver.capability}"]
    groups = [group for name in args.networks for group in lowered_network(name, args.batch, args.precision).groups]
    right, wrong, refused = 0, 0, 0
    for group, label, found in check_groups(driver, groups, target, KernelCache(args.kernels), args.most, args.tactics):
        limit = TOLERANCE.get(group.y.dtype, 0.0)
        if isinstance(found, str):
            refused += 1
            print(f"NOT COMPILED {type(group).__name__} {group.name[:60]} | {label} | {found[:300]}", flush=True)
        elif found > limit:
            wrong += 1
            print(f"WRONG {found:.2e} {type(group).__name__} {group.name[:60]} y={group.y.shape} | {label}", flush=True)
        else:
            right += 1
    print(f"{right} right, {wrong} wrong, {refused} not compiled")
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except TrineError as err:
        sys.exit(f"{type(err).__name__}: {err}")
