"""Which of TensorRT's classes shows which of trine's layers."""

from __future__ import annotations

from typing import Any

from trine.compat.tensorrt import layers, more_layers
from trine.compat.tensorrt.layer import ILayer

__all__ = ["layer_class"]

_CLASSES: dict[str, type[ILayer]] = {
    "ACTIVATION": layers.IActivationLayer,
    "ASSERTION": more_layers.IAssertionLayer,
    "ATTENTION_OUTPUT": more_layers.IAttentionOutputLayer,
    "CAST": more_layers.ICastLayer,
    "CONCATENATION": layers.IConcatenationLayer,
    "CONDITION": more_layers.IConditionLayer,
    "CONDITIONAL_INPUT": more_layers.IIfConditionalInputLayer,
    "CONDITIONAL_OUTPUT": more_layers.IIfConditionalOutputLayer,
    "CONSTANT": layers.IConstantLayer,
    "CONVOLUTION": layers.IConvolutionLayer,
    "CUMULATIVE": more_layers.ICumulativeLayer,
    "DECONVOLUTION": layers.IDeconvolutionLayer,
    "DEQUANTIZE": more_layers.IDequantizeLayer,
    "DYNAMIC_QUANTIZE": more_layers.IDynamicQuantizeLayer,
    "EINSUM": more_layers.IEinsumLayer,
    "ELEMENTWISE": more_layers.IElementWiseLayer,
    "FILL": more_layers.IFillLayer,
    "FULLY_CONNECTED": layers.IFullyConnectedLayer,
    "GATHER": layers.IGatherLayer,
    "GRID_SAMPLE": more_layers.IGridSampleLayer,
    "IDENTITY": layers.IIdentityLayer,
    "ITERATOR": more_layers.IIteratorLayer,
    "LOOP_OUTPUT": more_layers.ILoopOutputLayer,
    "LRN": layers.ILRNLayer,
    "MATRIX_MULTIPLY": layers.IMatrixMultiplyLayer,
    "NMS": more_layers.INMSLayer,
    "NON_ZERO": more_layers.INonZeroLayer,
    "NORMALIZATION": more_layers.INormalizationLayer,
    "ONE_HOT": more_layers.IOneHotLayer,
    "PADDING": layers.IPaddingLayer,
    "PARAMETRIC_RELU": layers.IParametricReLULayer,
    "POOLING": layers.IPoolingLayer,
    "QUANTIZE": more_layers.IQuantizeLayer,
    "RAGGED_SOFTMAX": more_layers.IRaggedSoftMaxLayer,
    "RECURRENCE": more_layers.IRecurrenceLayer,
    "REDUCE": layers.IReduceLayer,
    "RESIZE": layers.IResizeLayer,
    "REVERSE_SEQUENCE": more_layers.IReverseSequenceLayer,
    "SCALE": layers.IScaleLayer,
    "SCATTER": layers.IScatterLayer,
    "SELECT": layers.ISelectLayer,
    "SHAPE": layers.IShapeLayer,
    "SHUFFLE": layers.IShuffleLayer,
    "SLICE": layers.ISliceLayer,
    "SOFTMAX": layers.ISoftMaxLayer,
    "SQUEEZE": more_layers.ISqueezeLayer,
    "TOPK": layers.ITopKLayer,
    "TRIP_LIMIT": more_layers.ITripLimitLayer,
    "UNARY": layers.IUnaryLayer,
    "UNSQUEEZE": more_layers.IUnsqueezeLayer,
}


def layer_class(layer: Any) -> type[ILayer]:
    """The class for one of trine's layers; ILayer for those that TensorRT has none for."""
    if getattr(layer, "is_parsed", False):
        return ILayer  # a node of ONNX has none of the properties that TensorRT's layers have
    kind = layer.type
    return _CLASSES.get(str(getattr(kind, "name", kind)), ILayer)
