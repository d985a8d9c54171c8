"""Which of TensorRT's names work, which are accepted without effect, and which are refused: the three lists.

A name that is in neither table below works: it does what TensorRT's documentation says, on the CPU. That includes
questions whose true answer here is 0 or no (`device_memory_size`, `can_run_on_DLA`), and promises that always hold
(`BuilderFlag.VERSION_COMPATIBLE`). The tests hold
every name of every version against the classes as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

from trine.compat.tensorrt import enums
from trine.compat.tensorrt.config import WITHOUT_EFFECT
from trine.compat.tensorrt.eras import names_of
from trine.compat.tensorrt.refused import REFUSED_CLASSES

__all__ = ["ACCEPTED", "REFUSED", "WORKS", "Standing", "standings"]

WORKS, ACCEPTED, REFUSED = "works", "accepted", "refused"

_DEVICE_MEMORY = "the engine runs in the host's memory, which its backends allocate"
_STREAMS = "a CPU has no streams: a call returns when its answers are there"
_LAYOUT = "inputs and outputs are linear; the answer says so"
_NO_DLA = "there is no DLA; everything runs on the CPU"
_NO_DEBUG = "no tensor inside an engine can be listened to"
_WHOLE_GRAPH = "precision is chosen for the whole graph"
_TUNING = "trine times each of its few tactics until the median is steady"
_SHAPE_INPUTS = "no input's values are needed before a call: shapes are computed with everything else"
_STREAMING = "weights stay where they are mapped"
_ALWAYS = "it is always so"

# "Class.member ..." : why it has no effect.
_ACCEPTED_TEXT = {
    _DEVICE_MEMORY: "Builder.gpu_allocator Runtime.gpu_allocator IGpuAllocator.* IGpuAsyncAllocator.* AllocatorFlag.*"
    " IExecutionContext.device_memory IExecutionContext.set_device_memory IExecutionContext.temporary_allocator"
    " IExecutionContext.persistent_cache_limit"
    " IBuilderConfig.set_memory_pool_limit"
    " IBuilderConfig.get_memory_pool_limit IBuilderConfig.max_workspace_size IOptimizationProfile.extra_memory_target"
    " MemoryPoolType.* ExecutionContextAllocationStrategy.* IRuntimeConfig.*",
    _STREAMS: "IExecutionContext.set_aux_streams IExecutionContext.set_input_consumed_event"
    " IExecutionContext.get_input_consumed_event IBuilderConfig.max_aux_streams IBuilderConfig.profile_stream",
    _LAYOUT: "ITensor.allowed_formats",
    _NO_DLA: "IBuilderConfig.DLA_core IBuilderConfig.default_device_type IBuilderConfig.set_device_type"
    " IBuilderConfig.get_device_type IBuilderConfig.is_device_type_set IBuilderConfig.reset_device_type"
    " Runtime.DLA_core",
    _NO_DEBUG: "IDebugListener.* IExecutionContext.set_debug_listener IExecutionContext.get_debug_listener"
    " IExecutionContext.set_all_tensors_debug_state IExecutionContext.unfused_tensors_debug_state",
    _WHOLE_GRAPH: "ILayer.precision ILayer.precision_is_set ILayer.reset_precision"
    " INormalizationLayer.compute_precision",
    _TUNING: "IBuilderConfig.avg_timing_iterations IBuilderConfig.min_timing_iterations"
    " IBuilderConfig.builder_optimization_level IBuilderConfig.max_num_tactics IBuilderConfig.l2_limit_for_tiling"
    " IBuilderConfig.tiling_optimization_level IBuilderConfig.set_tactic_sources IBuilderConfig.get_tactic_sources"
    " IBuilderConfig.set_preview_feature IBuilderConfig.get_preview_feature"
    " IBuilderConfig.hardware_compatibility_level IBuilderConfig.runtime_platform",
    _SHAPE_INPUTS: "IOptimizationProfile.set_shape_input IOptimizationProfile.get_shape_input"
    " ICudaEngine.get_profile_shape_input IExecutionContext.get_shape",
    _STREAMING: "ICudaEngine.weight_streaming_budget ICudaEngine.weight_streaming_budget_v2",
    "calibration looks at the network as it was written": "IBuilderConfig.quantization_flags"
    " IBuilderConfig.set_quantization_flag IBuilderConfig.clear_quantization_flag"
    " IBuilderConfig.get_quantization_flag QuantizationFlag.*",
    _ALWAYS: "IAttention.decomposable ILayer.num_ranks IAttention.num_ranks"
    " INetworkDefinition.mark_weights_refittable INetworkDefinition.unmark_weights_refittable"
    " INetworkDefinition.are_weights_marked_refittable",
    "trine writes no temporary files": "Runtime.temporary_directory Runtime.tempfile_control_flags"
    " TempfileControlFlag.*",
    "NVIDIA's profilers do not see a CPU": "IExecutionContext.nvtx_verbosity",
    "the parser's flags choose among NVIDIA's kernels and plugins": "OnnxParserFlag.* OnnxParser.flags"
    " OnnxParser.set_flag OnnxParser.clear_flag OnnxParser.get_flag OnnxParser.set_builder_config",
    "there are no plugins to use": "<module>.init_libnvinfer_plugins IPluginRegistry.parent_search_enabled"
    " IPluginRegistry.error_recorder",
    "nothing needs to be shut down": "<module>.shutdown_protobuf_library",
}
_NO_PLUGINS = "trine runs no TensorRT plugins, which are CUDA programs"
_REFUSED_TEXT = {
    "a word of a signature or a message, not a member": "ITimingCache.input_cache ITimingCache.key IBuilderConfig.cache"
    " IBuilderConfig.get_avg_timing_iterations IBuilderConfig.set_avg_timing_iterations"
    " IOutputAllocator.tensorrt_version",
    "timings are measured, not written": "ITimingCache.update",
    "it chooses among NVIDIA's own builders": "IBuilderConfig.build_route IBuilderConfig.all_build_routes",
    "attention takes padded (batch, heads, tokens, size)": "IAttention.query_form IAttention.query_lengths"
    " IAttention.key_value_form IAttention.key_value_lengths AttentionIOForm.*",
    "trine's engines keep no state, and have no such layer": "KVCacheMode.* MoEActType.* CollectiveOperation.*",
    _NO_PLUGINS: "INetworkDefinition.add_plugin INetworkDefinition.add_plugin_v2 INetworkDefinition.add_plugin_v3"
    " IPluginRegistry.register_creator IPluginRegistry.load_library IPluginRegistry.acquire_plugin_resource"
    " IBuilderConfig.plugins_to_serialize",
    "trine has no algorithm selectors": "IBuilderConfig.algorithm_selector",
    _NO_DEBUG: "INetworkDefinition.mark_debug INetworkDefinition.mark_unfused_tensors_as_debug_tensors"
    " IExecutionContext.set_tensor_debug_state",
    "an engine cannot stop half-way": "INetworkDefinition.add_assertion IAssertionLayer.message",
    "INT8 ranges are part of the engine's graph": "Refitter.set_dynamic_range",
    "trine does not lower a network to this type": "BuilderFlag.FP8 BuilderFlag.INT4 BuilderFlag.FP4",
    "an engine holds its weights": "BuilderFlag.STRIP_PLAN BuilderFlag.WEIGHTLESS BuilderFlag.REFIT_IDENTICAL"
    " SerializationFlag.EXCLUDE_WEIGHTS",
    "engines need no other runtime": "Runtime.load_runtime",
    "trine builds standard engines": "EngineCapability.SAFETY EngineCapability.DLA_STANDALONE"
    " EngineCapability.SAFE_GPU EngineCapability.SAFE_DLA",
    "trine computes in one process": "INetworkDefinition.add_dist_collective IExecutionContext.set_communicator",
    "trine has no such layer": "INetworkDefinition.add_moe INetworkDefinition.add_kv_cache_update"
    " INetworkDefinition.add_rotary_embedding INetworkDefinition.add_rnn_v2",
    "batches are explicit, or implicit for all": "ITensor.broadcast_across_batch",
    "there are no shape inputs": "IExecutionContext.set_shape_input",
    "trine tunes on this machine only": "IBuilderConfig.remote_auto_tuning_config",
    "attention is computed in its inputs' type": "IAttention.normalization_quantize_to_type"
    " IAttention.normalization_quantize_scale",
    "give the weights to the refitter by set_named_weights": "OnnxParserRefitter.load_initializer",
    "padding as Caffe had it is refused by trine.network": "PaddingMode.CAFFE_ROUND_DOWN PaddingMode.CAFFE_ROUND_UP",
}


def _by_name(texts: dict[str, str]) -> dict[str, str]:
    return {name: reason for reason, names in texts.items() for name in names.split()}


_HOLDS = ("VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME", "DIRECT_IO", "DISABLE_COMPILATION_CACHE")  # they always do
_ACCEPTED_NAMES = {
    **_by_name(_ACCEPTED_TEXT),
    **{f"BuilderFlag.{name}": why for name, why in WITHOUT_EFFECT.items() if name not in _HOLDS},
}
_REFUSED_NAMES = _by_name(_REFUSED_TEXT)
_MISSING_CLASSES = {  # refused: the names are not there at all
    **dict.fromkeys(
        [
            "CaffeParser",
            "FieldCollection",
            "FieldMap",
            "FieldType",
            "IBlobNameToTensor",
            "ICaffePluginFactoryV2",
            "UffInputOrder",
            "UffParser",
        ],
        "the Caffe and UFF parsers ended with TensorFlow 1 and Caffe; convert the model to ONNX",
    ),
    "QuickPluginCreationRequest": _NO_PLUGINS,
}


@dataclass(frozen=True)
class Standing:
    """Where one name stands. ``member`` is "" for the class itself; ``reason`` is "" for what works."""

    cls: str
    member: str
    list: str
    reason: str


def standings(version: str) -> list[Standing]:
    """Every class and member of a version (one of names.txt's), each on one list."""
    found = []
    for cls, members in sorted(names_of(version).items()):
        for member in sorted(members - {"__del__"}) or [""]:
            found.append(_standing(cls, member))
    return found


def _standing(cls: str, member: str) -> Standing:
    if cls in _MISSING_CLASSES and cls not in enums.NAMES:
        return Standing(cls, member, REFUSED, _MISSING_CLASSES[cls])
    if cls in REFUSED_CLASSES:
        return Standing(cls, member, REFUSED, REFUSED_CLASSES[cls])
    for table, kind in ((_REFUSED_NAMES, REFUSED), (_ACCEPTED_NAMES, ACCEPTED)):
        reason = table.get(f"{cls}.{member}") or table.get(f"{cls}.*")
        if reason is not None:
            return Standing(cls, member, kind, reason)
    return Standing(cls, member, WORKS, "")
