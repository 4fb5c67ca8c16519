"""Adapters: each speaks to one outside system."""
