"""Train a model: stages, callback, checkpoints, and caches of frozen layers and heads."""
