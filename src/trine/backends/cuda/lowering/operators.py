"""Which handler lowers which operator."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from trine.backends.cuda.groups import View
from trine.backends.cuda.lowering import convolutions, normalisation, pooling, products, shaping
from trine.backends.cuda.lowering.einsum import lower_einsum
from trine.backends.cuda.lowering.factored import Factored
from trine.backends.cuda.lowering.gather_nd import lower_gather_nd
from trine.backends.cuda.lowering.pointwise import POINTWISE, lower_batch_norm, lower_pointwise
from trine.backends.cuda.lowering.recurrent import lower_recurrent
from trine.backends.cuda.lowering.resampling import lower_resize
from trine.backends.cuda.lowering.scatter_nd import lower_scatter_nd
from trine.backends.cuda.lowering.state import Lowering
from trine.backends.cuda.lowering.transposed import lower_col2im, lower_conv_transpose

__all__ = ["HANDLERS"]

Handler = Callable[[Lowering, ir.Node], list[View] | list[View | Factored]]

HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(POINTWISE, lower_pointwise),
    "Attention": products.lower_attention,
    "AveragePool": pooling.lower_pool,
    "BatchNormalization": lower_batch_norm,
    "Conv": convolutions.lower_conv,
    "Col2Im": lower_col2im,
    "ConvTranspose": lower_conv_transpose,
    "DepthToSpace": shaping.lower_depth_to_space,
    "Dropout": shaping.lower_identity,
    "Einsum": lower_einsum,
    "Expand": shaping.lower_expand,
    "Flatten": shaping.lower_flatten,
    "GRU": lower_recurrent,
    "Gather": shaping.lower_gather,
    "GatherND": lower_gather_nd,
    "Gemm": products.lower_gemm,
    "GlobalAveragePool": pooling.lower_global_pool,
    "GlobalMaxPool": pooling.lower_global_pool,
    "GroupNormalization": normalisation.lower_group_norm,
    "Identity": shaping.lower_identity,
    "InstanceNormalization": normalisation.lower_group_norm,
    "LSTM": lower_recurrent,
    "LayerNormalization": normalisation.lower_layer_norm,
    "LogSoftmax": normalisation.lower_softmax,
    "MatMul": products.lower_matmul,
    "MaxPool": pooling.lower_pool,
    "Pad": shaping.lower_pad,
    "RMSNormalization": normalisation.lower_rms_norm,
    "RNN": lower_recurrent,
    "ReduceL1": pooling.lower_reduce,
    "ReduceL2": pooling.lower_reduce,
    "ReduceMax": pooling.lower_reduce,
    "ReduceMean": pooling.lower_reduce,
    "ReduceMin": pooling.lower_reduce,
    "ReduceProd": pooling.lower_reduce,
    "ReduceSum": pooling.lower_reduce,
    "ReduceSumSquare": pooling.lower_reduce,
    "Reshape": shaping.lower_reshape,
    "Resize": lower_resize,
    "ScatterND": lower_scatter_nd,
    "Slice": shaping.lower_slice,
    "Softmax": normalisation.lower_softmax,
    "SpaceToDepth": shaping.lower_space_to_depth,
    "Split": shaping.lower_split,
    "Squeeze": shaping.lower_squeeze,
    "Tile": shaping.lower_tile,
    "Transpose": shaping.lower_transpose,
    "Unsqueeze": shaping.lower_unsqueeze,
    "Upsample": lower_resize,
}
