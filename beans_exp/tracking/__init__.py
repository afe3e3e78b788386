"""Everything that imports MLflow: stores, runs, models and sweeps, written and read."""
