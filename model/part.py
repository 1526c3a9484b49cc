"""What a room contributes to the platform's network. Rooms never see each other; `platform.py` puts the parts together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.network import Cache, Milestone, Operation, Quota, Steps, Topic
from model.scenario import Scenario

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """Operations, topics, caches and quotas that a room declares, the milestones they reach, the attributes they read."""

    operations: tuple[Operation, ...]
    topics: tuple[Topic, ...] = ()
    milestones: tuple[Milestone, ...] = ()
    attributes: tuple[str, ...] = ()
    caches: tuple[Cache, ...] = ()
    quotas: tuple[Quota, ...] = ()


def topic_of(scenario: Scenario, name: str, steps: Steps, *, workers: str) -> Topic:
    """A topic with the scenario's settings; its group is as large as the station `workers` has servers."""
    settings = scenario.topics[name]
    return Topic(
        name,
        steps,
        partitions=settings.partitions,
        linger_s=settings.linger_s,
        batch_max=settings.batch_max,
        acknowledgement=scenario.service_times["kafka_acknowledgement"],
        consumers=scenario.stations[workers].servers,
        poll_max=settings.poll_max,
        poll_wait_s=settings.poll_wait_s,
        session_timeout_s=settings.session_timeout_s,
        workers=workers,
    )
