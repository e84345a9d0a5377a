"""BOLD to one response per trial. Arrays in, arrays out: no files, no torch."""
