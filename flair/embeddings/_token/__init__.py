"""The token embeddings, one family a module; :mod:`flair.embeddings.token` is their public home."""
