"""Flows: each walks through several domains, and through rails."""
