"""The name that cuda-python 11 and 12 had for ``cuda.bindings.runtime``."""

from __future__ import annotations

from trine.compat.cuda.bindings import runtime as _runtime
from trine.compat.cuda.bindings.runtime import *  # noqa: F403

__all__ = list(_runtime.__all__)  # the same names
