"""Plays a Gluon kernel of three warp groups in Python: what it computes, and whether its barriers hold.

Triton has no interpreter for Gluon. Here the kernel's own functions run, each warp group in a thread, with NumPy in
place of ``gl`` and the copies and barriers as PTX defines them: a barrier knows the parity of its phase only, copies
finish whenever they like, products and stores read shared memory as late as they may. Who goes on is drawn at random,
so that an order that happens to work hides nothing. A wait that nothing can end is a DeadlockError.
"""

from __future__ import annotations

import random
import threading
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from trine.backends.cuda import reference_pointwise
from trine.backends.cuda.groups import Activation
from trine.backends.cuda.tactic import Launch, Pointer, Scalar, TensorMap

__all__ = ["DeadlockError", "play"]

Array = np.ndarray[Any, Any]


class DeadlockError(AssertionError):
    """Every warp group waits, and no copy is under way."""


def im2col(x: Array, description: TensorMap, corner: tuple[int, ...], offsets: tuple[int, int]) -> Array:
    """Pixels from ``corner`` on, in the window that the corners of ``description`` leave, moved by ``offsets``."""
    assert description.im2col is not None
    assert description.steps is not None
    lower, upper, channels, pixels = description.im2col
    n, h, w, c = corner
    ends = [x.shape[axis] + upper[axis - 1] for axis in (1, 2)]
    found = np.zeros((pixels, channels), x.dtype)
    for place in range(pixels):
        row, column = h + offsets[0], w + offsets[1]
        if n < x.shape[0] and 0 <= row < x.shape[1] and 0 <= column < x.shape[2]:
            found[place] = x[n, row, column, c : c + channels]
        w += description.steps[2]
        if w >= ends[1]:
            w = lower[1]
            h += description.steps[1]
        if h >= ends[0]:
            h = lower[0]
            n += 1
    return found


class _Turns:
    """One thread runs at a time; at each wait, who goes on is drawn from those that can."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.copies: list[Callable[[], None]] = []
        self._waiting: dict[int, Callable[[], bool]] = {}
        self._batons: dict[int, threading.Semaphore] = {}
        self._local = threading.local()
        self._failure: BaseException | None = None
        self._done = threading.Event()

    def run(self, bodies: list[Callable[[], None]]) -> None:
        threads = []
        for number, body in enumerate(bodies):
            self._batons[number] = threading.Semaphore(0)
            self._waiting[number] = lambda: True
            threads.append(threading.Thread(target=self._body, args=(number, body), daemon=True))
        for thread in threads:
            thread.start()
        self._pass_on()
        self._done.wait()
        for number in self._batons:
            self._batons[number].release()
        for thread in threads:
            thread.join()
        if self._failure is not None:
            raise self._failure
        while self.copies:
            self.copies.pop()()

    def wait(self, until: Callable[[], bool]) -> None:
        number = self._local.number
        self._waiting[number] = until
        self._pass_on()
        self._batons[number].acquire()
        if self._failure is not None:
            raise SystemExit

    def _body(self, number: int, body: Callable[[], None]) -> None:
        self._local.number = number
        self._batons[number].acquire()
        try:
            if self._failure is None:
                body()
        except SystemExit:
            return
        except BaseException as err:  # noqa: BLE001 - raised again in the test's own thread
            self._failure = err
            self._done.set()
            return
        self._pass_on()

    def _pass_on(self) -> None:
        """Some copies finish, then one of those that can go on does."""
        while True:
            ready = [number for number, until in self._waiting.items() if until()]
            chosen = self.random.randrange(len(ready) + len(self.copies)) if ready or self.copies else None
            if chosen is None:
                if self._waiting:
                    self._failure = DeadlockError(f"warp groups {sorted(self._waiting)} wait for what never comes")
                self._done.set()
                return
            if chosen >= len(ready):
                self.copies.pop(chosen - len(ready))()
                continue
            number = ready[chosen]
            del self._waiting[number]
            self._batons[number].release()
            return


class _Barrier:
    """PTX's mbarrier: arrivals and bytes that are still to come; of its phases, only the parity can be asked for."""

    def __init__(self) -> None:
        self.count = self.pending = self.bytes = self.phase = 0

    def update(self, arrivals: int = 0, more: int = 0) -> None:
        self.pending -= arrivals
        self.bytes += more
        assert self.pending >= 0, "more arrivals than a phase has"
        if self.pending == 0 and self.bytes == 0:
            self.phase += 1
            self.pending = self.count


