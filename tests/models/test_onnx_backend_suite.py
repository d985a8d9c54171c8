"""A varied few of ONNX's own backend tests, through the whole of trine; benchmarks/onnx_backend_suite.py runs all."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def cases():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        module = importlib.import_module("onnx_backend_cases")
    finally:
        sys.path.pop(0)
    with module.quiet():
        module.all_cases()
    return module


# One of each thing that took care: old and new opsets, scalars, empty tensors, strings, several outputs, narrow types,
# inputs that are shapes or limits, control flow, functions, operators that only one of the backends has.
PASS = (
    "abs add_bcast attention_4d_causal averagepool_2d_same_upper basic_conv_with_padding "
    "bitcast_scalar_float32_to_int32 cast_FLOAT_to_INT4 cast_UINT2_to_FLOAT "
    "castlike_no_saturate_FLOAT_to_FLOAT8E4M3FNUZ clip_default_int8_inbounds col2im concat_1d_axis_negative_1 "
    "constant_pad cumsum_1d dequantizelinear_int4 div_int32_trunc dropout_default_ratio einsum_batch_diagonal "
    "expand_dim_changed flexattention gather_negative_indices gelu_tanh_1 gridsample_bicubic "
    "hardswish_expanded if loop11 lstm_with_peepholes maxunpool_export_without_output_shape "
    "mod_mixed_sign_int64 nllloss_NCd1d2d3_sum_weight_high_ii nonmaxsuppression_two_classes "
    "optional_get_element_tensor pow_types_float32_int64 prelu_broadcast quantizelinear_e4m3fn "
    "range_int32_type_negative_delta reduce_sum_empty_set regex_full_match_empty "
    "reshape_zero_and_negative_dim resize_upsample_sizes_cubic rotary_embedding scan9_sum "
    "scatter_elements_with_reduction_max shape_start_1 slice_default_steps "
    "split_zero_size_splits_opset18 squeeze string_concat "
    "tfidfvectorizer_tf_batch_uniandbigrams_skip5 "
    "top_k_smallest tril_zero unique_sorted_with_axis_3d where_example xor_bcast4v4d Conv2d_depthwise_padded "
    "PixelShuffle operator_addmm "
)


def run(cases, name):
    every = cases.all_cases()
    case = every.get(f"test_{name}")
    if case is None:
        pytest.skip(f"this onnx has no test_{name}")
    with cases.quiet():
        return cases.run_case(case)


@pytest.mark.parametrize("name", PASS.split())
def test_gives_the_stored_answers(cases, name):
    result = run(cases, name)
    assert result["status"] == "pass", result["reason"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("bernoulli", "draws random numbers"),
        ("identity_sequence", "is a sequence"),
        ("image_decoder_decode_png_rgb", "ImageDecoder"),
    ],
)
def test_refuses_with_the_reason(cases, name, text):
    result = run(cases, name)
    assert result["status"] == "unsupported"
    assert text in result["reason"]


def test_a_judge_of_known_verdicts(cases):
    want = [np.array([1000.0, 0.0], np.float32)]
    assert cases.judge([want[0].copy()], want, 1e-3, 1e-7)[0] == "pass"
    assert cases.judge([np.array([1000.0, 5e-5], np.float32)], want, 1e-3, 1e-7)[0] == "rounding"
    assert cases.judge([np.array([1000.0, 1.0], np.float32)], want, 1e-3, 1e-7)[0] == "wrong"
    assert cases.judge([np.array([1000.0, np.nan], np.float32)], want, 1e-3, 1e-7)[0] == "wrong"
    assert cases.judge([want[0][:1]], want, 1e-3, 1e-7)[0] == "wrong"
    assert cases.judge([want[0].astype(np.float64)], want, 1e-3, 1e-7)[0] == "wrong"
