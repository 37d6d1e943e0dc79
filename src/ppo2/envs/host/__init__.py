"""Environments on the host: the vector environment, its workers, failures and replay."""
