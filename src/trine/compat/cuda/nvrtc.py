"""The name that cuda-python 11 and 12 had for ``cuda.bindings.nvrtc``."""

from __future__ import annotations

from trine.compat.cuda.bindings import nvrtc as _nvrtc
from trine.compat.cuda.bindings.nvrtc import *  # noqa: F403

__all__ = list(_nvrtc.__all__)  # the same names
