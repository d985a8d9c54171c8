"""More layer classes: those that came with TensorRT 8 and later, loops and conditionals."""

from __future__ import annotations

from typing import Any

from trine.compat.tensorrt import properties as p
from trine.compat.tensorrt.dims import Dims
from trine.compat.tensorrt.enums import DataType
from trine.compat.tensorrt.foundation import to_trine
from trine.compat.tensorrt.layer import ILayer

__all__ = [
    "IAssertionLayer",
    "IAttentionBoundaryLayer",
    "IAttentionInputLayer",
    "IAttentionOutputLayer",
    "ICastLayer",
    "IConditionLayer",
    "ICumulativeLayer",
    "IDequantizeLayer",
    "IDynamicQuantizeLayer",
    "IEinsumLayer",
    "IElementWiseLayer",
    "IFillLayer",
    "IGridSampleLayer",
    "IIfConditionalBoundaryLayer",
    "IIfConditionalInputLayer",
    "IIfConditionalOutputLayer",
    "IIteratorLayer",
    "ILoopBoundaryLayer",
    "ILoopOutputLayer",
    "INMSLayer",
    "INonZeroLayer",
    "INormalizationLayer",
    "IOneHotLayer",
    "IQuantizeLayer",
    "IRaggedSoftMaxLayer",
    "IRecurrenceLayer",
    "IReverseSequenceLayer",
    "ISqueezeLayer",
    "ITripLimitLayer",
    "IUnsqueezeLayer",
]


class IElementWiseLayer(ILayer):
    """A function of each pair of elements."""

    op = p.enum("op", "ElementWiseOperation", "The function.")


class IEinsumLayer(ILayer):
    """A sum of products after Einstein's convention."""

    equation = p.text("equation", "Which indices, as in NumPy.")


class ICastLayer(ILayer):
    """Another element type."""

    to_type = p.dtype("to_type", "The type.")


class IFillLayer(ILayer):
    """A tensor of numbers in a row, or of random ones."""

    operation = p.enum("operation", "FillOperation", "Which numbers.")
    shape = p.whole_shape("shape", "The tensor's shape.", batch=1)
    to_type = p.dtype("to_type", "The numbers' type.")

    @property
    def alpha(self) -> Any:
        """The first number, or the lowest, or the mean."""
        return self._layer.alpha

    @alpha.setter
    def alpha(self, value: float) -> None:
        self._network._attempt("IFillLayer::setAlpha", lambda: setattr(self._layer, "alpha", value))

    @property
    def beta(self) -> Any:
        """The step, or the highest, or the standard deviation."""
        return self._layer.beta

    @beta.setter
    def beta(self, value: float) -> None:
        self._network._attempt("IFillLayer::setBeta", lambda: setattr(self._layer, "beta", value))

    def is_alpha_beta_int64(self) -> bool:
        """Whether both were given as whole numbers."""
        return isinstance(self._layer.alpha, int) and isinstance(self._layer.beta, int)


class IQuantizeLayer(ILayer):
    """To few bits, by a scale."""

    axis = p.axis("axis", "The dimension that the scales go along.")
    to_type = p.dtype("to_type", "The type of few bits.")
    block_shape = p.dims("block_shape", "How many elements share a scale, for each dimension.")


class IDequantizeLayer(IQuantizeLayer):
    """Back from few bits, by a scale."""


class IDynamicQuantizeLayer(ILayer):
    """To few bits, by scales computed from the values themselves."""

    axis = p.axis("axis", "The dimension of the blocks.")
    block_size = p.integer("block_size", "How many elements share a scale.")
    to_type = p.dtype("to_type", "The type of few bits.")
    scale_type = p.dtype("scale_type", "The scales' type.")

    @property
    def block_shape(self) -> Dims:
        """How many elements share a scale, for each dimension."""
        source = self.get_input(0)
        rank = 0 if source is None else len(source.shape)
        shape = [1] * rank
        if rank:
            shape[self.axis] = self.block_size
        return Dims(shape)

    @block_shape.setter
    def block_shape(self, shape: Any) -> None:
        sizes = [int(size) for size in shape]
        along = [axis for axis, size in enumerate(sizes) if size != 1]
        if len(along) != 1:
            self._network._reporter.error(
                "IDynamicQuantizeLayer::setBlockShape", f"blocks along one dimension; got {sizes}"
            )
            return
        self.axis, self.block_size = along[0], sizes[along[0]]


