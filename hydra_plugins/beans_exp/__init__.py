"""The plugin classes that Hydra looks for in this package; `beans_exp.sweep` and `beans_exp.launcher` do the work."""
