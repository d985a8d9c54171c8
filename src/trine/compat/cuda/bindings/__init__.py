"""``driver``, ``runtime`` and ``nvrtc``, as cuda-python has them."""
