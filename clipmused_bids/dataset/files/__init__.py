"""Formats and the file system: whole-or-absent writes, tables, JSON, arrays, HDF5, what is really there."""
