"""Which part holds the objectives back: how their figures move when a part gets more, by finite differences.

Each part is given one more server, each station is also made a tenth faster, and the same replications are run again with
common random numbers. An elasticity is the relative change of a figure per relative change of what the part can do: −1 means
that one percent more capacity takes one percent off. Only the part that is the bottleneck has one far from 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from model.capacity import Capacity, with_faster, with_servers
from model.replications import Progress, Replicator, compare
from model.scenario import Scenario
from model.statistics import Interval

FASTER = 0.9  # of the service time


@dataclass(frozen=True)
class Effect:
    """What a change of one part does to one figure: the paired difference and the elasticity.

    `change` is `one more server` or `10 % faster`. `real` holds over all effects of the analysis together (Holm).
    """

    part: str
    change: str
    figure: str
    before: float
    difference: Interval
    elasticity: float
    real: bool


def effects(
    replicator: Replicator,
    scenario: Scenario,
    parts: Sequence[Capacity],
    figures: Sequence[str],
    replications: int,
    progress: Progress | None = None,
) -> list[Effect]:
    """All effects on `figures`, the strongest real ones first. Raises `ValueError` for an unknown figure."""
    changes: list[tuple[Capacity, str, float, Scenario]] = []
    for part in parts:
        if part.most is None or part.servers < part.most:
            more = with_servers(scenario, {part.name: part.servers + 1})
            changes.append((part, "one more server", math.log1p(1 / part.servers), more))
        if part.kind == "station":
            changes.append((part, "10 % faster", -math.log(FASTER), with_faster(scenario, part.name, FASTER)))
    base, *others = replicator.of_all([scenario, *(change[3] for change in changes)], replications, progress)
    unknown = [name for name in figures if name not in base.names]
    if unknown:
        raise ValueError(f"no figure {unknown[0]!r} in the results")
    found = []
    for (part, change, step, _), other in zip(changes, others, strict=True):
        for one in compare(base, other, figures):
            ratio = one.b / one.a if one.a > 0 else math.nan
            elasticity = math.log(ratio) / step if ratio > 0 else math.nan
            real = one.p_adjusted * len(changes) <= 0.05  # Bonferroni over the changes, Holm within each
            found.append(Effect(part.name, change, one.name, one.a, one.difference, elasticity, real))
    return sorted(found, key=lambda one: (not one.real, -abs(one.elasticity) if math.isfinite(one.elasticity) else 0.0))
