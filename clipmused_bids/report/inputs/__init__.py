"""What went into the decoder of one participant: runs, trials, stimuli, motion."""
