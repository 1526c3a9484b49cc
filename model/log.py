"""The log's brokers: who leads a partition must be there for anything to be appended to it.

Three brokers lead a third of the keys each. What an append takes is in the topic's acknowledgement; the stations `broker_a`,
`broker_b` and `broker_c` are there to be lost: whoever has something for a leader that is gone waits until another broker
leads its partitions. (Records without a key are appended where a leader is left.)
"""

from __future__ import annotations

import numpy as np

from model.network import Arm, Branch, Serve
from model.part import Floats
from model.scenario import Scenario

BROKERS = ("broker_a", "broker_b", "broker_c")
ATTRIBUTES = ("led_by_a", "led_by_b")
_SPREAD = 0.618_033_988_749_894_9  # the golden ratio spreads neighbouring keys evenly


def append(scenario: Scenario) -> Branch:
    """Ask the leader of the request's key."""
    time = scenario.service_times["broker_append"]
    broker_a, broker_b, broker_c = ((Serve(name, time),) for name in BROKERS)
    return Branch((Arm("led_by_a", broker_a), Arm("led_by_b", broker_b), Arm(1.0, broker_c)))


def leaders(keys: Floats) -> dict[str, Floats]:
    """Which broker leads each key: a third of them each."""
    place = np.floor(np.asarray(keys, dtype=float) * _SPREAD % 1.0 * len(BROKERS))
    return {"led_by_a": (place == 0).astype(float), "led_by_b": (place == 1).astype(float)}
