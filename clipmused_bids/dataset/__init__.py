"""Everything on disk: finding and reading a BIDS dataset, and the output tree."""
