"""Layer by layer: write a graph by hand, or in the place of a call that a converter replaces."""

from trine.network.network import Layer, Network, Tensor
from trine.network.operations import ActivationType, ElementWiseOperation

__all__ = ["ActivationType", "ElementWiseOperation", "Layer", "Network", "Tensor"]
