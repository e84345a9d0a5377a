"""Every decoding method behind one interface."""
