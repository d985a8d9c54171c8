"""Functions of single numbers that ONNX has no operator for: sign bits, shifts, and special functions by series."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

__all__ = ["TABLE"]

aten = torch.ops.aten


def signbit(x: torch.Tensor) -> torch.Tensor:
    """Negative, or the zero that is: one over it is -inf."""
    if not x.is_floating_point():
        return x < 0
    return (x < 0) | ((x == 0) & (x.reciprocal() < 0))


def copysign(x: torch.Tensor, sign: torch.Tensor) -> torch.Tensor:
    """``x`` with the sign of ``sign``, a negative zero's too."""
    x, sign = (each if each.is_floating_point() else each.to(torch.get_default_dtype()) for each in (x, sign))
    return torch.where(signbit(sign), -x.abs(), x.abs())


def left_shift(x: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
    """ONNX shifts unsigned integers alone: times a power of two."""
    return x * torch.pow(2, by).to(x.dtype)


def right_shift(x: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
    """Divided by a power of two, rounded down, as a shift that keeps the sign is."""
    return torch.div(x, torch.pow(2, by).to(x.dtype), rounding_mode="floor")


def complex_exp(x: torch.Tensor) -> Any:
    """``exp`` of a complex number, from the real functions."""
    if not x.is_complex():
        return NotImplemented
    length = x.real.exp()
    return torch.complex(length * x.imag.cos(), length * x.imag.sin())


# Lanczos' approximation of the gamma function with g = 7: the coefficients as widely tabulated, good to 1e-15.
_LANCZOS = (
    676.5203681218851,
    -1259.1392167224028,
    771.32342877765313,
    -176.61502916214059,
    12.507343278686905,
    -0.13857109526572012,
    9.9843695780195716e-6,
    1.5056327351493116e-7,
)


def lgamma(x: torch.Tensor) -> torch.Tensor:
    """Logarithm of the gamma function's size; for numbers below 1/2 from its value at 1 - x. Computed in float64.

    The series' terms cancel near the function's zeros at 1 and 2, where float32 would keep few digits.
    """
    given = x.dtype if x.is_floating_point() else torch.get_default_dtype()
    x = x.to(torch.float64)
    mirrored = x < 0.5
    at = torch.where(mirrored, 1 - x, x) - 1
    series = torch.full_like(at, 0.99999999999980993)
    for index, coefficient in enumerate(_LANCZOS):
        series = series + coefficient / (at + (index + 1))
    top = at + 7.5
    value = 0.5 * math.log(2 * math.pi) + (at + 0.5) * top.log() - top + series.log()
    fraction = x - x.floor()  # of sin(pi x) only the size matters, which has the period 1
    reflected = math.log(math.pi) - (math.pi * fraction).sin().abs().log() - value
    value = torch.where(mirrored, reflected, value)
    pole = (x <= 0) & (fraction == 0)
    return torch.where(pole | x.isinf(), torch.inf, value).to(given)


def digamma(x: torch.Tensor) -> torch.Tensor:
    """The derivative of ``lgamma``: Stirling's series at x + 8, carried down to x; mirrored below 0. In float64."""
    given = x.dtype if x.is_floating_point() else torch.get_default_dtype()
    x = x.to(torch.float64)
    mirrored = x < 0
    at = torch.where(mirrored, 1 - x, x)
    value = torch.zeros_like(at)
    for step in range(8):
        value = value - 1 / (at + step)
    high = at + 8
    inverse = 1 / (high * high)
    tail = inverse * (1 / 12 - inverse * (1 / 120 - inverse * (1 / 252 - inverse * (1 / 240 - inverse / 132))))
    value = value + high.log() - 0.5 / high - tail
    fraction = x - x.floor()
    value = torch.where(mirrored, value - math.pi * (math.pi * fraction).cos() / (math.pi * fraction).sin(), value)
    value = torch.where(mirrored & (fraction == 0), torch.nan, value)
    return torch.where(x == 0, torch.where(signbit(x), torch.inf, -torch.inf), value).to(given)


# M. Giles, "Approximating the erfinv function" (2010): polynomials for single precision, highest power first.
_MIDDLE = (
    *(2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087),
    *(-0.00125372503, -0.00417768164, 0.246640727, 1.50140941),
)
_ENDS = (
    *(-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773),
    *(-0.0076224613, 0.00943887047, 1.00167406, 2.83297682),
)


def erfinv(x: torch.Tensor) -> torch.Tensor:
    """The inverse of ``erf``, good to a few units in the last place of float32."""
    x = x if x.is_floating_point() else x.to(torch.get_default_dtype())
    inside = x.abs() < 1
    at = torch.where(inside, x, torch.zeros_like(x))
    w = -torch.log((1 - at) * (1 + at))
    middle, ends = w - 2.5, w.clamp(min=5).sqrt() - 3
    scale = torch.where(w < 5, _polynomial(middle, _MIDDLE), _polynomial(ends, _ENDS))
    return torch.where(inside, scale * at, torch.where(x.abs() == 1, x * torch.inf, torch.nan))


def _polynomial(x: torch.Tensor, coefficients: tuple[float, ...]) -> torch.Tensor:
    total = torch.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        total = total * x + coefficient
    return total


TABLE: dict[Any, Callable[..., Any]] = {
    aten.signbit.default: signbit,
    aten.copysign.Tensor: copysign,
    aten.__lshift__.Tensor: left_shift,
    aten.__rshift__.Tensor: right_shift,
    aten.exp.default: complex_exp,
    aten.lgamma.default: lgamma,
    aten.digamma.default: digamma,
    aten.erfinv.default: erfinv,
    aten.special_erfinv.default: erfinv,
    aten.special_gammaln.default: lgamma,
    aten.special_digamma.default: digamma,
}