class INormalizationLayer(ILayer):
    """Layer, group or instance normalisation."""

    epsilon = p.number("epsilon", "What is added to the variance.")
    axes = p.axes("axes", "The dimensions' bits.")
    num_groups = p.integer("num_groups", "How many groups the channels are in.")
    _compute_precision: DataType | None = None

    @property
    def compute_precision(self) -> DataType:
        """The type of the sums. Kept and shown: they are computed in the input's type."""
        source = self.get_input(0)
        return self._compute_precision or (DataType.FLOAT if source is None else source.dtype)

    @compute_precision.setter
    def compute_precision(self, dtype: DataType) -> None:
        to_trine(dtype)
        self._compute_precision = dtype

    @property
    def is_v2(self) -> bool:
        """Whether ``add_normalization_v2`` made it."""
        return bool(getattr(self._layer, "is_v2", False))


class INonZeroLayer(ILayer):
    """Where a tensor is not zero."""

    indices_type = p.dtype("indices_type", "The type of where.")


class IOneHotLayer(ILayer):
    """One value at an index, another elsewhere."""

    axis = p.axis("axis", "The new dimension.")


class ICumulativeLayer(ILayer):
    """Running sums."""

    op = p.enum("op", "CumulativeOperation", "What is taken.")
    exclusive = p.boolean("exclusive", "Whether an element's own value is left out.")
    reverse = p.boolean("reverse", "Whether it starts at the end.")


class IReverseSequenceLayer(ILayer):
    """Sequences of several lengths, backwards."""

    batch_axis = p.integer("batch_axis", "The dimension of the sequences.")
    sequence_axis = p.integer("sequence_axis", "The dimension along them.")


class IGridSampleLayer(ILayer):
    """A picture at points of a grid."""

    interpolation_mode = p.enum("interpolation_mode", "InterpolationMode", "How values in between are found.")
    align_corners = p.boolean("align_corners", "Whether -1 and 1 are the corners' centres.")
    sample_mode = p.enum("sample_mode", "SampleMode", "What is outside.")


class INMSLayer(ILayer):
    """Of boxes that overlap, the best."""

    bounding_box_format = p.enum("bounding_box_format", "BoundingBoxFormat", "How a box is written.")
    topk_box_limit = p.integer("topk_box_limit", "How many boxes are looked at.")
    indices_type = p.dtype("indices_type", "The type of the indices.")


class IAssertionLayer(ILayer):
    """Refuses to go on where a condition does not hold."""

    message = p.text("message", "What it says then.")


class IRaggedSoftMaxLayer(ILayer):
    """Softmax of sequences of several lengths."""


class ISqueezeLayer(ILayer):
    """Without dimensions of size 1."""


class IUnsqueezeLayer(ILayer):
    """With more dimensions of size 1."""


class ILoopBoundaryLayer(ILayer):
    """Where tensors enter or leave a loop."""

    @property
    def loop(self) -> Any:
        """The loop."""
        return self._network._loop_of(self._layer.owner)


class IRecurrenceLayer(ILoopBoundaryLayer):
    """A value that each turn hands to the next."""


class ILoopOutputLayer(ILoopBoundaryLayer):
    """What a loop gives."""

    axis = p.axis("axis", "The dimension along which turns' values are put together.")
    kind = p.enum("kind", "LoopOutput", "The last turn's value, or all.", onto="output_kind")


class ITripLimitLayer(ILoopBoundaryLayer):
    """How often a loop goes round."""

    kind = p.enum("kind", "TripLimit", "A number, or while something holds.", onto="limit")


class IIteratorLayer(ILoopBoundaryLayer):
    """One slice of a tensor each turn."""

    axis = p.axis("axis", "Along which dimension.")
    reverse = p.boolean("reverse", "Whether it starts at the end.")


class IIfConditionalBoundaryLayer(ILayer):
    """Where tensors enter or leave a conditional."""

    @property
    def conditional(self) -> Any:
        """The conditional."""
        return self._network._conditional_of(self._layer.owner)


class IConditionLayer(IIfConditionalBoundaryLayer):
    """What a conditional depends on."""


class IIfConditionalInputLayer(IIfConditionalBoundaryLayer):
    """A tensor that a conditional uses."""


class IIfConditionalOutputLayer(IIfConditionalBoundaryLayer):
    """What a conditional gives."""


class IAttentionBoundaryLayer(ILayer):
    """Where tensors enter or leave an attention."""

    @property
    def attention(self) -> Any:
        """The attention."""
        from trine.compat.tensorrt.flow import IAttention

        return IAttention._of(self._network, self._layer)


class IAttentionInputLayer(IAttentionBoundaryLayer):
    """Where query, key and value enter an attention; trine's has none of its own."""


class IAttentionOutputLayer(IAttentionBoundaryLayer):
    """What an attention gives."""
