"""Finished runs as the report sees them: read, reduced, grouped by configuration."""
