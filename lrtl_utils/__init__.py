"""Low-resource transfer learning: the pieces of one run, its record, and the sweep that repeats it."""

__version__ = "0.1.0"
