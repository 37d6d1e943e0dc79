"""Proximal Policy Optimization: arithmetic and records of arrays; no environment, file, process or model."""
