"""ParserError: what the ONNX parser and refitter keep of what they could not take."""

from __future__ import annotations

from typing import Any

from trine.compat.tensorrt.enums import current
from trine.compat.tensorrt.eras import Checked

__all__ = ["ParserError"]


class ParserError(Checked):
    """One thing that the parser could not take."""

    def __init__(self, code: str, desc: str, node: int = -1, name: str = "", operator: str = "") -> None:
        self._code, self._desc, self._node, self._name, self._operator = code, desc, node, name, operator

    def code(self) -> Any:
        """A member of ErrorCode."""
        members = current("ErrorCode").__members__
        return members.get(self._code, members["UNSUPPORTED_NODE"])

    def desc(self) -> str:
        """What is wrong, in words."""
        return self._desc

    def node(self) -> int:
        """The node's number; -1 where it is the whole model."""
        return self._node

    def node_name(self) -> str:
        """The node's name."""
        return self._name

    def node_operator(self) -> str:
        """The node's operator."""
        return self._operator

    def file(self) -> str:
        """The source file that found it."""
        return "onnx_parser.py"

    def line(self) -> int:
        """0: not kept."""
        return 0

    def func(self) -> str:
        """The function that found it."""
        return "parse"

    def local_function_stack(self) -> list[str]:
        """An empty list: functions are inlined."""
        return []

    def local_function_stack_size(self) -> int:
        """0: functions are inlined."""
        return 0

    def __str__(self) -> str:
        where = ""
        if self._node >= 0:
            where = f"In node {self._node} with name: {self._name} and operator: {self._operator} "
        return f"{where}({self.func()}): {self._code}: {self._desc}"

    __repr__ = __str__
