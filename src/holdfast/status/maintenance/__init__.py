"""Planned maintenance: told in time, checked against busy days, started, verified and ended by itself."""
