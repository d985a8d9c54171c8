"""The ``add_*`` of TensorRT 8 and older: two-dimensional names, and fully connected layers."""

# Which class shows a layer is decided when it is added:
# mypy: disable-error-code="no-any-return"
# ruff: noqa: A002  # TensorRT names its arguments input and type
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trine.compat.tensorrt import layers as kinds
from trine.compat.tensorrt.eras import Checked, retired
from trine.compat.tensorrt.foundation import as_array
from trine.errors import ConfigError, UnsupportedError

if TYPE_CHECKING:
    from trine.compat.tensorrt.flow import ILoop
    from trine.compat.tensorrt.logger import Reporter

__all__ = ["OldLayerMethods"]


def _two(what: str, values: Any) -> tuple[int, int]:
    """A height and a width: from a pair, or from one number for both."""
    if isinstance(values, int):
        return values, values
    pair = tuple(int(value) for value in values)
    if len(pair) != 2:
        raise ConfigError(f"{what}: expected a height and a width, got {pair}")
    return pair[0], pair[1]


class OldLayerMethods(Checked):
    """See ``INetworkDefinition``, which has these."""

    _net: Any
    _reporter: Reporter
    _unwrap: Callable[[Any], Any]
    _add: Callable[[str, Callable[[], Any]], Any]
    add_convolution_nd: Callable[..., Any]
    add_deconvolution_nd: Callable[..., Any]
    add_pooling_nd: Callable[..., Any]
    add_padding_nd: Callable[..., Any]
    add_loop: Callable[[], Any]
    _begin_without_batch: Callable[[Any], None]
    _attempt: Callable[[str, Callable[[], Any]], Any]

    @retired("add_convolution_nd")
    def add_convolution(
        self,
        input: Any,
        num_output_maps: int,
        kernel_shape: Any,
        kernel: Any,
        bias: Any = None,
    ) -> kinds.IConvolutionLayer | None:
        """A convolution of pictures."""
        self._begin_without_batch(input)
        size = self._attempt("INetworkDefinition::add_convolution", lambda: _two("kernel_shape", kernel_shape))
        return size and self.add_convolution_nd(input, num_output_maps, size, kernel, bias)

    @retired("add_deconvolution_nd")
    def add_deconvolution(
        self,
        input: Any,
        num_output_maps: int,
        kernel_shape: Any,
        kernel: Any,
        bias: Any = None,
    ) -> kinds.IDeconvolutionLayer | None:
        """A transposed convolution of pictures."""
        self._begin_without_batch(input)
        size = self._attempt("INetworkDefinition::add_deconvolution", lambda: _two("kernel_shape", kernel_shape))
        return size and self.add_deconvolution_nd(input, num_output_maps, size, kernel, bias)

    @retired("add_pooling_nd")
    def add_pooling(self, input: Any, type: Any, window_size: Any) -> kinds.IPoolingLayer | None:
        """The maximum or average of windows of pictures."""
        self._begin_without_batch(input)
        size = self._attempt("INetworkDefinition::add_pooling", lambda: _two("window_size", window_size))
        return size and self.add_pooling_nd(input, type, size)

    @retired("add_padding_nd")
    def add_padding(self, input: Any, pre_padding: Any, post_padding: Any) -> kinds.IPaddingLayer | None:
        """Zeros around pictures."""
        self._begin_without_batch(input)
        where = "INetworkDefinition::add_padding"
        before = self._attempt(where, lambda: _two("pre_padding", pre_padding))
        after = self._attempt(where, lambda: _two("post_padding", post_padding))
        return None if before is None or after is None else self.add_padding_nd(input, before, after)

    @retired("add_constant, add_matrix_multiply and add_elementwise")
    def add_fully_connected(
        self,
        input: Any,
        num_outputs: int,
        kernel: Any,
        bias: Any = None,
    ) -> kinds.IFullyConnectedLayer:
        """Flattens the last three dimensions and multiplies: (..., C, H, W) to (..., num_outputs, 1, 1)."""
        self._begin_without_batch(input)
        source, values, offsets = self._unwrap(input), as_array(kernel), as_array(bias)
        return self._add(
            "add_fully_connected", lambda: self._net.add_fully_connected(source, int(num_outputs), values, offsets)
        )

    @retired("add_loop")
    def addLoop(self) -> ILoop | None:  # noqa: N802  # TensorRT 8.2's spelling
        """A loop."""
        found: ILoop | None = self.add_loop()
        return found

    @retired("add_loop")
    def add_rnn_v2(self, input: Any, layer_count: int, hidden_size: int, max_seq_length: int, op: Any) -> None:
        """Refused: NVIDIA dropped it in 2023; recurrent networks come through ONNX's LSTM and GRU, or loops."""
        self._reporter.failed(
            "INetworkDefinition::addRNNv2",
            UnsupportedError("trine has no RNNv2 layer; write the recurrence with add_loop, or import LSTM from ONNX"),
        )
