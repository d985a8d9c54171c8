"""The other ways to run a model, for ``trine bench --vs``: as their own guides say to call them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trine.cli.measure import Runner
from trine.cli.parser import UsageError, nearest
from trine.errors import BuildError, ConfigError, InputError, MissingDependencyError

if TYPE_CHECKING:
    from trine.cli.sources import Source
    from trine.engine.engine import Engine

__all__ = ["PEERS", "PeerModel", "make_peer", "outputs_of", "parse_peers", "peer_model"]

Arrays = Mapping[str, np.ndarray[Any, Any]]

PEERS = ("torch", "onnxruntime", "openvino")


def parse_peers(text: str) -> tuple[str, ...]:
    """``"torch,openvino"`` as names of PEERS, each once. Raises UsageError."""
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    for name in names:
        if name not in PEERS:
            guess = nearest(name, PEERS)
            hint = f"did you mean {guess}?" if guess else f"known: {', '.join(PEERS)}"
            raise UsageError(f"--vs: unknown {name!r}; {hint}")
    return names


@dataclass(frozen=True)
class PeerModel:
    """The ONNX that the ONNX peers get, and what to call it."""

    onnx: str | bytes  # a path, or a whole model
    what: str


def peer_model(engine: Engine, source: Source | None) -> PeerModel:
    """The source's own ONNX where it is given; else the engine's graph, which trine's passes have changed."""
    if source is None:
        return PeerModel(engine.graph.inline(), "the engine's portable graph, after trine's passes (no --source)")
    if source.is_onnx:
        return PeerModel(str(source.model), f"the original {source.text}")
    import onnx_ir as ir

    from trine.importers import import_model

    axes = {
        info.name: {axis: dim for axis, dim in enumerate(info.shape) if isinstance(dim, str)} for info in engine.inputs
    }
    imported = import_model(source.model, source.example_inputs, dynamic_axes=axes)
    model = ir.to_proto(imported.model).SerializeToString()
    return PeerModel(model, f"{source.text} as exported by PyTorch, before trine's passes")


def make_peer(
    name: str,
    engine: Engine,
    model: PeerModel | None,
    source: Source | None,
    inputs: Arrays,
    *,
    threads: int,
) -> Runner:
    """The runner of one of PEERS, with ``threads`` threads, ready to be called.

    Raises MissingDependencyError when it is not installed, BuildError when it refuses the model.
    """
    try:
        if name == "torch":
            return _torch(engine, source, inputs, threads)
        assert model is not None  # made for the others
        if name == "onnxruntime":
            return _onnxruntime(model, inputs, threads)
        return _openvino(model, inputs, threads, engine.manifest.precision)
    except ImportError as err:
        if isinstance(err, MissingDependencyError):
            raise
        install = "'trine[torch]'" if name == "torch" else name
        raise MissingDependencyError(f"--vs {name}: it is not installed: pip install {install}") from err


def _torch(engine: Engine, source: Source | None, inputs: Arrays, threads: int) -> Runner:
    if source is None or source.is_onnx:
        raise UsageError("--vs torch needs the PyTorch model: --source package.module:callable")
    import torch

    from trine.structure import rebuild_call

    torch.set_num_threads(threads)
    module = source.model.eval()
    tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
    structure = engine.manifest.input_structure
    args, kwargs = (tuple(tensors.values()), {}) if structure is None else rebuild_call(structure, tensors)

    def call() -> Any:
        with torch.inference_mode():
            return module(*args, **kwargs)

    return Runner("torch", call, f"PyTorch {torch.__version__} eager, inference_mode")


def _onnxruntime(model: PeerModel, inputs: Arrays, threads: int) -> Runner:
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.log_severity_level = 4
    try:
        session = ort.InferenceSession(model.onnx, settings, providers=["CPUExecutionProvider"])
    except Exception as err:  # its exceptions have no common base below Exception
        raise BuildError(f"--vs onnxruntime: it refuses the model: {err}") from err
    names = [entry.name for entry in session.get_inputs()]
    feeds = _rename(inputs, names, "onnxruntime")
    return Runner("onnxruntime", lambda: session.run(None, feeds), f"ONNX Runtime {ort.__version__}, fp32 kernels")


def _openvino(model: PeerModel, inputs: Arrays, threads: int, precision: str) -> Runner:
    import io

    from trine.runtime.cpu.openvino_executor import PRECISION_HINTS, load_openvino, supported_precisions

    ov = load_openvino()
    core = ov.Core()
    hint = precision if precision in supported_precisions(core) else "fp32"
    settings = {
        "INFERENCE_PRECISION_HINT": PRECISION_HINTS[hint],
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
    }
    try:
        read = core.read_model(model.onnx if isinstance(model.onnx, str) else io.BytesIO(model.onnx))
        compiled = core.compile_model(read, "CPU", settings)
    except RuntimeError as err:
        raise BuildError(f"--vs openvino: it refuses the model: {err}") from err
    feeds = _rename(inputs, [port.get_any_name() for port in compiled.inputs], "openvino")
    request = compiled.create_infer_request()
    return Runner(
        "openvino", lambda: request.infer(feeds, share_inputs=True), f"OpenVINO {ov.__version__.split('-')[0]}, {hint}"
    )


def _rename(inputs: Arrays, names: Sequence[str], peer: str) -> dict[str, np.ndarray[Any, Any]]:
    """The engine's inputs by the peer's names: by name where they agree, else in order."""
    for name, array in inputs.items():
        if array.dtype.kind == "V" or array.dtype.name.startswith(("bfloat", "float8")):
            raise InputError(f"--vs {peer}: input {name!r} is {array.dtype}, which NumPy cannot hand to it")
    if set(names) <= set(inputs):
        return {name: inputs[name] for name in names}
    if len(names) != len(inputs):
        raise ConfigError(f"--vs {peer}: the model has inputs {list(names)}, the engine {list(inputs)}; check --source")
    return dict(zip(names, inputs.values(), strict=True))


def outputs_of(result: Any) -> list[np.ndarray[Any, Any]] | None:
    """What a runner's call gave, as arrays in order; None for nested outputs, which have no order to compare by."""
    if isinstance(result, Mapping):
        result = list(result.values())
    values = list(result) if isinstance(result, list | tuple) else [result]
    arrays = [value.numpy() if hasattr(value, "detach") else value for value in values]
    return arrays if all(isinstance(array, np.ndarray) for array in arrays) else None
