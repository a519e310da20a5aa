"""Column files: from lines to rows, from rows to sentences, and the data sets and corpora made of them."""
