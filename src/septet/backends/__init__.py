"""What reaches a model: one file per backend, heavy imports inside functions."""
