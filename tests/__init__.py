"""Tests: folders as in `src/ppo2`; what several of them use is in `support/`."""
