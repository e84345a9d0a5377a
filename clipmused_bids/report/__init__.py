"""Arrays in, figures and text out; files are written by the stages."""
