"""Reports of a run: tables, logs, the terminal, learning curves, warnings about its health."""
