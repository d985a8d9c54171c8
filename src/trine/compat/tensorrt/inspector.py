"""EngineInspector: what an engine is made of, as text or JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from trine.compat.tensorrt import options
from trine.compat.tensorrt.eras import Checked

if TYPE_CHECKING:
    from trine.compat.tensorrt.engine import ICudaEngine

__all__ = ["EngineInspector"]


class EngineInspector(Checked):
    """Tells about an engine's layers, as much as its ``profiling_verbosity`` allows.

    Layers are the nodes of the optimised graph, which the backend fuses further.
    """

    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine
        self._reporter = engine._reporter

    execution_context: Any = options.kept(
        "execution_context", None, "The context whose shapes are shown; None for the engine's own."
    )
    error_recorder = options.error_recorder

    def get_layer_information(self, layer_index: int, format: Any) -> str:  # noqa: A002  # TensorRT's name
        """One layer: its name, or in DETAILED engines all that is known, in ``format``. "" where there is none."""
        layers = self._engine._inspection()["layers"]
        if not 0 <= layer_index < len(layers):
            self._reporter.error(
                "EngineInspector::getLayerInformation", f"layer {layer_index}: the engine has {len(layers)}"
            )
            return ""
        return self._show(self._describe(layers[layer_index]), format)

    def get_engine_information(self, format: Any) -> str:  # noqa: A002
        """All layers and the inputs and outputs, in ``format``."""
        engine = self._engine
        layers = [self._describe(layer) for layer in engine._inspection()["layers"]]
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        if format.name == "JSON":
            return json.dumps({"Layers": layers, "Bindings": names}, indent=2)
        lines = [self._show(layer, format).rstrip("\n") for layer in layers]
        return "\n".join(["Layers:", *lines, "", "Bindings:", *names]) + "\n"

    def _describe(self, layer: dict[str, Any]) -> Any:
        verbosity = self._engine._info.verbosity
        if verbosity == "NONE":
            return ""
        if verbosity not in ("DETAILED", "VERBOSE"):
            return layer["name"]
        return {
            "Name": layer["name"],
            "LayerType": layer["op"],
            "Inputs": [_tensor(tensor) for tensor in layer["inputs"] if tensor["kind"] != "weight"],
            "Outputs": [_tensor(tensor) for tensor in layer["outputs"]],
            "ParameterType": layer["op"],
            "Parameters": dict(layer["attributes"]),
            "WeightCount": layer["parameters"],
            "WeightBytes": layer["weight_bytes"],
            "MultiplyAccumulates": layer["macs"],
            "TacticName": self._engine._engine.tactic,
            "StreamId": 0,
            "Metadata": "",
        }

    @staticmethod
    def _show(described: Any, format: Any) -> str:  # noqa: A002
        if format.name == "JSON":
            return json.dumps(described, indent=2)
        if isinstance(described, str):
            return described + "\n"
        return ", ".join(f"{key}: {value}" for key, value in described.items()) + "\n"


def _tensor(tensor: dict[str, Any]) -> dict[str, Any]:
    shape = tensor["shape"] or []
    return {
        "Name": tensor["name"],
        "Dimensions": [dim if isinstance(dim, int) else -1 for dim in shape],
        "Format/Datatype": f"Row-major linear {tensor['dtype'] or 'unknown'}",
        "Location": "Host",
    }
