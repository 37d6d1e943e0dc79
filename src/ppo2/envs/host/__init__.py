"""Environments on the host: the vector environment, its workers, failures and replay. README.md is a guide."""
