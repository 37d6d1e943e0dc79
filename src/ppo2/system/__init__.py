"""The operating system: signals, launchers, processors, files, JAX's settings."""
