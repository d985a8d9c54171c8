"""Compiling for NVIDIA GPUs: groups, tactics, a memory plan, launches. See docs/cuda.md."""
