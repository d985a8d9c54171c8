"""As much of cuda.bindings.driver as ``Driver`` calls, with statuses that tests choose."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


class Status(int):
    """As the bindings' enumeration: a number with a name."""

    name: str

    def __new__(cls, number: int, name: str) -> Status:
        made = super().__new__(cls, number)
        made.name = name
        return made


SUCCESS = Status(0, "CUDA_SUCCESS")


class FakeBindings:
    """``fail``: {function: name of the status}. ``calls``: what was called, with its arguments."""

    CUdevice_attribute = SimpleNamespace(
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR="major",
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR="minor",
        CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN="shared",
    )
    CUpointer_attribute = SimpleNamespace(
        CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL="ordinal", CU_POINTER_ATTRIBUTE_IS_MANAGED="managed"
    )
    CUDA_KERNEL_NODE_PARAMS = SimpleNamespace
    CUkernelNodeAttrID = SimpleNamespace(CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION="cluster")
    CUgraphEdgeData = SimpleNamespace
    CUgraphDependencyType = SimpleNamespace(CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC=1)
    CU_GRAPH_KERNEL_NODE_PORT_PROGRAMMATIC = 1
    CUfunction_attribute = SimpleNamespace(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES="shared")

    def __init__(self, gpus: int = 1, capability: tuple[int, int] = (9, 0)) -> None:
        self.fail: dict[str, str] = {}
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self._answers = {
            "cuDeviceGetCount": lambda: gpus,
            "cuDeviceGet": lambda ordinal: ordinal,
            "cuDeviceGetAttribute": lambda kind, device: {
                "major": capability[0],
                "minor": capability[1],
                "shared": 101376,
            }[kind],
            "cuDeviceGetName": lambda size, device: b"NVIDIA Test\0\0",
            "cuMemGetInfo": lambda: (3 << 20, 8 << 20),
            "cuStreamIsCapturing": lambda stream: 0,
        }

    @staticmethod
    def CUkernelNodeAttrValue() -> SimpleNamespace:  # noqa: N802 - the bindings' name
        return SimpleNamespace(clusterDim=SimpleNamespace())

    def answer(self, name: str, value: Any) -> None:
        """From now on."""
        self._answers[name] = lambda *args: value

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("cu"):
            raise AttributeError(name)

        def call(*args: Any) -> tuple[Any, ...]:
            self.calls.append((name, args))
            if name in self.fail:
                return (Status(1, self.fail[name]), None)
            answer = self._answers.get(name, lambda *args: 4096)(*args)
            return (SUCCESS, *answer) if isinstance(answer, tuple) else (SUCCESS, answer)

        return call
