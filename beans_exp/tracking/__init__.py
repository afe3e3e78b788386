"""Everything that says `mlflow`: stores, runs, models and sweeps, written and read."""
