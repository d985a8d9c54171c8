"""One call of a module, seen as named tensors: what its inputs are called, and a flat wrapper to export."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from trine import structure
from trine.errors import ModelImportError
from trine.importers.eager import describe_outputs

__all__ = ["FlatModule", "bind_call", "check_module"]

_FORMS = {
    inspect.Parameter.POSITIONAL_ONLY: "positional_only",
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "positional",
    inspect.Parameter.KEYWORD_ONLY: "keyword",
    inspect.Parameter.VAR_POSITIONAL: "star",
    inspect.Parameter.VAR_KEYWORD: "double_star",
}


def check_module(module: Any) -> torch.device:
    """The device of ``module``'s weights. Raises ModelImportError for what cannot be imported at all."""
    if isinstance(module, torch.jit.ScriptModule | torch.jit.ScriptFunction):
        raise ModelImportError(
            f"{type(module).__name__} is TorchScript, which PyTorch cannot export any more; "
            "pass the torch.nn.Module that it was made from"
        )
    if isinstance(module, type) and issubclass(module, torch.nn.Module):
        raise ModelImportError(f"{module.__name__} is a class; pass an instance, {module.__name__}(...)")
    if not isinstance(module, torch.nn.Module):
        what = f"the function {module.__qualname__}" if inspect.isroutine(module) else type(module).__name__
        if isinstance(module, torch.export.ExportedProgram):
            advice = "pass its .module()"
        elif hasattr(module, "SerializeToString"):
            advice = "an ONNX model goes in as its path or its bytes: model.SerializeToString()"
        elif isinstance(module, Mapping):
            advice = "weights alone are no model; load them with load_state_dict into the module that they are of"
        else:
            advice = "wrap it in a module whose forward calls it"
        raise ModelImportError(f"expected a torch.nn.Module, got {what}; {advice}")
    tensors = dict([*module.named_parameters(), *module.named_buffers()])
    uninitialised = [n for n, t in tensors.items() if torch.nn.parameter.is_lazy(t)]
    if uninitialised:
        raise ModelImportError(
            f"parameter {uninitialised[0]!r} of a lazy module has no shape yet; call the module once first"
        )
    devices: dict[torch.device, str] = {}
    for name, tensor in tensors.items():
        devices.setdefault(tensor.device, name)
    for device, name in devices.items():
        if device.type == "meta":
            raise ModelImportError(f"weight {name!r} is on the meta device and has no values; load the weights first")
    if len(devices) > 1:
        listed = ", ".join(f"{name!r} on {device}" for device, name in devices.items())
        raise ModelImportError(f"weights are on several devices ({listed}); move the module to one, .cpu()")
    return next(iter(devices), torch.device("cpu"))


def bind_call(
    module: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The "call" spec of ``module(*args, **kwargs)`` and its tensors by input name.

    Names are those of forward's parameters; nested ones get their path, "x.0" or "x.key". NumPy arrays count
    as tensors. Raises ModelImportError when the arguments do not fit forward, or hold no tensor at all.
    """
    signature = inspect.signature(module.forward)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as err:
        raise ModelImportError(
            f"the example inputs do not fit {type(module).__name__}.forward{signature}: {err}; "
            "give one example for each of its parameters that has no default"
        ) from err
    parameters = []
    leaves: dict[str, torch.Tensor] = {}
    skipped = False  # a parameter left at its default: those after it cannot be passed by position
    for name, parameter in signature.parameters.items():
        if name not in bound.arguments:
            skipped = skipped or parameter.kind is not inspect.Parameter.KEYWORD_ONLY
            continue
        value, form = bound.arguments[name], _FORMS[parameter.kind]
        form = "keyword" if skipped and form == "positional" else form
        spec, found = structure.describe(value, _is_tensor, "" if form == "double_star" else name)
        for leaf, tensor in found.items():
            if leaf in leaves:
                raise ModelImportError(f"two inputs would both be called {leaf!r}; rename a key or parameter")
            leaves[leaf] = _as_tensor(leaf, tensor)
        parameters.append({"name": name, "form": form, "value": spec})
    if not leaves:
        raise ModelImportError(
            f"the example inputs of {type(module).__name__} hold no tensor; "
            "give at least one, of the shape and dtype that the engine will take"
        )
    return {"kind": "call", "parameters": parameters}, leaves


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor | np.ndarray)


def _as_tensor(name: str, value: Any) -> torch.Tensor:
    tensor = torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray) else value.detach()
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex():
        raise ModelImportError(
            f"input {name!r} is a {tensor.dtype} tensor of layout {tensor.layout}; engines take dense real "
            "tensors. Convert it inside forward"
        )
    return tensor


class FlatModule(torch.nn.Module):
    """``module`` taking its tensors in a row and giving them in a row, for the exporter.

    Every output is cloned: an output may be an input, a weight, a view of another output or that output
    again, and each must become a value of its own in the graph. Passes remove the copies.
    """

    def __init__(self, module: torch.nn.Module, call: dict[str, Any]) -> None:
        super().__init__()
        self.module = module
        self.call = call
        self.training = False
        self.output_names: tuple[str, ...] = ()

    def forward(self, *leaves: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The outputs' tensors, in the order of ``output_names``."""
        named = dict(zip(structure.leaf_names(self.call), leaves, strict=True))
        args, kwargs = structure.rebuild_call(self.call, named)
        _, outputs = describe_outputs(self.module(*args, **kwargs))
        self.output_names = tuple(outputs)
        return tuple(tensor.clone() for tensor in outputs.values())
