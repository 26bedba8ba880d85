"""A Ray cluster of two nodes on this machine, of which one can be killed."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

_NODE: dict[str, Any] = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 80 * 2**20}
_NOTICES = {"health_check_period_ms": 500, "health_check_timeout_ms": 2000, "health_check_failure_threshold": 3}
"""Lets Ray notice a dead node in seconds."""
_ALONE = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_worker_niceness": "0",  # Ray's 15 would wait for whatever else this machine does
}


class TwoNodes:
    """A cluster on loopback, with its head on this machine and a second node on it, too."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        head = {**_NODE, "include_dashboard": False, "_system_config": _NOTICES}
        for left in (2, 1, 0):  # it gives up after 30 s, which a busy machine may need
            try:
                self.cluster = Cluster(initialize_head=True, head_node_args=head)
                break
            except Exception:
                if not left:
                    raise
        self._second = self.cluster.add_node(**_NODE)

    @property
    def address(self) -> str:
        """Where the cluster answers."""
        return str(self.cluster.address)

    @property
    def second(self) -> str:
        """The other node's id."""
        return str(self._second.node_id)

    def kill_second(self) -> None:
        """As when its machine loses power."""
        self.cluster.remove_node(self._second, allow_graceful=False)

    def mend(self) -> None:
        """A second node again, where it was killed."""
        if self._second not in self.cluster.list_all_nodes():
            self._second = self.cluster.add_node(**_NODE)


@contextlib.contextmanager
def two_nodes() -> Iterator[TwoNodes]:
    """The cluster, for as long as the block runs."""
    before = {name: os.environ.get(name) for name in _ALONE}
    os.environ.update(_ALONE)
    try:
        two = TwoNodes()
        try:
            yield two
        finally:
            two.cluster.shutdown()
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
