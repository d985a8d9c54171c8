"""torch2trt's names over trine: ``from trine.compat.torch2trt import torch2trt, TRTModule, tensorrt_converter``.

A module is converted by trine's own importer, so no operator needs a converter, and none is frozen into a constant.
Those that a program registers with ``tensorrt_converter`` replace their function's calls.
"""

from trine.compat.torch2trt.convert import torch2trt
from trine.compat.torch2trt.dataset import Dataset, DatasetRecorder, ListDataset, TensorBatchDataset
from trine.compat.torch2trt.flattener import Flattener
from trine.compat.torch2trt.registry import CONVERTERS, ConversionContext, get_arg, tensorrt_converter
from trine.compat.torch2trt.tensors import (
    add_missing_trt_tensors,
    add_trt_constant,
    broadcast_trt_tensors,
    check_torch_dtype,
    torch_dim_resolve_negative,
    torch_dim_to_trt_axes,
    torch_dtype_from_trt,
    torch_dtype_to_trt,
    trt_,
)
from trine.compat.torch2trt.trt_module import TRTModule

__all__ = [
    "CONVERTERS",
    "ConversionContext",
    "Dataset",
    "DatasetRecorder",
    "Flattener",
    "ListDataset",
    "TRTModule",
    "TensorBatchDataset",
    "add_missing_trt_tensors",
    "add_trt_constant",
    "broadcast_trt_tensors",
    "check_torch_dtype",
    "get_arg",
    "tensorrt_converter",
    "torch2trt",
    "torch_dim_resolve_negative",
    "torch_dim_to_trt_axes",
    "torch_dtype_from_trt",
    "torch_dtype_to_trt",
    "trt_",
]
