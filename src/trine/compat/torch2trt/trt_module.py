"""TRTModule: a built engine as an nn.Module, saved and loaded as a state_dict."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import torch

from trine.compat.torch2trt.flattener import Flattener
from trine.engine.engine import Engine
from trine.errors import ConfigError, EngineFormatError, InputError, UnsupportedError
from trine.runtime.runtime import load

__all__ = ["TRTModule"]


class TRTModule(torch.nn.Module):
    """An engine that is called like the module it was made from.

    ``state_dict()`` holds the engine's bytes as a uint8 tensor and the names as text, which ``torch.load`` reads under
    its safe default; ``load_state_dict`` on an empty TRTModule brings it back. Calls take tensors in host memory, and
    their results have no gradients. One thread at a time; more of them make a TRTModule each over the same ``engine``.
    """

    def __init__(
        self,
        engine: Any = None,
        input_names: Sequence[str] | None = None,
        output_names: Sequence[str] | None = None,
        input_flattener: Flattener | None = None,
        output_flattener: Flattener | None = None,
    ) -> None:
        """``engine``: a trine.Engine; the path or the bytes of an engine file; one of trine.compat.tensorrt; or None,
        to be loaded. Without names, those of the engine in its order. Raises ConfigError for names that it lacks.
        """
        super().__init__()
        self.engine: Engine | None = None
        self.context: Any = None
        self.network: Any = None
        self.input_names: list[str] | None = None
        self.output_names: list[str] | None = None
        self.input_flattener = input_flattener
        self.output_flattener = output_flattener
        if engine is not None:
            self._take(_as_engine(engine), input_names, output_names)
        elif input_names is not None or output_names is not None:
            raise ConfigError("input_names and output_names name an engine's tensors; give the engine too")

    def _take(self, engine: Engine, input_names: Sequence[str] | None, output_names: Sequence[str] | None) -> None:
        """Runs ``engine`` from now on, with its tensors in the order of these names."""
        self.input_names = _checked_names("input_names", input_names, [info.name for info in engine.inputs])
        self.output_names = _checked_names("output_names", output_names, [info.name for info in engine.outputs])
        self.engine = engine
        self.context = engine.create_execution_context()

    def forward(self, *inputs: Any) -> Any:
        """The engine's answer, in the structure of the module's.

        Raises InputError where the arguments do not fit: structure, number, dtype, shape or device.
        """
        if self.context is None or self.input_names is None or self.output_names is None:
            raise InputError("this TRTModule is empty; load_state_dict first, or make one with torch2trt")
        tensors = list(inputs)
        if self.input_flattener is not None:
            tensors = self.input_flattener.flatten(tuple(inputs), "inputs")
        if len(tensors) != len(self.input_names):
            raise InputError(f"expected {len(self.input_names)} inputs {self.input_names}, got {len(tensors)}")
        answers = self.context.execute(dict(zip(self.input_names, tensors, strict=True)))
        outputs = [answers[name] for name in self.output_names]
        if self.output_flattener is not None:
            return self.output_flattener.unflatten(outputs)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.engine is None:
            return
        written = np.frombuffer(self.engine.serialize(), np.uint8).copy()  # PyTorch wants memory it may write to
        destination[prefix + "engine"] = torch.from_numpy(written)
        destination[prefix + "input_names"] = self.input_names
        destination[prefix + "output_names"] = self.output_names
        for name in ("input_flattener", "output_flattener"):
            flattener = getattr(self, name)
            destination[prefix + name] = None if flattener is None else flattener.to_json()

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        missing = [prefix + key for key in ("engine", "input_names", "output_names") if prefix + key not in state_dict]
        if missing:
            missing_keys.extend(missing)
            return
        try:
            engine = load(_engine_bytes(state_dict[prefix + "engine"]))
            flatteners = {}
            for name in ("input_flattener", "output_flattener"):
                saved = state_dict.get(prefix + name)
                flatteners[name] = None if saved is None else Flattener.from_json(saved)
            self._take(engine, state_dict[prefix + "input_names"], state_dict[prefix + "output_names"])
        except (EngineFormatError, ConfigError) as err:
            error_msgs.append(f"{prefix or 'TRTModule: '}{err}")
            return
        self.input_flattener = flatteners["input_flattener"]
        self.output_flattener = flatteners["output_flattener"]

    def enable_profiling(self) -> NoReturn:
        """Refused: the CPU's backends run the graph as a whole. ``trine bench`` times it."""
        raise UnsupportedError(
            "TRTModule.enable_profiling: there are no times of single layers on the CPU; time the whole engine with "
            "`trine bench`"
        )

    def extra_repr(self) -> str:
        """The engine, for ``print(module)``."""
        return "empty" if self.engine is None else repr(self.engine)


def _as_engine(engine: Any) -> Engine:
    """What ``engine=`` was given, as an engine."""
    if isinstance(engine, Engine):
        return engine
    if isinstance(engine, str | os.PathLike):
        return load(os.fspath(engine))
    if isinstance(engine, bytes | bytearray | memoryview | torch.Tensor):
        return load(_engine_bytes(engine))
    serialize = getattr(engine, "serialize", None)
    if callable(serialize):
        return load(bytes(serialize()))
    raise ConfigError(
        f"TRTModule: expected an engine, the path of an engine file or its bytes, got {type(engine).__name__}"
    )


def _engine_bytes(saved: Any) -> bytes:
    """The engine's bytes out of a state_dict: a uint8 tensor, or bytes as torch2trt itself saves."""
    if isinstance(saved, torch.Tensor):
        if saved.dtype is not torch.uint8 or saved.ndim != 1:
            raise EngineFormatError(
                f"expected a row of uint8, got {saved.dtype} {list(saved.shape)}; is this a TRTModule's state_dict?",
                "engine",
            )
        return saved.cpu().numpy().tobytes()
    if isinstance(saved, bytes | bytearray | memoryview):
        return bytes(saved)
    raise EngineFormatError(f"expected a uint8 tensor, got {type(saved).__name__}", "engine")


def _checked_names(what: str, names: Any, known: list[str]) -> list[str]:
    """``names`` as a list, each of ``known`` once; ``known`` itself for None."""
    if names is None:
        return known
    found = list(names) if not isinstance(names, str) else [names]
    if sorted(map(str, found)) != sorted(known):
        raise ConfigError(f"{what}: expected each of {known} once, got {found}")
    return [str(name) for name in found]
