"""Bringing experts from storage: the I/O threads, the device they imitate, and predictors, one a file."""
