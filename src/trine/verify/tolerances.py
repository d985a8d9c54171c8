"""The one table of accuracy budgets: how far an engine may be from its source, for each precision.

The budget bounds the *relative error* of an output: ``max|got - want| / max|want|`` (see ``metrics``).

Where the numbers come from. Write u for the unit roundoff of the format in which a layer's operands are
stored (half the gap between 1 and the next number: 2**-(p) for p significant bits). A rounding is a random
relative error of root mean square u/sqrt(3). A layer rounds its input, its weights and its output, so it
adds about sqrt(3) * u/sqrt(3) = u; errors of L layers add like a random walk, sqrt(L) * u. Deep classifiers
have L of 50 to 170 roundings on the way to their logits, so sqrt(L) is 7 to 13. Sums over K products add
sqrt(K) * u_acc, where the accumulator is fp32 in every format here; it only matters for fp32 itself.
Maximum over maximum behaves like the ratio of the root mean squares, as both maxima are the same few
standard deviations out. The budget is that estimate times about ten for fp32, where the promise can be
generous and still tiny, and close to it for the narrow formats, where it may not be.
"""

from __future__ import annotations

import math
from types import MappingProxyType

from trine.dtypes import DataType
from trine.errors import ConfigError

__all__ = ["BUDGETS", "FLUSHED_TO_ZERO", "INTEGER_SHARE", "TIE", "budget_for", "source_budget"]

BUDGETS = MappingProxyType(
    {
        # u = 2**-24 = 6e-8. Layers: sqrt(170) * u = 8e-7; sums: sqrt(K = 4608) * u = 4e-6, less when blocked;
        # both together, through a deep network, 1e-5. The project promises 1e-4.
        "fp32": 1e-4,
        # Operands of products rounded to 11 significant bits, u = 2**-11 = 4.9e-4; what is stored stays
        # fp32, so two roundings of three: sqrt(2/3) * sqrt(100) * u = 4e-3.
        "tf32": 5e-3,
        # u = 2**-11 = 4.9e-4: sqrt(170) * u = 6.4e-3.
        "fp16": 1e-2,
        # u = 2**-8 = 3.9e-3: sqrt(170) * u = 5.1e-2 in the deepest, 2.8e-2 in a ResNet-50.
        "bf16": 5e-2,
        # 255 even steps over a calibrated range: a step's error is 1/(255 * sqrt(12)) of the range =
        # 1.1e-3, and a signal's root mean square is about a fifth of its range: 5.7e-3 per rounding,
        # sqrt(170) * 5.7e-3 = 7.4e-2.
        "int8": 1e-1,
        # e4m3, u = 2**-4 = 6.3e-2, weights and inputs of products only, each scaled per tensor or channel.
        # The walk above would say 0.4 at L = 50, but residual paths stay in 16 bits, which leaves about
        # half.
        "fp8": 2.5e-1,
    }
)

TIE = BUDGETS["fp32"]
"""Two scores of one row closer than this, relative to the row's largest, are a tie for top-1 agreement.
It is fp32's budget in every precision: what a narrow format flips beyond that is real, and is shown."""

INTEGER_SHARE = 1e-3
"""The share of an integer output that may differ in fp32, where the float budget is smaller than this. It
makes an argmax over fewer than a thousand rows exact, yet lets a picture rounded to bytes have a few pixels
on the other side of a half: an error of 1e-6 of 255 levels flips 2 * 255e-6 = 5e-4 of them."""

FLUSHED_TO_ZERO = 2.0**-126
"""The smallest normal fp32 number. CPUs may flush what is smaller to zero, so smaller errors count as
none."""

_SOURCE_PRECISION = {DataType.FLOAT16: "fp16", DataType.BFLOAT16: "bf16"}


def budget_for(precision: str, override: float | None = None) -> float:
    """The largest relative error allowed at ``precision``; ``override``, when given, is checked and returned.

    Raises ConfigError for a precision that is not in the table, or a budget that is not a positive finite
    number.
    """
    if precision not in BUDGETS:
        raise ConfigError(f"precision {precision!r} has no accuracy budget; known: {', '.join(BUDGETS)}")
    if override is None:
        return BUDGETS[precision]
    if not (math.isfinite(override) and override > 0):
        raise ConfigError(f"accuracy_budget: expected a positive finite number, got {override!r}")
    return float(override)


def source_budget(dtype: DataType) -> float:
    """The budget that the source's own output dtype makes unavoidable: a half-precision model's answers are
    themselves only that good, however exactly the engine computes. 0 for fp32, fp64, integers and bools."""
    precision = _SOURCE_PRECISION.get(dtype)
    return 0.0 if precision is None else BUDGETS[precision]
