"""Ways of adapting a model, one file each."""
