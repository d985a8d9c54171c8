"""Refitter and OnnxParserRefitter: other weights for an engine that was built with REFIT.

Passes fold weights into one another, so an engine's own are not those of the network. An engine built with REFIT
carries the ONNX model that it was built from; refitting builds it again with the new weights, for the same profiles,
and is verified as any build is. It needs the package onnx, and takes as long as a build.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trine.compat.tensorrt import options
from trine.compat.tensorrt.enums import DataType, current
from trine.compat.tensorrt.eras import Checked
from trine.compat.tensorrt.foundation import Weights, from_trine
from trine.compat.tensorrt.logger import Reporter
from trine.compat.tensorrt.parser_error import ParserError
from trine.dtypes import DataType as TrineType
from trine.errors import ConfigError, TrineError, UnsupportedError

if TYPE_CHECKING:
    from trine.compat.tensorrt.engine import ICudaEngine

__all__ = ["SOURCE_PLAN", "OnnxParserRefitter", "Refitter"]

SOURCE_PLAN = "source"  # the section of an engine file that holds the model it was built from
_ROLES = {"KERNEL": 1, "BIAS": 2, "SCALE": 1, "SHIFT": 2}  # which of a node's inputs holds the weights


class Refitter(Checked):
    """Gives an engine other weights, by the layers' or by the weights' names."""

    def __init__(self, engine: ICudaEngine, logger: Any) -> None:
        self._engine = engine
        self._reporter = Reporter(logger)
        self._new: dict[str, np.ndarray] = {}
        self._max_threads = 0
        self._model = self._read()

    def _read(self) -> Any:
        """The model that the engine was built from. Raises UnsupportedError for an engine without it."""
        import onnx

        data = self._engine._engine.plans.get(SOURCE_PLAN)
        if data is None:
            raise UnsupportedError(
                f"engine {self._engine.name!r} cannot be refitted: build it with config.set_flag(BuilderFlag.REFIT)"
            )
        return onnx.load_from_string(bytes(data))

    @property
    def _weights(self) -> dict[str, Any]:
        return {tensor.name: tensor for tensor in self._model.graph.initializer}

    def _name_of(self, layer_name: str, role: Any) -> str | None:
        """The name of the weights that a layer has in a role; None where it has none."""
        known = self._weights
        if role.name == "CONSTANT":
            return next((name for name in known if self._constant_layer(name) == layer_name), None)
        for node in self._model.graph.node:
            if node.name != layer_name and not node.name.startswith(f"{layer_name}/"):
                continue
            at = _ROLES.get(role.name, 0)
            if at < len(node.input) and node.input[at] in known:
                return str(node.input[at])
        return None

    def _constant_layer(self, weights_name: str) -> str | None:
        """The constant layer that has these weights; None where they are another layer's, or a parsed model's."""
        layer, made, _ = weights_name.rpartition("/weights_")
        return layer if made and all(node.name != layer for node in self._model.graph.node) else None

    def set_weights(self, layer_name: str, role: Any, weights: Any) -> bool:
        """Give a layer's kernel, bias, scale or shift. False where there is none, or of another size."""
        name = self._name_of(layer_name, role)
        if name is None:
            self._reporter.error("IRefitter::setWeights", f"layer {layer_name!r} has no weights of role {role.name}")
            return False
        return self.set_named_weights(name, weights)

    def set_named_weights(self, name: str, weights: Any, location: Any = None) -> bool:
        """Give weights by their name in the model. False for another name, size or type."""
        where = "IRefitter::setNamedWeights"
        tensor = self._weights.get(name)
        if tensor is None:
            self._reporter.error(where, f"{name!r}: the engine has {sorted(self._weights)}")
            return False
        given = weights if isinstance(weights, Weights) else Weights(np.ascontiguousarray(weights))
        wanted = TrineType.from_onnx(tensor.data_type)
        count = int(np.prod(tuple(tensor.dims), dtype=np.int64))
        if given.size != count or given.dtype is not from_trine(wanted):
            self._reporter.error(
                where,
                f"{name!r}: expected {count} of {from_trine(wanted).name}, got {given.size} of {given.dtype.name}",
            )
            return False
        self._new[name] = given.numpy().copy()
        return True

    def unset_named_weights(self, weights_name: str) -> bool:
        """Take back ``set_named_weights``. False where it was not called."""
        return self._new.pop(weights_name, None) is not None

    def get_named_weights(self, weights_name: str) -> Weights:
        """The weights that were given, or none."""
        found = self._new.get(weights_name)
        return Weights() if found is None else Weights(found)

    def get_weights_location(self, weights_name: str) -> Any:
        """HOST: weights are in the host's memory."""
        return current("TensorLocation").HOST

    def get_weights_prototype(self, weights_name: str) -> Weights:
        """Weights without values, of the type that the name wants."""
        tensor = self._weights.get(weights_name)
        return Weights(DataType.FLOAT if tensor is None else from_trine(TrineType.from_onnx(tensor.data_type)))

    def get_all_weights(self) -> list[str]:
        """The names of all weights that can be given."""
        return sorted(self._weights)

    def get_missing_weights(self) -> list[str]:
        """An empty list: weights that are not given stay as they are."""
        return []

    def get_all(self) -> tuple[list[str], list[Any]]:
        """Layers and the roles of their weights, pair by pair."""
        known, roles = self._weights, current("WeightsRole")
        names, found = [], []
        nodes = {node.name for node in self._model.graph.node}
        for node in self._model.graph.node:
            for role, at in (("KERNEL", 1), ("BIAS", 2)):
                if at < len(node.input) and node.input[at] in known and not self._constant_layer(node.input[at]):
                    layer = node.name.rpartition("/")[0]  # a layer's nodes are called after its last
                    names.append(layer if layer in nodes else node.name)
                    found.append(roles[role])
        constants = [layer for layer in dict.fromkeys(map(self._constant_layer, known)) if layer is not None]
        return names + constants, found + [roles["CONSTANT"]] * len(constants)

    def get_missing(self) -> tuple[list[str], list[Any]]:
        """Empty lists: weights that are not given stay as they are."""
        return [], []

    def refit_cuda_engine(self) -> bool:
        """Build the engine again with the weights that were given. False where that fails; it then stays as it was."""
        import onnx

        for tensor in self._model.graph.initializer:
            if tensor.name in self._new:
                array = self._new[tensor.name].reshape(tuple(tensor.dims))
                tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
        try:
            self._engine._rebuild(self._model.SerializeToString(), self._max_threads)
        except TrineError as err:
            self._reporter.failed("IRefitter::refitCudaEngine", err)
            return False
        self._new.clear()
        return True

    def refit_cuda_engine_async(self, stream_handle: int) -> bool:
        """The same; done when it returns."""
        return self.refit_cuda_engine()

    # INT8 ranges: engines have none.

    def get_dynamic_range(self, tensor_name: str) -> tuple[float, float]:
        """(0, 0): no tensor has a range."""
        return 0.0, 0.0

    def set_dynamic_range(self, tensor_name: str, range: Any) -> bool:  # noqa: A002  # TensorRT's name
        """False: no tensor has a range."""
        self._reporter.error("IRefitter::setDynamicRange", f"{tensor_name!r}: the engine has no INT8 ranges")
        return False

    def get_tensors_with_dynamic_range(self) -> list[str]:
        """An empty list: no tensor has a range."""
        return []

    weights_validation = options.kept("weights_validation", True, "Kept and shown: weights are always checked.")
    max_threads = options.threads(
        "IRefitter", "How many threads the refitted engine uses; 0 for as many as the process may run on."
    )
    logger = options.logger
    error_recorder = options.error_recorder


