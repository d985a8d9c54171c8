"""Options for serialising engines and for making contexts."""

from __future__ import annotations

from typing import Any

from trine.compat.tensorrt.enums import current, mask_of, names_in
from trine.compat.tensorrt.eras import Checked

__all__ = ["IRuntimeConfig", "ISerializationConfig"]


class ISerializationConfig(Checked):
    """Options for ``ICudaEngine.serialize_with_config``. Made by ``create_serialization_config``."""

    def __init__(self) -> None:
        self._flags: set[str] = set()

    @property
    def flags(self) -> int:
        """A mask of the SerializationFlags set."""
        return mask_of("SerializationFlag", self._flags)

    @flags.setter
    def flags(self, mask: int) -> None:
        self._flags = names_in("SerializationFlag", mask)

    def set_flag(self, flag: Any) -> bool:
        """Set a flag."""
        self._flags.add(current("SerializationFlag")[flag.name].name)
        return True

    def clear_flag(self, flag: Any) -> bool:
        """Take a flag back."""
        self._flags.discard(flag.name)
        return True

    def get_flag(self, flag: Any) -> bool:
        """Whether a flag is set."""
        return flag.name in self._flags


class IRuntimeConfig(Checked):
    """Options for ``ICudaEngine.create_execution_context``. Made by ``create_runtime_config``."""

    def __init__(self) -> None:
        self._strategy = "STATIC"

    def set_execution_context_allocation_strategy(self, strategy: Any = None) -> None:
        """When device memory is allocated. Kept and shown: none is needed."""
        self._strategy = "STATIC" if strategy is None else strategy.name

    def get_execution_context_allocation_strategy(self) -> Any:
        """What was set."""
        return current("ExecutionContextAllocationStrategy")[self._strategy]
