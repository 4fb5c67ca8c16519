"""Benchmarks: `python -m bench.NAME` prints a table and writes build/bench/NAME.json."""
