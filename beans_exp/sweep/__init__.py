"""Many runs as one: planned, launched through any Hydra launcher, and summed up in a table."""
