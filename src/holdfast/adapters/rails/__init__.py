"""One file per rail."""
