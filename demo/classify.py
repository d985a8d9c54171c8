"""The demo's second process: loads the engine and classifies the photos where PyTorch cannot be imported.

Usage: python demo/classify.py ENGINE ANSWERS.npz

It stands for the machine that the model is shipped to. Everything that only building needs is shut out before
trine is imported, so an import of it, however deep, would fail here and not pass unseen.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

BUILD_ONLY = ("torch", "torchvision", "onnx", "onnx_ir", "onnxscript", "triton")


class _ShutOut(MetaPathFinder):
    """Refuses the packages in BUILD_ONLY, whether or not they are installed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] in BUILD_ONLY:
            raise ModuleNotFoundError(f"{fullname}: this process only runs engines", name=fullname)
        return None


def main(engine_path: str, answers_path: str) -> None:
    """Classify every photo; writes the logits and the times in ms to ``answers_path``."""
    sys.meta_path.insert(0, _ShutOut())
    started = time.perf_counter()
    import trine

    engine = trine.load(engine_path)
    loaded = time.perf_counter()

    import numpy as np
    from photos import batch

    images = batch()
    called = time.perf_counter()
    logits = engine(images)
    answered = time.perf_counter()

    present = [name for name in BUILD_ONLY if name in sys.modules]
    if present:
        raise SystemExit(f"the process that only runs the engine has imported {', '.join(present)}")
    np.savez(answers_path, logits=logits, load_ms=(loaded - started) * 1e3, run_ms=(answered - called) * 1e3)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
