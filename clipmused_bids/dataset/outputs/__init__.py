"""The output tree: where every file lies, and how each is written and read back."""
