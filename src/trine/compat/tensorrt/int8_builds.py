"""INT8 as TensorRT 10 and older ask for it: the calibrator's batches, its cache, and tensors' dynamic ranges."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from trine.compat.tensorrt.host_memory import array_at
from trine.errors import ConfigError, InputError
from trine.profile import ShapeRange

if TYPE_CHECKING:
    from trine.compat.tensorrt.config import IBuilderConfig
    from trine.compat.tensorrt.logger import Reporter
    from trine.compat.tensorrt.network import INetworkDefinition

__all__ = ["METHODS", "quantized"]

METHODS = {
    "LEGACY_CALIBRATION": "percentile",
    "ENTROPY_CALIBRATION": "entropy",
    "ENTROPY_CALIBRATION_2": "entropy",
    "MINMAX_CALIBRATION": "minmax",
}
_MOST_BATCHES = 100_000


def quantized(
    network: INetworkDefinition,
    config: IBuilderConfig,
    source: Any,
    profile: Mapping[str, ShapeRange],
    reporter: Reporter,
) -> bytes:
    """The network as ONNX bytes with quantise and dequantise pairs.

    Where it has such layers already, it is taken as it is. Raises ConfigError where there is neither a calibrator nor
    a range for every tensor that needs one.
    """
    import onnx

    from trine.precision.int8 import calibrate, is_quantized, products, with_pairs

    model = onnx.load_from_string(source) if isinstance(source, bytes) else onnx.load(str(source))
    if is_quantized(model):
        reporter.info("BuilderFlag.INT8: the network has quantize layers of its own, which say what is INT8")
        data: bytes = model.SerializeToString()
        return data
    names = list(dict.fromkeys(product.activation for product in products(model)))
    amax = _ranges(network, names)
    missing = [name for name in names if name not in amax]
    if missing:
        calibrator = config.int8_calibrator
        if calibrator is None:
            raise ConfigError(
                f"BuilderFlag.INT8: no calibrator, and no dynamic range for {', '.join(missing[:5])}; set "
                "config.int8_calibrator, or set_dynamic_range for these tensors"
            )
        cached = _read_cache(calibrator)
        if any(name not in cached for name in missing):
            method = METHODS[calibrator.get_algorithm().name]
            chosen = config._calibration_profile
            shapes = _shapes(network, profile, {} if chosen is None else chosen._ranges, calibrator)
            cached = calibrate(model, _batches(network, calibrator, shapes), method)
            calibrator.write_calibration_cache(_cache_bytes(cached))
        amax = {**cached, **amax}
    made: bytes = with_pairs(model, {name: amax[name] for name in names}).SerializeToString()
    reporter.info(f"BuilderFlag.INT8: pairs on {len(names)} tensors and the weights that they meet")
    return made


def _ranges(network: INetworkDefinition, names: list[str]) -> dict[str, float]:
    """The magnitudes that the program said by ``set_dynamic_range``."""
    said = {tensor.name: tensor._range for tensor in network._tensors.values() if tensor._range is not None}
    return {name: max(abs(said[name][0]), abs(said[name][1])) for name in names if name in said}


def _shapes(
    network: INetworkDefinition,
    profile: Mapping[str, ShapeRange],
    chosen: Mapping[str, ShapeRange],
    calibrator: Any,
) -> dict[str, tuple[int, ...]]:
    """Each input's shape in a batch: the calibration profile's opt, else the first profile's."""
    shapes = {}
    for name, usual in profile.items():
        shape = chosen.get(name, usual).opt
        shapes[name] = (int(calibrator.get_batch_size()), *shape[1:]) if network._implicit else shape
    return shapes


def _batches(
    network: INetworkDefinition, calibrator: Any, shapes: Mapping[str, tuple[int, ...]]
) -> Iterator[dict[str, np.ndarray]]:
    """The calibrator's batches, as arrays over the memory that it names."""
    inputs = {network._net.get_input(index).name: network._net.get_input(index) for index in range(network.num_inputs)}
    names = list(inputs)
    for number in range(_MOST_BATCHES):
        addresses = calibrator.get_batch(names)
        if not addresses:
            return
        if len(addresses) != len(names):
            raise InputError(
                f"calibrator batch {number}: expected an address for each of {names}, got {len(addresses)}"
            )
        yield {
            name: array_at(int(address), inputs[name].dtype, shapes[name], f"calibrator batch {number}, input {name!r}")
            for name, address in zip(names, addresses, strict=True)
        }


def _read_cache(calibrator: Any) -> dict[str, float]:
    """What ``write_calibration_cache`` was given earlier, or a cache of TensorRT's; nothing for other bytes.

    Lines are "name: scale", the scale as the eight hexadecimal digits of a big-endian float32.
    """
    data = calibrator.read_calibration_cache()
    if data is None:
        return {}
    found = {}
    for line in bytes(data).decode("utf-8", errors="replace").splitlines()[1:]:
        name, _, digits = line.rpartition(": ")
        try:
            (scale,) = struct.unpack(">f", bytes.fromhex(digits.strip()))
        except (ValueError, struct.error):
            continue
        found[name] = float(scale) * 127.0
    return found


def _cache_bytes(amax: Mapping[str, float]) -> bytes:
    lines = [f"{name}: {struct.pack('>f', largest / 127.0).hex()}" for name, largest in amax.items()]
    return ("\n".join(["trine-calibration-1", *lines]) + "\n").encode()
