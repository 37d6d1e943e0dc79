"""What a run reports: tables, logs, the terminal, learning curves, warnings about its health."""
