"""Names of TensorRT that trine refuses: classes that cannot be made, with the reason.

Algorithm selectors choose among NVIDIA's kernels, and plugins are CUDA programs. Programs may still ask for the names,
derive from some, or test ``isinstance``.
"""

from __future__ import annotations

from typing import Any

from trine.errors import UnsupportedError

__all__ = ["REFUSED_CLASSES", "refused_class"]

_PLUGIN = "trine runs no TensorRT plugins, which are CUDA programs; write the operator with the network's layers"
_ALGORITHM = "trine has no algorithm selectors: it chooses one tactic for the whole graph; see trine.build(tactics=…)"
_SEVERAL = "trine computes in one process on one device"
_EXPERT = "trine has no mixture-of-experts layer; write it with gather, matrix multiplication and scatter"
_STATEFUL = "trine's engines keep no state between calls; give the cache as an input and an output"
_RNN = "trine has no RNNv2 layer; write the recurrence with a loop, or import LSTM and GRU from ONNX"

REFUSED_CLASSES: dict[str, str] = {
    **dict.fromkeys(
        ["IAlgorithm", "IAlgorithmContext", "IAlgorithmIOInfo", "IAlgorithmSelector", "IAlgorithmVariant"], _ALGORITHM
    ),
    **dict.fromkeys(
        [
            "DimsExprs",
            "DynamicPluginTensorDesc",
            "IDimensionExpr",
            "IExprBuilder",
            "IPluginCapability",
            "IPluginCreator",
            "IPluginCreatorInterface",
            "IPluginCreatorV3One",
            "IPluginCreatorV3Quick",
            "IPluginResource",
            "IPluginResourceContext",
            "IPluginV2",
            "IPluginV2DynamicExt",
            "IPluginV2DynamicExtBase",
            "IPluginV2Ext",
            "IPluginV2Layer",
            "IPluginV3",
            "IPluginV3Layer",
            "IPluginV3OneBuild",
            "IPluginV3OneBuildV2",
            "IPluginV3OneCore",
            "IPluginV3OneRuntime",
            "IPluginV3QuickAOTBuild",
            "IPluginV3QuickBuild",
            "IPluginV3QuickCore",
            "IPluginV3QuickRuntime",
            "IPlugin",
            "IPluginExt",
            "IPluginLayer",
            "PluginTensorDesc",
            "ISymExpr",
            "ISymExprs",
            "KernelLaunchParams",
            "SymInt32",
            "SymIntExprs",
            "SymExprImpl",
            "InputTensorWrapper",
            "PluginArgDataType",
            "PluginArgType",
        ],
        _PLUGIN,
    ),
    **dict.fromkeys(["IDistCollectiveLayer", "CollectiveOperation"], _SEVERAL),
    **dict.fromkeys(["IMoELayer"], _EXPERT),
    **dict.fromkeys(["IKVCacheUpdateLayer", "IRotaryEmbeddingLayer"], _STATEFUL),
    **dict.fromkeys(["IRNNv2Layer"], _RNN),
    **dict.fromkeys(["TimingCacheKey", "TimingCacheValue"], "trine's timings are for whole graphs; see ITimingCache"),
}

_made: dict[str, type] = {}


def refused_class(name: str) -> type:
    """A class that says why it cannot be made; the same one each time. Raises KeyError for other names."""
    if name not in _made:
        reason = REFUSED_CLASSES[name]

        def refuse(self: Any, *args: Any, **kwargs: Any) -> None:
            raise UnsupportedError(f"tensorrt.{name}: {reason}")

        members = {"__init__": refuse, "__doc__": f"Cannot be made: {reason}.", "__module__": __package__}
        _made[name] = type(name, (), members)
    return _made[name]
