"""The producer's side of topics in the compiled engine; the namesakes in `plain_topics.py` say what each function means.

A record lives in the table `log`. It is linked into its partition's buffer, then into a shipment under way (known by its first
record), then into the partition's log, of which the first `fetched` records are with the partition's owner.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from model.engines.compiled_events import MACHINERY, schedule, what_of_machinery
from model.engines.compiled_group import catch_up_topic, partition_of, poll
from model.engines.compiled_lists import NONE, signed
from model.engines.compiled_tables import log, partitions, tasks, topics
from model.engines.compiled_tasks import PUBLISHED, note, ready, variate
from model.engines.order import ACKNOWLEDGE, LINGER
from model.kernel_cache import part
from model.variates import scrambled

ONE, ZERO = np.uint64(1), np.uint64(0)


@part
def new_record(sim: Any, i: int, key: float, weight: float) -> int:
    """A record of what the task publishes."""
    r = sim.free_record
    row, task = log(sim, r), tasks(sim, i)
    sim.free_record = row.next
    sim.idle_records -= 1
    row.request, row.path, row.ordinal, row.attributes = task.origin, task.path, task.ordinal, task.attributes
    row.key, row.weight, row.marked, row.publisher = key, weight, ZERO, i
    task.record = r
    return int(r)


@part
def publish(sim: Any, k: int, i: int, keyed: bool, key: float, weight: float) -> None:
    """Put a record into its partition's buffer; the publisher waits until it is acknowledged."""
    topic, task = topics(sim, k), tasks(sim, i)
    if keyed:
        place = scrambled(np.uint64(np.int64(key)), ZERO)
    else:
        place, key = scrambled(np.uint64(task.origin), task.path), math.nan
    p = signed(place % np.uint64(topic.partitions))
    partition = partition_of(sim, k, p)
    r = new_record(sim, i, key, weight)
    row = log(sim, r)
    task.state = PUBLISHED
    row.partition, row.buffered, row.prev, row.next = topic.first_partition + p, 1, partition.buffer_tail, NONE
    if partition.buffer_tail < 0:
        partition.buffer_head = r
    else:
        log(sim, partition.buffer_tail).next = r
    partition.buffer_tail = r
    partition.buffered += 1
    if partition.buffered >= topic.batch_max or topic.linger_s <= 0.0:
        send(sim, k, p)
    elif partition.buffered == 1:
        what = what_of_machinery(k, p, partition.buffer_epoch, LINGER)
        schedule(sim, topic.linger_s, MACHINERY, what, NONE)


@part
def lingered(sim: Any, k: int, p: int, epoch: int) -> None:
    """The buffer's time is up, unless it was sent before."""
    if epoch == partition_of(sim, k, p).buffer_epoch & 0xFFFF_FFFF:
        send(sim, k, p)


@part
def send(sim: Any, k: int, p: int) -> None:
    """The buffer goes to the log; an acknowledgement does not overtake the one before."""
    topic, partition = topics(sim, k), partition_of(sim, k, p)
    first, number = partition.buffer_head, partition.sends
    r = first
    while r >= 0:
        log(sim, r).buffered = 0
        r = log(sim, r).next
    partition.buffer_head = partition.buffer_tail = NONE
    partition.buffered = 0
    partition.buffer_epoch += 1
    partition.sends += 1
    took_s = variate(sim, topic.acknowledgement, topic.stream, p, np.uint64(number), 0)
    wait_s = max(took_s, partition.sent_until_s - sim.now)
    while sim.now + wait_s < partition.sent_until_s:
        wait_s *= 1.0 + 2.0**-52
    partition.sent_until_s = sim.now + wait_s
    if wait_s <= 0.0:
        acknowledge(sim, k, p, first)
    else:
        schedule(sim, wait_s, MACHINERY, what_of_machinery(k, p, number, ACKNOWLEDGE), first)


@part
def acknowledge(sim: Any, k: int, p: int, first: int) -> None:
    """A shipment is in the log: its publishers go on, the partition's owner may poll."""
    topic, partition = topics(sim, k), partition_of(sim, k, p)
    catch_up_topic(sim, topic)
    if partition.log_tail < 0:
        partition.log_head = first
    else:
        log(sim, partition.log_tail).next = first
    count, r = 0, first
    while r >= 0:
        row = log(sim, r)
        row.arrived_s = sim.now
        if row.publisher >= 0:
            ready(sim, row.publisher)
            row.publisher = NONE
        partition.log_tail = r
        count += 1
        r = row.next
    partition.logged += count
    topic.lag += count
    topic.published += count
    topic.max_lag = max(topic.max_lag, topic.lag)
    poll(sim, k, partition.owner)


@part
def retract(sim: Any, i: int) -> None:
    """The publisher gives up. What was sent already is durable all the same; what was not, never will be."""
    r = tasks(sim, i).record
    row = log(sim, r)
    row.publisher = NONE
    if not row.buffered:
        return
    partition = partitions(sim, row.partition)
    if row.prev < 0:
        partition.buffer_head = row.next
    else:
        log(sim, row.prev).next = row.next
    if row.next < 0:
        partition.buffer_tail = row.prev
    else:
        log(sim, row.next).prev = row.prev
    partition.buffered -= 1
    partition.buffer_epoch += partition.buffered == 0
    row.next = sim.free_record
    sim.free_record = r
    sim.idle_records += 1


@part
def mark_batch(sim: Any, i: int, milestone: int) -> None:
    """A batch marks each of its records; one that was marked before a crash has been applied already."""
    task = tasks(sim, i)
    k, m = task.topic, task.member
    topic, bit = topics(sim, k), ONE << np.uint64(milestone)
    for p in range(topic.partitions):
        partition = partition_of(sim, k, p)
        if partition.owner != m:
            continue
        r = partition.log_head
        for _ in range(partition.fetched):
            row = log(sim, r)
            again = (row.marked & bit) != ZERO
            if again and topic.idempotent:
                topic.duplicates_skipped += 1
            else:
                topic.duplicates_applied += again
                row.marked |= bit
                note(sim, milestone, row.request, row.ordinal, row.weight)
            r = row.next


@part
def open_topic(sim: Any, topic: Any) -> None:
    """Forget the warm-up."""
    topic.published = topic.consumed = topic.redelivered = topic.duplicates_skipped = topic.duplicates_applied = 0
    topic.batches = topic.batch_events = 0
    topic.lag_area = topic.busy_area = topic.wait_s = 0.0
    topic.backlog_start = topic.max_lag = topic.lag
    topic.since_s = sim.now
