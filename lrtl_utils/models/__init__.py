"""Backbones as ordered blocks with a head."""
