"""pycuda's names for programs that feed TensorRT, over host memory.

::

    import trine.compat.pycuda.autoinit
    import trine.compat.pycuda.driver as cuda

What is here behaves as pycuda does, with the same life cycle and the same exceptions; a use after free, a copy past the
end of a buffer and the like are refused where CUDA would report an error or crash. There is no GPU behind it: device
memory is host memory, and a stream's work is done when the call returns. Kernels and textures are not here.
"""

from __future__ import annotations

__all__ = ["VERSION", "VERSION_STATUS", "VERSION_TEXT"]

# The release of pycuda whose driver interface this follows.
VERSION = (2025, 1)
VERSION_STATUS = ""
VERSION_TEXT = ".".join(str(part) for part in VERSION) + VERSION_STATUS
