"""Vocabulary that every storey above shares: money, ids, clock, errors, limits. Standard library only."""
