"""`python -m beans_exp.unpack`: add packed runs to the store of this folder."""
