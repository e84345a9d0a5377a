"""Movies: frames, samples in runs, annotations and labels over time."""
