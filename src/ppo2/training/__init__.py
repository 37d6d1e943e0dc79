"""Training: `learn` and the run directory."""
