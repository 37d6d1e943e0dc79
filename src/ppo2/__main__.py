"""`python -m ppo2`."""

import sys

from ppo2.cli import main

if __name__ == "__main__":
    sys.exit(main())
