"""All methods on simulated studies, in memory: ``python -m clipmused_bids.simulation.benchmark OUT``."""
