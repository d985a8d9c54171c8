"""Fusion: groups absorb the pointwise work around them."""

from trine.backends.cuda.fusion.fuse import fuse

__all__ = ["fuse"]
