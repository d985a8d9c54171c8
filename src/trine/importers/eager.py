"""Running a module the way it is imported: eval mode, no gradients, NumPy in and out, nothing of it changed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from trine import structure
from trine.errors import InputError, ModelImportError, TrineError
from trine.importers.imported_model import Arrays
from trine.importers.preflight import user_line
from trine.runtime.arrays import as_numpy

__all__ = ["EagerModel", "eval_mode", "plain_transformers", "to_torch"]


@contextlib.contextmanager
def eval_mode(module: torch.nn.Module) -> Iterator[None]:
    """Puts ``module`` and all its submodules in eval mode, and each one's own mode back, errors or not."""
    modes = [(each, each.training) for each in module.modules()]
    try:
        module.eval()
        for each, _ in modes:
            each.training = False  # where train() is overridden, to keep a frozen part in eval for example
        yield
    finally:
        for each, training in modes:
            each.training = training


_plain = {"open": 0, "was": True}
_plain_lock = threading.Lock()


@contextlib.contextmanager
def plain_transformers() -> Iterator[None]:
    """While open, ``nn.TransformerEncoder`` and its kin compute as they are written.

    In eval mode they otherwise run fused kernels that no graph has, and with a padding mask pack the sequences, so
    that padded places come out as zeros: what the layers compute there is as good, as nobody reads it. The switch is
    one for the whole process: who opens it first, in whichever thread, keeps its state, who closes last restores it.
    """
    with _plain_lock:
        if not _plain["open"]:
            _plain["was"] = torch.backends.mha.get_fastpath_enabled()
            torch.backends.mha.set_fastpath_enabled(False)
        _plain["open"] += 1
    try:
        yield
    finally:
        with _plain_lock:
            _plain["open"] -= 1
            if not _plain["open"]:
                torch.backends.mha.set_fastpath_enabled(bool(_plain["was"]))


def to_torch(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """A copy of ``array`` on ``device``: the module may write into its inputs, the caller's stay as they are."""
    copied = np.array(array, order="C")
    if copied.dtype.name == "bfloat16":
        return torch.from_numpy(copied.view(np.int16)).view(torch.bfloat16).to(device)
    return torch.from_numpy(copied).to(device)


def to_numpy(name: str, tensor: torch.Tensor) -> np.ndarray:
    """A copy of ``tensor`` in host memory; the module may hand out, and later change, its own buffers."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex():
        what = "complex" if tensor.is_complex() else "quantized" if tensor.is_quantized else str(tensor.layout)
        raise ModelImportError(
            f"output {name!r} is a {what} tensor of dtype {tensor.dtype}; engines give dense real tensors. "
            "Convert it at the end of forward, for example with torch.view_as_real or .to_dense()"
        )
    return np.array(as_numpy(name, tensor.detach().cpu().contiguous()))


@dataclass
class EagerModel:
    """A module called with named arrays: the reference that every imported graph and engine answers to."""

    module: torch.nn.Module
    call: dict[str, Any]  # the "call" spec of its inputs, see trine.structure
    device: torch.device
    output_structure: dict[str, Any] | None = None
    _written: list[tuple[torch.nn.Module, str]] | None = field(default=None, repr=False)
    # eval_mode flips a shared flag: two threads must not restore each other's.
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """Outputs by name for ``inputs`` by name. Raises InputError, with the line, where the module refuses them."""
        try:
            return self.run(inputs)[1]
        except TrineError:
            raise
        except Exception as err:  # forward is the user's code: anything can come out of it
            line = user_line(err)
            shapes = ", ".join(f"{name} {tuple(array.shape)}" for name, array in inputs.items())
            raise InputError(
                f"{type(self.module).__name__} itself fails on inputs of these shapes ({shapes})"
                f"{f' at {line}' if line else ''}: {' '.join(str(err).split())[:400]}. Allow only sizes that it "
                "takes, with batch=(min, opt, max); where inputs belong together, as offsets do with what they point "
                "into, fix the batch with batch=n"
            ) from err

    def run(self, inputs: Mapping[str, np.ndarray]) -> tuple[dict[str, Any], Arrays]:
        """The outputs' structure and arrays."""
        leaves = {name: to_torch(array, self.device) for name, array in inputs.items()}
        args, kwargs = structure.rebuild_call(self.call, leaves)
        with self._lock, eval_mode(self.module), plain_transformers(), self._same_buffers(), torch.no_grad():
            spec, outputs = describe_outputs(self.module(*args, **kwargs))
            spec, outputs = _apart_from(structure.leaf_names(self.call), spec, outputs)
            return spec, {name: to_numpy(name, tensor) for name, tensor in outputs.items()}

    @contextlib.contextmanager
    def _same_buffers(self) -> Iterator[None]:
        """Puts back the buffers that forward writes to, a step counter or a cache, so that calls are alike.

        The first call keeps a copy of every buffer to learn which they are; later ones of those alone.
        """
        owners = [
            (each, name)
            for each in self.module.modules()
            if not isinstance(each, torch.jit.ScriptModule)  # its buffers are C++'s, which no assignment replaces
            for name in each._buffers
        ]
        before = {
            (owner, name): (buffer, buffer._version, buffer.clone())
            for owner, name in (owners if self._written is None else self._written)
            if (buffer := owner._buffers[name]) is not None
        }
        try:
            yield
        finally:
            changed = []
            for (owner, name), (buffer, version, values) in before.items():
                if owner._buffers.get(name) is not buffer or buffer._version != version:
                    changed.append((owner, name))
                    with torch.no_grad():
                        buffer.copy_(values)
                    owner._buffers[name] = buffer
            self._written = list({*changed, *(self._written or ())})


def describe_outputs(value: Any) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The structure of what ``forward`` returned, and its tensors by name.

    Dict keys and fields name themselves; a single tensor is "output", those of a tuple or list "output_0",
    "output_1" and so on, deeper ones "output_0.key".
    """
    if isinstance(value, tuple | list) and not hasattr(value, "_fields"):
        named = {f"output_{index}": item for index, item in enumerate(value)}
        spec, leaves = structure.describe(named, _is_tensor, "")
        kind = "list" if isinstance(value, list) else "tuple"
        return {"kind": kind, "items": spec["items"]}, leaves
    return structure.describe(value, _is_tensor, "output" if torch.is_tensor(value) else "")


def _is_tensor(value: Any) -> bool:
    if isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool):
        raise ModelImportError(
            "forward returns a number that depends on an input's size or values; an engine gives tensors. "
            "Return it as a tensor, or leave it out"
        )
    return torch.is_tensor(value)


def _apart_from(
    inputs: Sequence[str], spec: dict[str, Any], outputs: dict[str, torch.Tensor]
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Outputs called like an input become "output_" and that name: in a graph, a name is one value's.

    The structure's keys stay, so that the caller finds each under the name the model gives it.
    """
    names = {name: name for name in outputs}
    for name in outputs:
        while names[name] in inputs or (names[name] != name and names[name] in outputs):
            names[name] = f"output_{names[name]}"
    return _renamed(spec, names), {names[name]: tensor for name, tensor in outputs.items()}


def _renamed(spec: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    if spec["kind"] == "tensor":
        return {**spec, "name": names[spec["name"]]}
    return {**spec, "items": [_renamed(item, names) for item in spec["items"]]} if "items" in spec else spec
