"""The HTTP API under /v1: parse, call one flow or query, render."""
