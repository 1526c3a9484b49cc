"""The load test's own locustfile in front of the stand-in."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import digest  # noqa: F401 - listens
from stand_in import install

from loadtest.locustfile import *  # noqa: F403 - the users and listeners under test

install()