class OnnxParserRefitter(Checked):
    """Gives a refitter the weights of another ONNX model of the same graph."""

    def __init__(self, refitter: Refitter, logger: Any) -> None:
        self._refitter = refitter
        self._reporter = Reporter(logger)
        self._errors: list[Any] = []
        self._loaded: bytes | None = None

    def refit_from_bytes(self, model: Any, path: str | None = None) -> bool:
        """Take the weights of a model's bytes. False where it is none, or its weights are others."""
        from trine.importers.onnx_proto import parse

        try:
            read = parse(bytes(model), "the ONNX model")
            self._take(read)
        except TrineError as err:
            self._errors.append(ParserError("REFIT_FAILED", str(err)))
            self._reporter.failed("OnnxParserRefitter::refitFromBytes", err)
            return False
        return True

    def _take(self, model: Any) -> None:
        import onnx

        given = {tensor.name: tensor for tensor in model.graph.initializer}
        for name in self._refitter.get_all_weights():
            if name not in given:
                raise ConfigError(f"the model has no weights {name!r}")
            if not self._refitter.set_named_weights(name, onnx.numpy_helper.to_array(given[name])):
                raise ConfigError(f"weights {name!r} are of another size or type")

    def refit_from_file(self, model: str) -> bool:
        """Take the weights of a model's file."""
        path = Path(model).expanduser()
        if not path.is_file():
            self._reporter.error("OnnxParserRefitter::refitFromFile", f"{path}: no such file")
            return False
        return self.refit_from_bytes(path.read_bytes(), str(path))

    def load_model_proto(self, model: Any, path: str | None = None) -> bool:
        """Take a model's bytes, for ``refit_model_proto``."""
        self._loaded = bytes(model)
        return True

    def refit_model_proto(self) -> bool:
        """Take the weights of what was loaded."""
        return self._loaded is not None and self.refit_from_bytes(self._loaded)

    def load_initializer(self, name: str, data: int, size: int) -> bool:
        """Refused: give the weights to the refitter by ``set_named_weights``."""
        self._reporter.error("OnnxParserRefitter::loadInitializer", f"{name!r}: use Refitter.set_named_weights")
        return False

    @property
    def num_errors(self) -> int:
        """How many errors there are."""
        return len(self._errors)

    def get_error(self, index: int) -> Any:
        """Error ``index``; None where there is none."""
        return self._errors[index] if 0 <= index < len(self._errors) else None

    def clear_errors(self) -> None:
        """Forget all errors."""
        self._errors.clear()
