"""Training: `learn` and `sweep`, and the run directory."""
