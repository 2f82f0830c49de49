"""Data sets and their splits: the named ones of the catalog, and a user's own files."""
