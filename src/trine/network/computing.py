"""The ``add_*`` methods of layers that compute numbers from numbers."""

# ruff: noqa: A002  # "input" and "type" are TensorRT's names for these arguments

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from trine.dtypes import DataType
from trine.network.attention import AttentionLayer
from trine.network.convolution import ConvolutionLayer, DeconvolutionLayer, FullyConnectedLayer
from trine.network.layer import Layer
from trine.network.matrices import EinsumLayer, MatrixMultiplyLayer
from trine.network.normalization import LRNLayer, NormalizationLayer
from trine.network.operations import (
    ActivationType,
    AttentionNormalizationOp,
    CausalMaskKind,
    CumulativeOperation,
    ElementWiseOperation,
    MatrixOperation,
    PoolingType,
    ReduceOperation,
    ScaleMode,
    UnaryOperation,
)
from trine.network.pointwise import (
    ActivationLayer,
    CastLayer,
    ElementWiseLayer,
    IdentityLayer,
    ParametricReLULayer,
    ScaleLayer,
    SelectLayer,
    UnaryLayer,
)
from trine.network.pooling import PoolingLayer
from trine.network.quantization import DequantizeLayer, DynamicQuantizeLayer, QuantizeLayer
from trine.network.reductions import CumulativeLayer, RaggedSoftMaxLayer, ReduceLayer, SoftMaxLayer
from trine.network.tensor import Tensor

__all__ = ["ComputingLayers", "LayerMaker"]

L = TypeVar("L", bound=Layer)


class LayerMaker:
    """What the ``add_*`` methods need of a network."""

    def _make(self, kind: type[L], inputs: Sequence[Any], **settings: Any) -> L:
        raise NotImplementedError


