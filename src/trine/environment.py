"""The environment variables that trine reads; no other module reads one.

TRINE_DEBUG=1   the command line prints the traceback of every error
"""

from __future__ import annotations

import os

__all__ = ["debug"]


def debug() -> bool:
    """Whether TRINE_DEBUG is set to anything but "", "0", "no", "off" or "false"."""
    return os.environ.get("TRINE_DEBUG", "").strip().lower() not in ("", "0", "no", "off", "false")
