"""The API of the status service, by what it is about."""