class _Shared:
    """Shared memory, full of NaN until something is written."""

    def __init__(self, array: Array) -> None:
        self.array = array

    def index(self, i: Any) -> _Shared:
        return _Shared(self.array[int(i)])

    def permute(self, order: tuple[int, ...]) -> _Shared:
        return _Shared(self.array.transpose(order))

    def load(self, layout: Any) -> Any:
        return _Number(self.array.astype(np.float32))

    def store(self, value: Array) -> None:
        self.array[...] = value

    @property
    def barrier(self) -> _Barrier:
        found = self.array[0]
        assert isinstance(found, _Barrier)
        return found


class _Number(np.ndarray):
    """An array with Triton's ``to``."""

    def __new__(cls, value: Any) -> _Number:
        return np.asarray(value).view(cls)

    def to(self, dtype: Any) -> _Number:
        return _Number(self.astype(dtype))


class _Sums:
    """A warp group's sums, and the products that are still to be added."""

    def __init__(self, value: Array) -> None:
        self.value = value
        self.products: list[tuple[_Shared, _Shared, bool]] = []

    def finish(self, left: int) -> None:
        while len(self.products) > left:
            a, b, add = self.products.pop(0)
            found = a.array.astype(np.float32) @ b.array.astype(np.float32)
            self.value = self.value + found if add else found


class _Descriptor:
    """A matrix, or channels-last images, and the tile that a copy moves."""

    def __init__(self, data: Array, tile: tuple[int, int], description: TensorMap) -> None:
        self.data, self.tile, self.description = data, tile, description
        self.dtype, self.layout = data.dtype, None
        self.block_type = types.SimpleNamespace(nbytes=tile[0] * tile[1] * data.itemsize)

    def load(self, row: int, column: int) -> Array:
        found = np.zeros(self.tile, self.data.dtype)
        part = self.data[row : row + self.tile[0], column : column + self.tile[1]]
        found[: part.shape[0], : part.shape[1]] = part
        return found

    def store(self, row: int, column: int, value: Array) -> None:
        part = self.data[row : row + self.tile[0], column : column + self.tile[1]]
        part[...] = value[: part.shape[0], : part.shape[1]]


