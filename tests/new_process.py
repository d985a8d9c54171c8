"""Programs that need an interpreter of their own: what they import, and how they end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["in_new_process"]

SRC = Path(__file__).resolve().parents[1] / "src"


def in_new_process(program: str) -> str:
    """What ``program`` prints. It must succeed, and leave stderr empty."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(SRC)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout.strip()
