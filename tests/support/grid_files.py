"""Grids as a user writes them."""

import yaml


def written(folder, content):
    """The file of a grid with that content: text, or parameters by name."""
    path = folder / "grid.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
    return path
