"""trine: a trained PyTorch model to fast, verified inference in three steps: import, build, run."""
