"""`python -m beans_exp.unpack`: runs from a packed file, brought into the store of this folder."""
