"""Building plans with NVIDIA's TensorRT: the portable graph in, a plan of its own format out."""
