"""Events of runs: which rows are trials, when, and of which stimulus."""
