"""Plugins: there are none, and none can be added; the names are there for programs that ask.

A TensorRT plugin is a CUDA program. A registry without plugins, fields that can be filled, and clear refusals are what
programs meet here.
"""

from __future__ import annotations

import enum
from typing import Any

from trine.compat.tensorrt import options
from trine.compat.tensorrt.enums import TensorRTEnum
from trine.compat.tensorrt.eras import Checked
from trine.errors import UnsupportedError

__all__ = [
    "IPluginRegistry",
    "PluginCapabilityType",
    "PluginCreatorVersion",
    "PluginField",
    "PluginFieldCollection",
    "PluginFieldCollection_",
    "PluginFieldType",
    "TensorRTPhase",
    "get_builder_plugin_registry",
    "get_plugin_registry",
    "init_libnvinfer_plugins",
]


class PluginFieldType(TensorRTEnum):
    """What a plugin's field holds."""

    FLOAT16 = 0
    FLOAT32 = 1
    FLOAT64 = 2
    INT8 = 3
    INT16 = 4
    INT32 = 5
    CHAR = 6
    DIMS = 7
    UNKNOWN = 8
    BF16 = 9
    INT64 = 10
    FP8 = 11
    INT4 = 12
    FP4 = 13


class PluginCapabilityType(TensorRTEnum):
    """Which part of a plugin."""

    CORE = 0
    BUILD = 1
    RUNTIME = 2


class TensorRTPhase(TensorRTEnum):
    """When a plugin is made."""

    BUILD = 0
    RUNTIME = 1


@enum.unique
class PluginCreatorVersion(TensorRTEnum):
    """Which kind of plugin creator."""

    V1 = 0
    V1_PYTHON = 40


class PluginField:
    """A named value for a plugin."""

    name: Any = ""
    data: Any = None
    type: Any = PluginFieldType.UNKNOWN

    def __init__(self, name: Any = "", data: Any = None, type: Any = PluginFieldType.UNKNOWN) -> None:  # noqa: A002
        self.name, self.data, self.type = name, data, type

    @property
    def size(self) -> int:
        """How many values."""
        return 0 if self.data is None else len(self.data)


class PluginFieldCollection(list[PluginField]):
    """Values for a plugin."""


PluginFieldCollection_ = PluginFieldCollection


class IPluginRegistry(Checked):
    """The registry of plugins, in which there are none."""

    @property
    def plugin_creator_list(self) -> list[Any]:
        """Empty."""
        return []

    @property
    def all_creators(self) -> list[Any]:
        """Empty."""
        return []

    all_creators_recursive = all_creators

    def get_plugin_creator(self, type: str, version: str, plugin_namespace: str = "") -> None:  # noqa: A002
        """None: there is no such plugin."""

    def get_creator(self, type: str, version: str, plugin_namespace: str = "") -> None:  # noqa: A002
        """None: there is no such plugin."""

    def register_creator(self, creator: Any, plugin_namespace: str = "") -> bool:
        """Raises UnsupportedError: trine runs no plugins."""
        raise UnsupportedError("trine runs no TensorRT plugins; write the operator with the network's layers")

    def deregister_creator(self, creator: Any) -> bool:
        """False: it is not registered."""
        return False

    def load_library(self, plugin_path: str) -> None:
        """Raises UnsupportedError: trine runs no plugins."""
        raise UnsupportedError(f"trine loads no TensorRT plugin library; got {plugin_path}")

    def deregister_library(self, handle: Any) -> None:
        """Nothing: none is loaded."""

    def acquire_plugin_resource(self, key: str, resource: Any) -> None:
        """Raises UnsupportedError: trine runs no plugins."""
        raise UnsupportedError("trine runs no TensorRT plugins, so they share no resources")

    def release_plugin_resource(self, key: str) -> bool:
        """False: there is none."""
        return False

    error_recorder: Any = options.kept("error_recorder", None, "Kept.")
    parent_search_enabled = options.kept("parent_search_enabled", True, "Kept and shown.")


_registry = IPluginRegistry()


def get_plugin_registry() -> IPluginRegistry:
    """The registry, in which there are no plugins."""
    return _registry


def get_builder_plugin_registry(capability: Any = None) -> IPluginRegistry:
    """The registry, in which there are no plugins."""
    return _registry


def init_libnvinfer_plugins(logger: Any, namespace: str) -> bool:
    """True: programs call this first, whether or not they use a plugin."""
    return True
