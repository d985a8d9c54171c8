"""The name that cuda-python 11 and 12 had for ``cuda.bindings.driver``."""

from __future__ import annotations

from trine.compat.cuda.bindings import driver as _driver
from trine.compat.cuda.bindings.driver import *  # noqa: F403

__all__ = list(_driver.__all__)  # the same names
