"""CLIP-MUSED as a BIDS App: decode what several people saw from their fMRI."""

__version__ = "0.1.0"
