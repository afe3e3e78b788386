"""Everything between Hydra and `run`: checks, messages, help and late imports."""
