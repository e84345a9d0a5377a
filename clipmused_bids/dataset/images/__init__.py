"""NIfTI images and the confounds beside them: read in order, checked, masked, smoothed, resampled."""
