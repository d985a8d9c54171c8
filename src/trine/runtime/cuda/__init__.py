"""Running on an NVIDIA GPU: cubins, a memory plan and lists of launches, replayed as CUDA graphs. No torch, no triton."""
