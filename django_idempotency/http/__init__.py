"""The HTTP face: requests become operations, outcomes become responses."""
