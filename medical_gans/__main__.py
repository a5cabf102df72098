"""``python -m medical_gans``: the command, also for ``torchrun -m medical_gans``."""

import sys

from medical_gans.cli import main

if __name__ == "__main__":
    sys.exit(main())
