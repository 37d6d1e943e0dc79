"""Sweeps: many trainings, one after another, side by side, or in one program."""
