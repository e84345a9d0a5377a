"""Stimuli: pictures, labels, captions, features made elsewhere."""
