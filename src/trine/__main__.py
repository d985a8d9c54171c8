"""``python -m trine``: the same as the command ``trine``."""

from __future__ import annotations

from trine.cli.main import process

if __name__ == "__main__":
    process()
