"""The user's own files: tables, images and CoNLL."""
