"""Outages on purpose, by seed, judged."""
