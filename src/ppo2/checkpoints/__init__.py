"""Checkpoints: one safetensors file each, without code."""
