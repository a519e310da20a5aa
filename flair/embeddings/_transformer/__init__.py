"""The parts of :mod:`flair.embeddings.transformer`: loading, inputs, chunking, pooling, adapters."""
