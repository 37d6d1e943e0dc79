"""Families of environments: the ids of each, its wrappers and its preset."""
