"""Lowering: the portable graph, for one number of rows, as groups that kernels can compute."""

from trine.backends.cuda.lowering.lower import Lowered, lower
from trine.backends.cuda.lowering.weights import Weights

__all__ = ["Lowered", "Weights", "lower"]
