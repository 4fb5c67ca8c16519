"""Tests of the platform."""  # noqa: A005 - it mirrors the package
