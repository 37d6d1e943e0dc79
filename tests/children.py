"""How tests start Python as a child process that takes every warning for an error."""

import sys

# JAX writes the programs it keeps in place: another process may read one that is half written, says so in a warning,
# and compiles it itself.
HALF_WRITTEN_PROGRAM = "ignore:Error reading persistent compilation cache entry"

STRICT_PYTHON = (sys.executable, "-W", "error", "-W", HALF_WRITTEN_PROGRAM)
