"""Engines whose plan NVIDIA's TensorRT built: the plan, the package that runs it, and the run."""
