"""The only place that joins files with computation."""
