"""A cluster of three Valkeys that share the 16,384 slots, without replicas."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Self

from rewriter_engines.errors import EngineError
from rewriter_engines.process import POLL_S
from rewriter_engines.valkey import Valkey

SLOTS = 16384
NODES = 3
JOIN_DEADLINE_S = 20.0


class ValkeyCluster:
    """Three joined nodes on 127.0.0.1, each of which can be stopped, killed and paused. Raises the errors of `Valkey`."""

    def __init__(self) -> None:
        self.nodes: list[Valkey] = []
        try:
            for _ in range(NODES):
                self.nodes.append(Valkey(cluster=True))
            self._join()
        except BaseException:
            self.close()
            raise

    @property
    def urls(self) -> list[str]:
        """The URLs of the nodes."""
        return [node.url for node in self.nodes]

    def close(self) -> None:
        """End every node and remove its data. Safe to call twice."""
        for node in self.nodes:
            node.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _join(self) -> None:
        bounds = [SLOTS * node // NODES for node in range(NODES + 1)]
        for epoch, (node, (first, end)) in enumerate(zip(self.nodes, pairwise(bounds), strict=True), start=1):
            with node.client() as client:
                client.execute_command("CLUSTER ADDSLOTSRANGE", first, end - 1)
                # Nodes that meet with equal epochs must first agree on an order, which takes seconds.
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", epoch)
        with self.nodes[0].client() as client:
            for node in self.nodes[1:]:
                client.execute_command("CLUSTER MEET", "127.0.0.1", node.port, node.cluster_port)
        late_at = time.monotonic() + JOIN_DEADLINE_S
        while not all(map(_sees_all, self.nodes)):
            if time.monotonic() > late_at:
                raise EngineError(f"the Valkey cluster did not form within {JOIN_DEADLINE_S:g} s")
            time.sleep(POLL_S)


def _sees_all(node: Valkey) -> bool:
    with node.client() as client:
        info = client.cluster("info")
    return bool(info["cluster_state"] == "ok" and info["cluster_known_nodes"] == str(NODES))
