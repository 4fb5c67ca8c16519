"""Providers that speak their real wire protocol and can be told to fail. Never in production."""
