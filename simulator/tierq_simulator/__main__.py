"""``python -m tierq_simulator``."""

import sys

from tierq_simulator.run import main

sys.exit(main())
