"""How tests start Python as a child process that takes every warning for an error."""

import sys

# JAX writes the programs it keeps in place: another process may read one that is half written, says so in a warning,
# and compiles it itself.
HALF_WRITTEN_PROGRAM = "ignore:Error reading persistent compilation cache entry"

# In other words than PYTHONWARNINGS has it (conftest.py): Python leaves out an option that is there already, and what
# comes last counts.
STRICT_PYTHON = (sys.executable, "-W", "error", "-W", f"{HALF_WRITTEN_PROGRAM}:UserWarning")