def _language(turns: _Turns, program: int, programs: int) -> dict[str, Any]:
    """What the kernel's file imports of Gluon, played."""
    stores: dict[int, list[Callable[[], None]]] = {}

    def allocate(dtype: Any, shape: list[int], layout: Any) -> _Shared:
        if dtype == "barrier":
            array = np.empty(shape, object)
            for place in np.ndindex(*shape):
                array[place] = _Barrier()
            return _Shared(array)
        return _Shared(np.full(shape, np.nan, dtype))

    def init(bar: _Shared, count: int) -> None:
        bar.barrier.count = bar.barrier.pending = count

    def wait(bar: _Shared, parity: int) -> None:
        barrier = bar.barrier
        turns.wait(lambda: barrier.phase & 1 != int(parity))

    def expect(bar: _Shared, size: int) -> None:
        bar.barrier.update(arrivals=1, more=size)

    def arrive(bar: _Shared, count: int = 1, pred: Any = True) -> None:
        if pred:
            bar.barrier.update(arrivals=count)

    def copy(load: Callable[[], Array], size: int, bar: _Shared, target: _Shared) -> None:
        def finish() -> None:
            target.array[...] = load()
            bar.barrier.update(more=-size)

        turns.copies.append(finish)

    def async_load(source: _Descriptor, place: list[Any], bar: _Shared, target: _Shared) -> None:
        row, column = (int(each) for each in place)
        copy(lambda: source.load(row, column), source.block_type.nbytes, bar, target)

    def async_load_im2col(
        source: _Descriptor, corner: list[Any], offsets: list[Any], bar: _Shared, target: _Shared
    ) -> None:
        first, moved = tuple(int(each) for each in corner), (int(offsets[0]), int(offsets[1]))
        copy(lambda: im2col(source.data, source.description, first, moved), source.block_type.nbytes, bar, target)

    def async_store(target: _Descriptor, place: list[Any], source: _Shared) -> None:
        row, column = (int(each) for each in place)
        left = [True]

        def finish() -> None:
            if left:
                left.clear()
                target.store(row, column, source.array)

        turns.copies.append(finish)
        stores.setdefault(threading.get_ident(), []).append(finish)

    def store_wait(pendings: int) -> None:
        for finish in stores.pop(threading.get_ident(), []):
            finish()

    def multiply(a: _Shared, b: _Shared, acc: Any, use_acc: Any, is_async: bool) -> _Sums:
        sums = acc if isinstance(acc, _Sums) else _Sums(acc)
        sums.products.append((a, b, bool(use_acc)))
        return sums

    def multiply_wait(left: int, deps: tuple[_Sums]) -> Any:
        deps[0].finish(left)
        return deps[0] if left else _Number(deps[0].value)

    def activate(value: Array, name: str, a: float, b: float) -> _Number:
        meaning = Activation(name.removeprefix("short_"), a, b)
        return _Number(reference_pointwise.activated(meaning, np.asarray(value)))

    def specialize(parts: list[Any], warps: list[int], registers: list[int]) -> None:
        turns.run([lambda part=part: functions[part[0]](*part[1]) for part in parts])

    functions: dict[Any, Any] = {}
    language = types.SimpleNamespace(
        program_id=lambda axis: program,
        num_programs=lambda axis: programs,
        where=lambda condition, yes, no: yes if condition else no,
        to_tensor=lambda value: _Number(value),
        static_range=range,
        zeros=lambda shape, dtype, layout: _Number(np.zeros(shape, np.float32)),
        arange=lambda first, last, layout: np.arange(first, last),
        load=lambda place, mask, other: np.where(mask, place.values(mask), other),
        allocate_shared_memory=allocate,
        warp_specialize=specialize,
        NVMMADistributedLayout=lambda **layout: None,
        SliceLayout=lambda axis, layout: None,
        int16=np.int16,
        float32=np.float32,
        int64="barrier",
    )
    barriers = types.SimpleNamespace(MBarrierLayout=lambda: None, init=init, wait=wait, expect=expect, arrive=arrive)
    copies = types.SimpleNamespace(
        async_load=async_load, async_load_im2col=async_load_im2col, async_store=async_store, store_wait=store_wait
    )
    return {
        "gl": language,
        "mbarrier": barriers,
        "tma": copies,
        "warpgroup_mma": multiply,
        "warpgroup_mma_wait": multiply_wait,
        "fence_async_shared": lambda: None,
        "activate": activate,
        "functions": functions,
    }


class _Pointer:
    def __init__(self, data: Array, places: Any = 0) -> None:
        self.data, self.places = data, places

    def __add__(self, places: Any) -> _Pointer:
        return _Pointer(self.data, self.places + places)

    def values(self, mask: Array) -> Array:
        return self.data[np.where(mask, self.places, 0)]


def play(launch: Launch, arrays: dict[str, Array], seed: int = 0) -> None:
    """Every program of ``launch``, one after another. ``arrays``: by parameter, what descriptors and pointers show;
    "y" is written. Raises DeadlockError."""
    constants = launch.kernel.constants
    names = [name for name, kind in launch.kernel.signature.items() if kind != "constexpr"]
    values: dict[str, Any] = {name: getattr(value, "value", value) for name, value in constants.items()}
    high, wide, deep = (values[name] for name in ("BLOCK_M", "BLOCK_N", "BLOCK_K"))
    tiles = {"x": (high, deep), "w": (wide, deep), "residual": (high, wide), "y": (high, wide)}
    for name, argument in zip(names, launch.arguments, strict=True):
        if isinstance(argument, Scalar):
            values[name] = int(argument.value)
        elif isinstance(argument, TensorMap):
            values[name] = _Descriptor(arrays[name], tiles[name], argument)
        else:
            assert isinstance(argument, Pointer)
            values[name] = _Pointer(arrays[name])
    kernel = launch.kernel.function.fn
    for program in range(launch.grid[0]):
        turns = _Turns(seed * 1000 + program)
        language = _language(turns, program, launch.grid[0])
        scope = dict(kernel.__globals__) | language
        for name, value in kernel.__globals__.items():
            if name.startswith("_") and hasattr(value, "fn"):
                language["functions"][value] = types.FunctionType(value.fn.__code__, scope, name)
        types.FunctionType(kernel.__code__, scope)(**{name: values[name] for name in launch.kernel.signature})
