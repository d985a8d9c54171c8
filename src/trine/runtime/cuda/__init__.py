"""Running on an NVIDIA GPU: cubins and lists of launches, replayed as CUDA graphs. No torch, no triton."""
