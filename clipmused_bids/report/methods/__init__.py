"""Methods text of a run: what was done, with its numbers and citations, and nothing that was not done."""
