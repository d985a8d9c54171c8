"""Is the engine still right? ``trine.verify(engine, model, inputs)`` compares it with its source.

    report = trine.verify(engine, model, inputs)
    print(report)                      # a table: errors, top-1 agreement, budget, pass or fail
    report.passed, report.relative_error, report.top1_agreement

The name is both this package and that function: the module can be called. The function is
``trine.verify.verify_engine.verify``, and its documentation is there.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from trine.engine.engine import Engine
    from trine.verify.report import Report

__all__: list[str] = []


class _CallableModule(ModuleType):
    """This package. Python has no other way for ``trine.verify`` to be a folder and a function at once."""

    def __call__(
        self, engine: Engine, model: Any, inputs: Any = None, *, tolerance: float | None = None, seed: int = 0
    ) -> Report:
        from trine.verify.verify_engine import verify

        run: Callable[..., Report] = verify
        return run(engine, model, inputs, tolerance=tolerance, seed=seed)


sys.modules[__name__].__class__ = _CallableModule
