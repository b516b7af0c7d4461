"""``python -m hosts.simulator``: the simulator without Django's start-up time and memory."""

from __future__ import annotations

import sys

from hosts.simulator.cli import main

sys.exit(main())
