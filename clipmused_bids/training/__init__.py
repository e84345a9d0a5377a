"""Batches, the training loop, and what it watches."""
