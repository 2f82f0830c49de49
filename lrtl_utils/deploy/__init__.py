"""A trained model leaves: exported, described, used."""
