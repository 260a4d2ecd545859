"""scripts/bench, once it has an interpreter."""

import signal
import sys
from pathlib import Path

# Run by its path, so that paths on the command line stay relative to where the caller stands.
sys.path[0] = str(Path(__file__).resolve().parents[2])

from scripts.benchmarks.command import main  # noqa: E402

# What a benchmark started, it ends on its way out.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
sys.exit(main())
