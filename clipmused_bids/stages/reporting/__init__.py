"""From what a run found and left in the output folder to the reports that people open."""
