"""Examples and splits: named data sets, and the user's own files."""
