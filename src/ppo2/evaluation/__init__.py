"""Evaluating and playing a trained model."""
