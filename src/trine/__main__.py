"""``python -m trine``: the same as the command ``trine``."""

from __future__ import annotations

import sys

from trine.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
