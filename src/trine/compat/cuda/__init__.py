"""cuda-python's names over host memory: a stand-in for machines without an NVIDIA GPU.

    python -m trine.compat.run program.py        # its `from cuda.bindings import driver, runtime` finds these modules
    from trine.compat.cuda.bindings import runtime as cudart   # in a program that can be edited

What TensorRT programs ask of it is here: memory, copies, streams, events, devices and contexts. Calls answer as
cuda-python's do, with a tuple that begins with an error code; the reason of an error is logged besides. Work on a
stream is done when the call that asks for it returns. ``cuda.cuda``, ``cuda.cudart`` and ``cuda.nvrtc`` are the
older names of ``cuda.bindings.driver``, ``runtime`` and ``nvrtc``.
"""
