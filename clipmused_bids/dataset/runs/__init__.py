"""Finding the runs of a request: names, folders, filters, sidecars, spaces."""
