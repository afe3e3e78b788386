"""`python -m beans_exp.pack`: runs of a store as one file, without anything that names the machine."""
