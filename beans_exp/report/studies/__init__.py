"""Studies: planned comparisons and printed figures, read from configuration files."""
