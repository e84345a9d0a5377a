"""What a run would do and need, and whether it can start: before anything is read in earnest or written."""
