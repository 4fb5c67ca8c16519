"""Holdfast: a self-hosted digital wallet that goes on paying when things break."""

__version__ = "0.1.0"
