"""Private parts of :mod:`flair.file_utils`: downloads and archives."""
