"""What the server of processes imports once for all workers that stand in."""

import tests.chaos.worker  # noqa: F401
