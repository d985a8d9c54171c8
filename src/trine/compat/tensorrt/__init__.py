"""TensorRT's Python API over trine: ``import trine.compat.tensorrt as trt``.

Programs written for TensorRT 5 to 11 run as they are, on a machine without a GPU: networks, parsers, builders,
engines and contexts are TensorRT's by name, and trine's by what they do. A plan is a trine engine file. Addresses are
of the host's memory.

Which version a program sees is the era's affair: see ``eras``, ``trine.compat.install_as`` and
``python -m trine.compat.run``. What works, what is accepted without effect and what is refused is listed in
docs/compat-tensorrt.md.

Names are loaded when first used: a process that only runs engines imports neither onnx nor torch.
"""

from __future__ import annotations

import importlib
from typing import Any

from trine.compat.tensorrt import enums, eras
from trine.compat.tensorrt.foundation import DTYPES
from trine.compat.tensorrt.refused import REFUSED_CLASSES, refused_class

_HOMES: dict[str, str] = {}
for _module, _names in {
    "builder": "Builder",
    "calibrators": "IInt8Calibrator IInt8EntropyCalibrator IInt8EntropyCalibrator2 IInt8LegacyCalibrator"
    " IInt8MinMaxCalibrator",
    "config": "IBuilderConfig",
    "context": "IExecutionContext",
    "dims": "Dims Dims2 Dims3 Dims4 DimsHW Permutation volume",
    "engine": "ICudaEngine",
    "enums": "DataType Severity",
    "flow": "IAttention IIfConditional ILoop",
    "foundation": "IHostMemory Weights nptype",
    "inspector": "EngineInspector",
    "interfaces": "FallbackString IDebugListener IErrorRecorder IGpuAllocator IGpuAsyncAllocator IOutputAllocator"
    " IProfiler IProgressMonitor IStreamReader IStreamReaderV2 IStreamWriter IVersionedInterface InterfaceInfo"
    " Profiler",
    "layer": "ILayer",
    "layers": "IActivationLayer IConcatenationLayer IConstantLayer IConvolutionLayer IDeconvolutionLayer"
    " IFullyConnectedLayer IGatherLayer IIdentityLayer ILRNLayer IMatrixMultiplyLayer IPaddingLayer"
    " IParametricReLULayer IPoolingLayer IReduceLayer IResizeLayer IScaleLayer IScatterLayer ISelectLayer IShapeLayer"
    " IShuffleLayer ISliceLayer ISoftMaxLayer ITopKLayer IUnaryLayer",
    "logger": "ILogger Logger",
    "refitter": "OnnxParserRefitter Refitter",
    "more_layers": "IAssertionLayer IAttentionBoundaryLayer IAttentionInputLayer IAttentionOutputLayer"
    " ICastLayer IConditionLayer ICumulativeLayer IDequantizeLayer IDynamicQuantizeLayer"
    " IEinsumLayer IElementWiseLayer IFillLayer IGridSampleLayer IIfConditionalBoundaryLayer IIfConditionalInputLayer"
    " IIfConditionalOutputLayer IIteratorLayer ILoopBoundaryLayer ILoopOutputLayer INMSLayer INonZeroLayer"
    " INormalizationLayer IOneHotLayer IQuantizeLayer IRaggedSoftMaxLayer IRecurrenceLayer IReverseSequenceLayer"
    " ISqueezeLayer ITripLimitLayer IUnsqueezeLayer",
    "network": "INetworkDefinition",
    "onnx_parser": "OnnxParser get_nv_onnx_parser_version",
    "parser_error": "ParserError",
    "plugins": "IPluginRegistry PluginCapabilityType PluginCreatorVersion PluginField PluginFieldCollection"
    " PluginFieldCollection_ PluginFieldType TensorRTPhase get_builder_plugin_registry get_plugin_registry"
    " init_libnvinfer_plugins",
    "profile": "IOptimizationProfile",
    "runtime": "Runtime",
    "runtime_options": "IRuntimeConfig ISerializationConfig",
    "tensor": "ITensor",
    "timing_cache": "ITimingCache",
}.items():
    _HOMES.update(dict.fromkeys(_names.split(), _module))

_FUNCTIONS = frozenset(
    ["volume", "nptype", "get_nv_onnx_parser_version", "get_builder_plugin_registry", "get_plugin_registry"]
)


def names() -> list[str]:
    """Every name that a program can ask for in the active era."""
    known = {*_HOMES, *enums.NAMES, *REFUSED_CLASSES, *DTYPES, "SliceMode", "ResizeMode", "__version__"}
    return sorted(name for name in known if _shown(name))


def _shown(name: str) -> bool:
    if name in DTYPES:
        return eras.shows("<module>", name)
    return eras.shows(name) or (eras.shows("<module>", name) and name in ("SliceMode", "ResizeMode"))


def _resolve(name: str) -> Any:
    """What the module has under ``name`` in the active era. Raises AttributeError for what it has not."""
    if name == "__version__":
        return eras.reported_version()
    if name == "__all__":
        return [known for known in names() if not known.startswith("_")]
    if _shown(name):
        if name in DTYPES:
            return DTYPES[name]
        if name in _HOMES:
            return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        if name in enums.NAMES or name in ("SliceMode", "ResizeMode"):
            return enums.current(name)
        if name in REFUSED_CLASSES:
            return refused_class(name)
        if name == "_plugin_registry":
            return _resolve("get_plugin_registry")()
        if name == "shutdown_protobuf_library":
            return _nothing
    raise AttributeError(f"TensorRT {eras.reported_version()} has no {name!r}, or trine does not know it")


def _nothing() -> None:
    """What ``shutdown_protobuf_library`` does."""


def __getattr__(name: str) -> Any:
    return _resolve(name)


def __dir__() -> list[str]:
    return names()