class ComputingLayers(LayerMaker):
    """Convolution, pooling, products, functions of elements, reductions, normalisation, quantisation."""

    def add_convolution_nd(
        self, input: Tensor, num_output_maps: int, kernel_shape: Any, kernel: Any = None, bias: Any = None,
        *, name: str | None = None,
    ) -> ConvolutionLayer:  # fmt: skip
        """A convolution; ``kernel`` has the shape (maps, channels / groups, *kernel_shape), or is flat.

        Without a kernel, give the weights as a tensor with ``set_input(1, tensor)``.
        """
        return self._make(
            ConvolutionLayer, [input], kernel_size_nd=kernel_shape, num_output_maps=num_output_maps, kernel=kernel,
            bias=bias, name=name,
        )  # fmt: skip

    def add_deconvolution_nd(
        self, input: Tensor, num_output_maps: int, kernel_shape: Any, kernel: Any = None, bias: Any = None,
        *, name: str | None = None,
    ) -> DeconvolutionLayer:  # fmt: skip
        """A transposed convolution; ``kernel`` has the shape (channels, maps / groups, *kernel_shape), or is flat."""
        return self._make(
            DeconvolutionLayer, [input], kernel_size_nd=kernel_shape, num_output_maps=num_output_maps, kernel=kernel,
            bias=bias, name=name,
        )  # fmt: skip

    def add_fully_connected(
        self, input: Tensor, num_outputs: int, kernel: Any, bias: Any = None, *, name: str | None = None
    ) -> FullyConnectedLayer:
        """The last three dimensions as a vector, times ``kernel`` (num_outputs, length), plus ``bias``."""
        return self._make(
            FullyConnectedLayer, [input], num_output_channels=num_outputs, kernel=kernel, bias=bias, name=name
        )

    def add_pooling_nd(
        self, input: Tensor, type: PoolingType | str, window_size: Any, *, name: str | None = None
    ) -> PoolingLayer:
        """The largest or the average element of each window. The stride is 1 until ``stride_nd`` is set."""
        return self._make(PoolingLayer, [input], window_size_nd=window_size, pooling_type=type, name=name)

    def add_activation(
        self, input: Tensor, type: ActivationType | str, *, alpha: float | None = None, beta: float | None = None,
        name: str | None = None,
    ) -> ActivationLayer:  # fmt: skip
        """``type`` on each element, RELU for example. ``alpha`` and ``beta`` where the function has them."""
        given = {"alpha": alpha, "beta": beta}
        settings = {key: value for key, value in given.items() if value is not None}
        return self._make(ActivationLayer, [input], activation_type=type, name=name, **settings)

    def add_elementwise(
        self, input1: Tensor, input2: Tensor, op: ElementWiseOperation | str, *, name: str | None = None
    ) -> ElementWiseLayer:
        """``op`` on each pair of elements, SUM for example; shapes broadcast as in NumPy."""
        return self._make(ElementWiseLayer, [input1, input2], op=op, name=name)

    def add_unary(self, input: Tensor, op: UnaryOperation | str, *, name: str | None = None) -> UnaryLayer:
        """``op`` on each element, EXP for example."""
        return self._make(UnaryLayer, [input], op=op, name=name)

    def add_scale(
        self, input: Tensor, mode: ScaleMode | str, shift: Any = None, scale: Any = None, power: Any = None,
        *, name: str | None = None,
    ) -> ScaleLayer:  # fmt: skip
        """(x * scale + shift) ** power, with the channels in dimension 1."""
        return self.add_scale_nd(input, mode, shift, scale, power, 1, name=name)

    def add_scale_nd(
        self, input: Tensor, mode: ScaleMode | str, shift: Any = None, scale: Any = None, power: Any = None,
        channel_axis: int = 1, *, name: str | None = None,
    ) -> ScaleLayer:  # fmt: skip
        """(x * scale + shift) ** power, with the channels in dimension ``channel_axis``."""
        return self._make(
            ScaleLayer, [input], mode=mode, shift=shift, scale=scale, power=power, channel_axis=channel_axis, name=name
        )

    def add_parametric_relu(self, input: Tensor, slopes: Tensor, *, name: str | None = None) -> ParametricReLULayer:
        """x where it is positive, x * slope where it is not."""
        return self._make(ParametricReLULayer, [input, slopes], name=name)

    def add_select(
        self, condition: Tensor, then_input: Tensor, else_input: Tensor, *, name: str | None = None
    ) -> SelectLayer:
        """Elements of one tensor where ``condition`` is true, of another where it is not."""
        return self._make(SelectLayer, [condition, then_input, else_input], name=name)

    def add_cast(self, input: Tensor, to_type: Any, *, name: str | None = None) -> CastLayer:
        """Each element as ``to_type``."""
        return self._make(CastLayer, [input], to_type=to_type, name=name)

    def add_identity(self, input: Tensor, *, name: str | None = None) -> IdentityLayer:
        """A copy."""
        return self._make(IdentityLayer, [input], name=name)

    def add_matrix_multiply(
        self, input0: Tensor, op0: MatrixOperation | str, input1: Tensor, op1: MatrixOperation | str,
        *, name: str | None = None,
    ) -> MatrixMultiplyLayer:  # fmt: skip
        """The product of two matrices, or of two stacks of them."""
        return self._make(MatrixMultiplyLayer, [input0, input1], op0=op0, op1=op1, name=name)

    def add_einsum(self, inputs: Sequence[Tensor], equation: str, *, name: str | None = None) -> EinsumLayer:
        """Sums of products, "ij,jk->ik" for example."""
        return self._make(EinsumLayer, list(inputs), equation=equation, name=name)

    def add_attention(
        self, query: Tensor, key: Tensor, value: Tensor,
        norm_op: AttentionNormalizationOp | str = AttentionNormalizationOp.SOFTMAX, causal: bool = False,
        *, name: str | None = None,
    ) -> AttentionLayer:  # fmt: skip
        """softmax(query x key^T) x value. ``causal`` hides the keys behind a query's own place, from the upper left."""
        kind = CausalMaskKind.UPPER_LEFT if causal else CausalMaskKind.NONE
        return self.add_attention_v2(query, key, value, norm_op, kind, name=name)

    def add_attention_v2(
        self, query: Tensor, key: Tensor, value: Tensor,
        norm_op: AttentionNormalizationOp | str = AttentionNormalizationOp.SOFTMAX,
        causal_kind: CausalMaskKind | str = CausalMaskKind.NONE, *, name: str | None = None,
    ) -> AttentionLayer:  # fmt: skip
        """softmax(query x key^T) x value."""
        return self._make(AttentionLayer, [query, key, value], norm_op=norm_op, causal_kind=causal_kind, name=name)

    def add_reduce(
        self, input: Tensor, op: ReduceOperation | str, axes: int | Sequence[int], keep_dims: bool,
        *, name: str | None = None,
    ) -> ReduceLayer:  # fmt: skip
        """``op`` along ``axes``: a bit mask with bit i for axis i, or a sequence of axes."""
        return self._make(ReduceLayer, [input], op=op, axes=axes, keep_dims=keep_dims, name=name)

    def add_softmax(self, input: Tensor, *, name: str | None = None) -> SoftMaxLayer:
        """Softmax along one axis; set ``axes``, a bit mask, unless it is the third from last."""
        return self._make(SoftMaxLayer, [input], name=name)

    def add_ragged_softmax(self, input: Tensor, bounds: Tensor, *, name: str | None = None) -> RaggedSoftMaxLayer:
        """Softmax over the first ``bounds`` elements of each row."""
        return self._make(RaggedSoftMaxLayer, [input, bounds], name=name)

    def add_cumulative(
        self, input: Tensor, axis: Tensor | int, op: CumulativeOperation | str = CumulativeOperation.SUM,
        exclusive: bool = False, reverse: bool = False, *, name: str | None = None,
    ) -> CumulativeLayer:  # fmt: skip
        """Sums of all elements up to each, along ``axis``: a number, or a 0-D constant tensor."""
        settings = {"op": op, "exclusive": exclusive, "reverse": reverse, "name": name}
        if isinstance(axis, Tensor):
            return self._make(CumulativeLayer, [input, axis], **settings)
        return self._make(CumulativeLayer, [input], axis=axis, **settings)

    def add_normalization(
        self, input: Tensor, scale: Tensor, bias: Tensor, axes: int | Sequence[int], *, name: str | None = None
    ) -> NormalizationLayer:
        """(x - mean) / deviation * scale + bias; with ``num_groups``, one scale and bias for each group."""
        return self._make(NormalizationLayer, [input, scale, bias], axes=axes, is_v2=False, name=name)

    def add_normalization_v2(
        self, input: Tensor, scale: Tensor, bias: Tensor, axes: int | Sequence[int], *, name: str | None = None
    ) -> NormalizationLayer:
        """(x - mean) / deviation * scale + bias; with ``num_groups``, one scale and bias for each channel."""
        return self._make(NormalizationLayer, [input, scale, bias], axes=axes, name=name)

    def add_lrn(
        self, input: Tensor, window: int, alpha: float, beta: float, k: float, *, name: str | None = None
    ) -> LRNLayer:
        """Local response normalisation over ``window`` channels."""
        return self._make(LRNLayer, [input], window_size=window, alpha=alpha, beta=beta, k=k, name=name)

    def add_quantize(
        self, input: Tensor, scale: Tensor, output_type: Any = DataType.INT8, *, name: str | None = None
    ) -> QuantizeLayer:
        """round(x / scale) as ``output_type``; set ``axis`` for a scale of several numbers."""
        return self._make(QuantizeLayer, [input, scale], to_type=output_type, name=name)

    def add_dequantize(
        self, input: Tensor, scale: Tensor, output_type: Any = DataType.FLOAT32, *, name: str | None = None
    ) -> DequantizeLayer:
        """x * scale as ``output_type``; set ``axis`` for a scale of several numbers."""
        return self._make(DequantizeLayer, [input, scale], to_type=output_type, name=name)

    def add_dynamic_quantize(
        self, input: Tensor, axis: int, block_size: int, output_type: Any, scale_type: Any, *, name: str | None = None
    ) -> DynamicQuantizeLayer:
        """Blocks of ``block_size`` elements along ``axis``, each quantised by its own largest element."""
        return self._make(
            DynamicQuantizeLayer, [input], axis=axis, block_size=block_size, to_type=output_type,
            scale_type=scale_type, outputs=2, name=name,
        )  # fmt: skip
