"""A Hydra launcher that runs each job in a process of its own; knows nothing of models or MLflow."""
