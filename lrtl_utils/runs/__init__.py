"""One run: its notebook and its record."""
