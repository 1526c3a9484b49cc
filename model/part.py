"""What a room contributes to the platform's network. Rooms never see each other; `platform.py` puts the parts together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.network import Cache, Milestone, Operation, Quota, Topic

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
