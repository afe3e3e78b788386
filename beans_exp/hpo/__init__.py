"""Optuna's side of a search: spaces, samplers, pruners, storages and the shared study."""
