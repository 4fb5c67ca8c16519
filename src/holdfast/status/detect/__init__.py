"""Detection: when do outcomes and probes say that something is wrong, where, and when is it over. Pure."""
