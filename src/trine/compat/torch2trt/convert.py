"""torch2trt: an nn.Module and example inputs in, a TRTModule out, through trine's own importer and builder."""

from __future__ import annotations

import contextlib
import difflib
import inspect
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import torch

import trine
from trine.compat.torch2trt.dataset import Dataset
from trine.compat.torch2trt.flattener import Flattener
from trine.compat.torch2trt.int8 import build_int8
from trine.compat.torch2trt.registry import registered
from trine.compat.torch2trt.trt_module import TRTModule
from trine.engine.engine import Engine
from trine.errors import ConfigError, UnsupportedError
from trine.importers.eager import eval_mode
from trine.importers.torch_call import check_module
from trine.profile import ShapeRange

__all__ = ["torch2trt"]

log = logging.getLogger("trine")


def torch2trt(
    module: torch.nn.Module,
    inputs: Any,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    log_level: Any = None,
    fp16_mode: bool = False,
    max_workspace_size: int = 1 << 25,
    strict_type_constraints: bool = False,
    keep_network: bool = True,
    int8_mode: bool = False,
    int8_calib_dataset: Any = None,
    int8_calib_algorithm: Any = None,
    use_onnx: bool = False,
    default_device_type: Any = None,
    dla_core: int = 0,
    gpu_fallback: bool = True,
    device_types: Any = None,
    min_shapes: Any = None,
    max_shapes: Any = None,
    opt_shapes: Any = None,
    onnx_opset: int | None = None,
    max_batch_size: int | None = None,
    avg_timing_iterations: int | None = None,
    **kwargs: Any,
) -> TRTModule:
    """A TRTModule that answers as ``module`` does.

    Args:
        module: in eval mode or not, it is converted as in eval mode, and comes back as it was.
        inputs: a list or tuple of positional arguments, nested as the module takes them; or a Dataset of such.
        input_names, output_names: default to input_0, ... and output_0, ...
        fp16_mode: compute in fp16 where this CPU can; where not, in fp32 with a logged warning, or, with
            ``strict_type_constraints``, an error.
        max_batch_size: the first dimension of every input may be 1 to this. Without it, and without the shapes below,
            the shapes are fixed to the example's, or range over those of the dataset.
        min_shapes, opt_shapes, max_shapes: a shape for each input, in the structure of ``inputs``.
        log_level: how much trine logs meanwhile, one of trt.Logger's severities; None: as it is set.
        int8_mode: products in integers, their ranges measured on ``int8_calib_dataset`` (the example inputs, if none is
            given) as ``int8_calib_algorithm`` says, a trt.CalibrationAlgoType. It comes before ``fp16_mode``.
        use_onnx: no effect: every conversion goes through ONNX, converters included. Nor have, on the CPU,
            max_workspace_size, keep_network, onnx_opset, avg_timing_iterations and the options of the DLA.
        kwargs: anything else; converters find it in ``ctx.torch2trt_kwargs``.

    Raises:
        UnsupportedError: qat_mode, or the module uses what nothing here can import or run; all of it is listed.
        ModelImportError, AccuracyError: the module cannot be traced, or a converter writes something else.
        ConfigError: names or shapes do not fit the inputs, or an option is misspelt.
    """
    options = {name: value for name, value in locals().items() if name != "kwargs"} | kwargs
    _check_options(kwargs)
    check_module(module)
    module = getattr(module, "_orig_mod", module)  # what torch.compile wrapped
    dataset = inputs if isinstance(inputs, Dataset) else None
    example = tuple(inputs[0] if dataset is not None else inputs)

    takes = Flattener.from_value(example)
    tensors = takes.flatten(example, "inputs")
    with eval_mode(module), torch.no_grad():
        copies = [tensor.detach().clone() for tensor in tensors]  # forward may write into its inputs
        gives = Flattener.from_value(module(*takes.unflatten(copies)))
    input_names = _names("input", input_names, len(takes))
    output_names = _names("output", output_names, len(gives))
    shapes = _shapes(takes, tensors, dataset, (min_shapes, opt_shapes, max_shapes), max_batch_size)

    named = _named(module, takes, input_names, output_names)
    with registered(options), _logging(log_level):
        named_tensors = dict(zip(input_names, tensors, strict=True))
        named_shapes = dict(zip(input_names, shapes, strict=True))
        if int8_mode:
            engine = build_int8(
                named,
                named_tensors,
                named_shapes,
                takes=takes,
                dataset=int8_calib_dataset if int8_calib_dataset is not None else dataset or [example],
                algorithm=int8_calib_algorithm,
            )
        else:
            engine = _build(named, named_tensors, named_shapes, fp16_mode=fp16_mode, strict=strict_type_constraints)
    return TRTModule(engine, input_names, output_names, takes, gives)


