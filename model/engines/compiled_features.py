"""What a network may need of a kernel: the features, which network needs which, and which kernels there are.

A feature is a constant while a kernel is compiled (`kernel_compiler.py`): a network without hosts runs on a kernel in which there
is no word of hosts, which is shorter, faster and sooner made. This is the one place that decides it, from the tables.
"""

from __future__ import annotations

import numpy as np

from model import tables as t
from model.kernel_words import Feature

HOSTS = Feature("hosts")  # servers that are processes, run on hosts or are held
CACHES = Feature("caches")
TOPICS = Feature("topics")
TRIES = Feature("tries")  # attempts, deadlines, retries, budgets, breakers
CHILDREN = Feature("children")  # scatters and joins
SHARING = Feature("sharing")  # processor sharing

ALL = frozenset(feature.name for feature in (HOSTS, CACHES, TOPICS, TRIES, CHILDREN, SHARING))
KERNELS: tuple[frozenset[str], ...] = (  # from small to large; each is compiled when it is first needed
    frozenset(),
    frozenset({TOPICS.name, TRIES.name}),
    frozenset({CACHES.name, CHILDREN.name, TOPICS.name}),  # the platform
    ALL,
)
_OPERATIONS = {  # the rows that need a feature
    HOSTS: (t.HOLD, t.SERVE_HELD, t.RELEASE),
    CACHES: (t.LOOKUP, t.FILL, t.EVICT),
    TOPICS: (t.PUBLISH,),
    TRIES: (t.TRY, t.END_TRY),
    CHILDREN: (t.SCATTER, t.STAGGER, t.IF_WANTED),
}


def needed_by(tables: t.Tables) -> frozenset[str]:
    """The features of a network."""
    needed = {
        feature.name for feature, operations in _OPERATIONS.items() if np.isin(tables.steps["op"], operations).any()
    }
    for feature, present in (
        (HOSTS, tables.stations["tracked"].any()),
        (TOPICS, len(tables.topics) > 0),
        (SHARING, (tables.stations["discipline"] == t.PROCESSOR_SHARING).any()),
    ):
        if present:
            needed.add(feature.name)
    return frozenset(needed)


def covering(needed: frozenset[str]) -> frozenset[str]:
    """The features of the smallest kernel that has all that is needed."""
    return next(features for features in KERNELS if features >= needed)
