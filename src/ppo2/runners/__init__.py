"""Runners: collecting rollouts from environments with a model's policy."""
