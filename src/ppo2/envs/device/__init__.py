"""Environments in JAX, which are stepped on the device."""
