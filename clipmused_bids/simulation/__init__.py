"""A generator with a known answer: scenes, brains, and the dataset they leave."""
