"""MLflow's interface to the runs of a store, in a browser."""
