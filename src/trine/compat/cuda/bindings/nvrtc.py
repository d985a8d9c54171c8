"""The part of nvrtc that programs need to check errors. There is no compiler: kernels cannot run on the CPU."""

from __future__ import annotations

import enum
from typing import Any

from trine.compat.cuda.answers import missing

__all__ = ["nvrtcGetErrorString", "nvrtcResult"]


class nvrtcResult(enum.IntEnum):  # noqa: N801  # nvrtc's name
    """Error codes, with nvrtc's numbers."""

    NVRTC_SUCCESS = 0
    NVRTC_ERROR_OUT_OF_MEMORY = 1
    NVRTC_ERROR_PROGRAM_CREATION_FAILURE = 2
    NVRTC_ERROR_INVALID_INPUT = 3
    NVRTC_ERROR_INVALID_PROGRAM = 4
    NVRTC_ERROR_INVALID_OPTION = 5
    NVRTC_ERROR_COMPILATION = 6
    NVRTC_ERROR_INTERNAL_ERROR = 11


def nvrtcGetErrorString(result: nvrtcResult) -> tuple[nvrtcResult, bytes]:  # noqa: N802
    """The name of an error."""
    return nvrtcResult.NVRTC_SUCCESS, nvrtcResult(result).name.encode()


def __getattr__(name: str) -> Any:
    raise missing(__name__, name)
