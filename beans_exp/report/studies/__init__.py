"""Studies: what was planned and printed, read from configuration files."""
