"""Environments written in JAX and stepped on the device."""
