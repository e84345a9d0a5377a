"""What makes a score believable: splits, the leakage audit, metrics with their floors, and intervals."""
