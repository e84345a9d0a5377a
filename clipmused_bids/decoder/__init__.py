"""CLIP-MUSED as torch modules: patches, subject tokens, transformer blocks, losses."""
