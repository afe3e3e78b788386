"""The classes that Hydra looks for in this package; their work is done in `beans_exp.sweep`."""