def _build(
    named: torch.nn.Module,
    example: dict[str, torch.Tensor],
    shapes: dict[str, ShapeRange],
    *,
    fp16_mode: bool,
    strict: bool,
) -> Engine:
    if fp16_mode:
        try:
            return trine.build(named, example, shapes=shapes, precision="fp16")
        except ConfigError as err:
            if strict or "cannot be had on this machine" not in str(err):
                raise
            log.warning("fp16_mode: building in fp32 instead: %s", err)
    return trine.build(named, example, shapes=shapes)


def _check_options(kwargs: dict[str, Any]) -> None:
    """Raises UnsupportedError for qat_mode, ConfigError for what looks like a misspelt option."""
    if kwargs.get("qat_mode"):
        raise UnsupportedError(
            "torch2trt(qat_mode=True): fake quantisation in the module is not read; use int8_mode with a calibration "
            "dataset, or export the module to ONNX with its quantise layers"
        )
    known = [name for name in inspect.signature(torch2trt).parameters if name != "kwargs"]
    for name in kwargs:
        near = difflib.get_close_matches(name, known, 1, cutoff=0.8)
        if near and not name.startswith("int8_calib_"):
            raise ConfigError(f"torch2trt: unknown option {name!r}; did you mean {near[0]!r}?")


def _names(kind: str, names: Sequence[str] | None, count: int) -> list[str]:
    if names is None:
        return [f"{kind}_{index}" for index in range(count)]
    found = [names] if isinstance(names, str) else [str(name) for name in names]
    if len(found) != count or len(set(found)) != count:
        raise ConfigError(f"{kind}_names: expected {count} different names, got {found}")
    return found


def _shapes(
    takes: Flattener,
    tensors: Sequence[torch.Tensor],
    dataset: Dataset | None,
    given: tuple[Any, Any, Any],
    max_batch_size: int | None,
) -> list[ShapeRange]:
    """The smallest, the tuned and the largest shape of each input."""
    here = [tuple(tensor.shape) for tensor in tensors]
    if dataset is None:
        found = [here, here, here]
    else:
        parts = (dataset.min_shapes, dataset.median_numel_shapes, dataset.max_shapes)
        found = [[tuple(shape) for shape in part(flat=True)] for part in parts]
    for index, (name, asked) in enumerate(zip(("min_shapes", "opt_shapes", "max_shapes"), given, strict=True)):
        if asked is not None:
            found[index] = _flat_shapes(name, asked, len(takes))
    if max_batch_size is not None:
        found[0] = [(1, *shape[1:]) if shape else shape for shape in found[0]]
        found[2] = [(max_batch_size, *shape[1:]) if shape else shape for shape in found[2]]
    return [ShapeRange(*triple) for triple in zip(*found, strict=True)]


def _flat_shapes(name: str, asked: Any, count: int) -> list[tuple[int, ...]]:
    """One shape after the other from a nest of lists, tuples and dicts; a shape is what holds numbers."""
    found: list[tuple[int, ...]] = []

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            value = [value[key] for key in sorted(value, key=str)]
        if all(isinstance(item, int) for item in value):
            found.append(tuple(value))
        else:
            for item in value:
                walk(item)

    if len(asked):
        walk(asked)
    if len(found) != count:
        raise ConfigError(f"{name}: expected {count} shapes, one for each input, got {len(found)}: {asked}")
    return found


class _Named(torch.nn.Module):
    """A module that takes its tensors by the names asked for, and gives a dict of named ones."""

    def __init__(
        self, module: torch.nn.Module, takes: Flattener, input_names: Sequence[str], output_names: Sequence[str]
    ) -> None:
        super().__init__()
        self.module = module
        self.takes = takes
        self.input_names = tuple(input_names)
        self.output_names = tuple(output_names)

    def forward(self, **tensors: torch.Tensor) -> dict[str, torch.Tensor]:
        args = self.takes.unflatten([tensors[name] for name in self.input_names])
        result = self.module(*args)
        return dict(zip(self.output_names, Flattener.from_value(result).flatten(result), strict=True))


def _named(
    module: torch.nn.Module, takes: Flattener, input_names: Sequence[str], output_names: Sequence[str]
) -> torch.nn.Module:
    """``module`` in a ``_Named`` that calls itself what the module is called: errors and engines show it."""
    kind = type(module)
    shown = type(kind.__name__, (_Named,), {"__module__": kind.__module__, "__qualname__": kind.__qualname__})
    made: torch.nn.Module = shown(module, takes, input_names, output_names)
    return made


# trt.Logger's severities, the worst first, as levels of Python's logging.
_LEVELS = (logging.CRITICAL, logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG)


@contextlib.contextmanager
def _logging(severity: Any) -> Iterator[None]:
    """While open, trine logs what is as bad as ``severity``, or worse; None changes nothing."""
    if severity is None:
        yield
        return
    if not 0 <= int(severity) < len(_LEVELS):
        raise ConfigError(f"log_level: expected a severity of trt.Logger, 0 to {len(_LEVELS) - 1}, got {severity!r}")
    was = log.level
    log.setLevel(_LEVELS[int(severity)])
    try:
        yield
    finally:
        log.setLevel(was)
