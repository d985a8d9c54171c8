"""Runtime: from a plan's bytes to an engine. Needs neither onnx nor torch."""

from __future__ import annotations

import tempfile
from typing import Any

from trine.compat.tensorrt import options
from trine.compat.tensorrt.engine import ICudaEngine
from trine.compat.tensorrt.enums import mask_of_all
from trine.compat.tensorrt.eras import Checked
from trine.compat.tensorrt.interfaces import IStreamReader, IStreamReaderV2
from trine.compat.tensorrt.logger import Reporter
from trine.errors import TrineError

__all__ = ["Runtime"]

_CHUNK = 1 << 24


class Runtime(Checked):
    """Makes engines from plans, which are trine's engine files."""

    def __init__(self, logger: Any) -> None:
        self._reporter = Reporter(logger)
        self._max_threads = 0
        self.temporary_directory = tempfile.gettempdir()
        self._control_flags = 3

    def deserialize_cuda_engine(self, serialized_engine: Any) -> ICudaEngine | None:
        """The engine in these bytes, or behind this stream reader. None, with a log entry, where they are no engine."""
        from trine.runtime.runtime import load

        where = "IRuntime::deserializeCudaEngine"
        if serialized_engine is None:
            self._reporter.error(where, "expected a plan's bytes, got None: did the build fail?")
            return None
        data = _read_all(serialized_engine)
        try:
            engine = load(data, threads=self._max_threads or None)
        except TrineError as err:
            self._reporter.failed(where, err)
            return None
        return ICudaEngine(engine, self._reporter.logger, self._reporter.recorder)

    logger = options.logger
    error_recorder = options.error_recorder
    gpu_allocator: Any = options.kept("gpu_allocator", None, "Kept, never called: there is no device memory.")
    max_threads = options.threads("IRuntime", "How many threads an engine's call uses; 0 for what it was built with.")
    DLA_core = options.kept("DLA_core", -1, "Which DLA; there is none.")

    @property
    def num_DLA_cores(self) -> int:  # noqa: N802  # TensorRT's spelling
        """0: there is no DLA."""
        return 0

    temporary_directory = options.kept("temporary_directory", "", "Where temporary files would go. trine writes none.")

    @property
    def tempfile_control_flags(self) -> int:
        """A mask of TempfileControlFlags. trine writes no temporary files."""
        return self._control_flags

    @tempfile_control_flags.setter
    def tempfile_control_flags(self, flags: int) -> None:
        self._control_flags = int(flags) & mask_of_all("TempfileControlFlag")

    engine_host_code_allowed = options.kept(
        "engine_host_code_allowed", False, "Whether plans may bring code. trine's never do."
    )

    def load_runtime(self, path: str) -> Runtime | None:
        """Refused: engines of trine need no other runtime."""
        self._reporter.error("IRuntime::loadRuntime", "trine loads no other runtime's library", "UNSUPPORTED_STATE")
        return None

    def get_plugin_registry(self) -> Any:
        """The registry, in which there are no plugins."""
        from trine.compat.tensorrt.plugins import get_plugin_registry

        return get_plugin_registry()

    def __enter__(self) -> Runtime:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing: engines outlive the runtime that made them."""


def _read_all(source: Any) -> bytes:
    """The bytes of a buffer or of a stream reader. Raises TypeError for anything else."""
    pieces = []
    if isinstance(source, IStreamReaderV2):
        while piece := source.read(_CHUNK, 0):
            pieces.append(bytes(piece))
    elif isinstance(source, IStreamReader):
        while piece := source.read(_CHUNK):
            pieces.append(bytes(piece))
    else:
        return source if type(source) is bytes else bytes(memoryview(source))
    return b"".join(pieces)
