"""Kernels in Triton, each beside the tactic that launches it. Importing this package imports none of them."""
