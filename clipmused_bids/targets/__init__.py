"""Stimuli to CLIP features and similarity matrices."""
