"""The ``add_*`` and marks that trine refuses, each with its reason, logged as TensorRT logs what it cannot do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trine.compat.tensorrt.eras import Checked
from trine.errors import UnsupportedError

if TYPE_CHECKING:
    from trine.compat.tensorrt.logger import Reporter
    from trine.compat.tensorrt.tensor import ITensor

__all__ = ["RefusedMethods"]

_NO_PLUGINS = (
    "trine runs no TensorRT plugins, which are compiled for one GPU; write the operator with the network's layers, or "
    "as an ONNX function"
)
_NO_DEBUG = "trine's engines show no inner tensors; mark the tensor as an output instead"


class RefusedMethods(Checked):
    """See ``INetworkDefinition``, which has these."""

    _reporter: Reporter

    def _refuse(self, method: str, why: str) -> None:
        self._reporter.failed(f"INetworkDefinition::{method}", UnsupportedError(why))

    def add_plugin(self, *args: Any, **kwargs: Any) -> None:
        """Refused: plugins are CUDA programs."""
        self._refuse("add_plugin", _NO_PLUGINS)

    def add_plugin_v2(self, inputs: Any, plugin: Any) -> None:
        """Refused: plugins are CUDA programs."""
        self._refuse("add_plugin_v2", _NO_PLUGINS)

    def add_plugin_v3(self, inputs: Any, shape_inputs: Any, plugin: Any) -> None:
        """Refused: plugins are CUDA programs."""
        self._refuse("add_plugin_v3", _NO_PLUGINS)

    def add_dist_collective(self, *args: Any, **kwargs: Any) -> None:
        """Refused: one process computes everything."""
        self._refuse("add_dist_collective", "trine computes in one process on one device")

    def add_moe(self, *args: Any, **kwargs: Any) -> None:
        """Refused: there is no such layer."""
        self._refuse("add_moe", "trine has no mixture-of-experts layer; write it with gather and matrix products")

    def add_kv_cache_update(self, *args: Any, **kwargs: Any) -> None:
        """Refused: engines keep no state."""
        self._refuse("add_kv_cache_update", "trine's engines keep no state; give the cache as an input and an output")

    def add_rotary_embedding(self, *args: Any, **kwargs: Any) -> None:
        """Refused: there is no such layer."""
        self._refuse("add_rotary_embedding", "write it with slices, products and a concatenation")

    def add_assertion(self, condition: Any, message: str) -> None:
        """Refused: an engine cannot stop half-way."""
        self._refuse("add_assertion", "trine's engines cannot stop half-way; check the condition outside")

    def mark_debug(self, tensor: ITensor) -> bool:
        """Refused: engines show no inner tensors."""
        self._refuse("markDebug", f"tensor {tensor.name!r}: {_NO_DEBUG}")
        return False

    def unmark_debug(self, tensor: ITensor) -> bool:
        """True: it is not marked."""
        return True

    def is_debug_tensor(self, tensor: ITensor) -> bool:
        """Always False, see ``mark_debug``."""
        return False

    def mark_unfused_tensors_as_debug_tensors(self) -> bool:
        """Refused: engines show no inner tensors."""
        self._refuse("markUnfusedTensorsAsDebugTensors", _NO_DEBUG)
        return False

    def unmark_unfused_tensors_as_debug_tensors(self) -> bool:
        """True: none is marked."""
        return True

    def mark_weights_refittable(self, name: str) -> bool:
        """True: with REFIT every named weight is."""
        return True

    def unmark_weights_refittable(self, name: str) -> bool:
        """True, without effect: with REFIT every named weight is refittable."""
        return True

    def are_weights_marked_refittable(self, name: str) -> bool:
        """True: with REFIT every named weight is."""
        return True
