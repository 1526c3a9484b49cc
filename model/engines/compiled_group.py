"""A topic's consumer group in the compiled engine: polls, batches, commits, crashes, rebalances; see `plain_topics.py`.

Partition p of topic k is row `topic.first_partition + p` of the table `partitions`, member m row `topic.first_member + m` of
`members`. A member's and a partition's own numbers (`owner`, `heir`) count within the topic.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from model.engines.compiled_events import MACHINERY, schedule, what_of_machinery
from model.engines.compiled_lists import NONE, bits_of, signed
from model.engines.compiled_tables import distinct, log, members, partitions, tasks, topics
from model.engines.compiled_tasks import NO_PATH, first_place, new_task, variate
from model.engines.order import BATCH_ORIGIN, POLL, REBALANCE, RETRY
from model.kernel_cache import part
from model.variates import mix


@part
def partition_of(sim: Any, k: int, p: int) -> Any:
    """Partition p of topic k."""
    return partitions(sim, topics(sim, k).first_partition + p)


@part
def member_of(sim: Any, k: int, m: int) -> Any:
    """Member m of topic k's group."""
    return members(sim, topics(sim, k).first_member + m)


@part
def catch_up_topic(sim: Any, topic: Any) -> None:
    """Time has gone on since the topic last changed."""
    step_s = sim.now - topic.since_s
    topic.lag_area += step_s * topic.lag
    topic.busy_area += step_s * topic.busy
    topic.since_s = sim.now


@part
def timer(sim: Any, k: int, m: int, delay_s: float, kind: int) -> None:
    """An event of a member; it is void if the member's epoch has changed when it comes."""
    schedule(sim, delay_s, MACHINERY, what_of_machinery(k, m, member_of(sim, k, m).epoch, kind), NONE)


# ---- polling
@part
def poll(sim: Any, k: int, m: int) -> None:
    """A free member takes what is there, once it has been fetched, or waits a little for more."""
    topic, member = topics(sim, k), member_of(sim, k, m)
    if not member.alive or member.batch >= 0 or member.resting:
        return
    there = 0
    for p in range(topic.partitions):
        partition = partition_of(sim, k, p)
        if partition.owner == m:
            there += partition.logged
    if there == 0:
        return
    full = there >= topic.poll_max
    if member.collecting:
        if full and topic.fetch < 0:
            fetch(sim, k, m)
        return
    left_s = 0.0
    if topic.fetch >= 0:
        left_s = max(0.0, fetch_s(sim, k, m, 1) - (sim.now - first_of(sim, k, m)))
    wait_s = left_s
    if not full:
        wait_s += topic.poll_wait_s
    if wait_s <= 0.0:
        fetch(sim, k, m)
    else:
        member.collecting = 1
        timer(sim, k, m, wait_s, POLL)


@part
def fetch_s(sim: Any, k: int, m: int, which: int) -> float:
    """How long after it was appended a record is seen: the first of a batch (1), and the last that the batch may have (2)."""
    topic = topics(sim, k)
    if topic.fetch < 0:
        return 0.0
    return float(variate(sim, topic.fetch, topic.stream, m, np.uint64(member_of(sim, k, m).epoch), which))


@part
def first_of(sim: Any, k: int, m: int) -> float:
    """When what is first in the member's partitions was appended."""
    first_s = np.inf
    for p in range(topics(sim, k).partitions):
        partition = partition_of(sim, k, p)
        if partition.owner == m and partition.logged > 0:
            first_s = min(first_s, log(sim, partition.log_head).arrived_s)
    return first_s


@part
def seen(sim: Any, partition: Any, most: int, until_s: float) -> int:
    """How many of the first `most` records were appended by then."""
    count, r = 0, partition.log_head
    while count < most and r >= 0 and log(sim, r).arrived_s <= until_s:
        count += 1
        r = log(sim, r).next
    return count


@part
def fetch(sim: Any, k: int, m: int) -> None:
    """Take what has been seen from the member's partitions in turn, beginning after the last one served, and start the batch."""
    topic, member = topics(sim, k), member_of(sim, k, m)
    until_s = np.inf
    if topic.fetch >= 0:
        until_s = max(sim.now - fetch_s(sim, k, m, 2), first_of(sim, k, m))
    member.epoch += 1
    member.collecting = 0
    room, count, start = topic.poll_max, topic.partitions, member.first_partition
    taken = 0
    for number in range(count):
        p = (start + number) % count
        partition = partition_of(sim, k, p)
        if partition.owner == m and partition.logged > 0 and room > 0:
            partition.fetched = min(room, partition.logged)
            if topic.fetch >= 0:
                partition.fetched = seen(sim, partition, room, until_s)
            room -= partition.fetched
            taken += partition.fetched
            member.first_partition = (p + 1) % count
    if taken == 0:  # they were withdrawn with a partition that moved
        return
    catch_up_topic(sim, topic)
    topic.busy += 1
    topic.batches += 1
    topic.batch_events += taken
    weight, waited_s = 0.0, 0.0
    for p in range(count):
        partition = partition_of(sim, k, p)
        if partition.owner == m:
            r = partition.log_head
            for _ in range(partition.fetched):
                weight += log(sim, r).weight
                waited_s += sim.now - log(sim, r).arrived_s
                r = log(sim, r).next
    topic.wait_s += waited_s
    origin = BATCH_ORIGIN + (k << 44) + topic.made
    i = new_task(sim, origin, NO_PATH, first_place(origin, NO_PATH), topic.first_row, 0, 0)
    topic.made += 1
    member.batch = i
    batch = tasks(sim, i)
    batch.topic, batch.member, batch.events, batch.weight = k, m, taken, weight
    if sim.counts_keys:
        batch.keys = count_keys(sim, k, m, taken)


@part
def count_keys(sim: Any, k: int, m: int, taken: int) -> int:
    """How many different keys the fetched records have; one without a key is a key of its own."""
    size = 4
    while size < 2 * taken:
        size *= 2
    table = distinct(sim)  # of open addresses, as long as needed
    for place in range(size):
        table[place] = NONE
    found = 0
    for p in range(topics(sim, k).partitions):
        partition = partition_of(sim, k, p)
        if partition.owner != m:
            continue
        r = partition.log_head
        for _ in range(partition.fetched):
            key = log(sim, r).key
            place = signed(mix(bits_of(key)) & np.uint64(size - 1))
            while key == key and table[place] >= 0 and log(sim, table[place]).key != key:
                place = (place + 1) & (size - 1)
            if key != key:
                found += 1
            elif table[place] < 0:
                table[place] = r
                found += 1
            r = log(sim, r).next
    return found


# ---- the end of a batch
@part
def committed(sim: Any, k: int, m: int) -> None:
    """The batch is done: its records leave the log, and the member polls again."""
    topic = topics(sim, k)
    catch_up_topic(sim, topic)
    for p in range(topic.partitions):
        partition = partition_of(sim, k, p)
        if partition.owner == m:
            for _ in range(partition.fetched):
                r = partition.log_head
                partition.log_head = log(sim, r).next
                log(sim, r).next = sim.free_record
                sim.free_record = r
            if partition.log_head < 0:
                partition.log_tail = NONE
            sim.idle_records += partition.fetched
            partition.logged -= partition.fetched
            topic.lag -= partition.fetched
            topic.consumed += partition.fetched
            partition.fetched = 0
    free_member(sim, k, m)
    poll(sim, k, m)


@part
def failed(sim: Any, k: int, m: int) -> None:
    """Nothing is committed, and the member gets the batch again after a pause."""
    topic, member = topics(sim, k), member_of(sim, k, m)
    catch_up_topic(sim, topic)
    give_back(sim, k, m)
    free_member(sim, k, m)
    member.resting = 1
    member.epoch += 1
    timer(sim, k, m, topic.retry_s, RETRY)


@part
def give_back(sim: Any, k: int, m: int) -> None:
    """What a member had fetched will be delivered again."""
    topic = topics(sim, k)
    for p in range(topic.partitions):
        partition = partition_of(sim, k, p)
        if partition.owner == m:
            topic.redelivered += partition.fetched
            partition.fetched = 0


@part
def free_member(sim: Any, k: int, m: int) -> None:
    """No batch any more; partitions promised to another member go there now."""
    topic = topics(sim, k)
    member_of(sim, k, m).batch = NONE
    topic.busy -= 1
    for p in range(topic.partitions):
        partition = partition_of(sim, k, p)
        if partition.owner == m and partition.heir >= 0:
            partition.owner, partition.heir = partition.heir, NONE
            poll(sim, k, partition.owner)


# ---- crashes and rebalances
@part
def mourn(sim: Any, k: int, m: int) -> None:
    """The member has died; its batch, if any, has been killed."""
    topic, member = topics(sim, k), member_of(sim, k, m)
    member.alive = member.collecting = member.resting = 0
    member.epoch += 1
    if member.batch >= 0:
        give_back(sim, k, m)
        member.batch = NONE
        topic.busy -= 1
    timer(sim, k, m, topic.session_timeout_s, REBALANCE)


@part
def share_of(sim: Any, k: int, m: int) -> int:
    """How many partitions the member has, or will have."""
    share = 0
    for p in range(topics(sim, k).partitions):
        partition = partition_of(sim, k, p)
        share += (partition.owner if partition.heir < 0 else partition.heir) == m
    return share


@part
def redistribute(sim: Any, k: int, m: int) -> None:
    """The dead member's partitions go to those alive who have the fewest."""
    topic = topics(sim, k)
    for p in range(topic.partitions):
        if partition_of(sim, k, p).heir == m:
            partition_of(sim, k, p).heir = NONE
    for p in range(topic.partitions):
        partition = partition_of(sim, k, p)
        if partition.owner != m:
            continue
        least, owner = 0, NONE
        for other in range(topic.consumers):
            if member_of(sim, k, other).alive:
                share = share_of(sim, k, other)
                if owner < 0 or share < least:
                    least, owner = share, other
        if owner < 0:
            return
        partition.owner, partition.heir = owner, NONE
        poll(sim, k, owner)


@part
def restore(sim: Any, k: int, m: int) -> None:
    """The member is back, and gets its share of what others have beyond theirs."""
    topic, member = topics(sim, k), member_of(sim, k, m)
    if member.alive:
        return
    member.alive = 1
    member.epoch += 1
    alive = 0
    for other in range(topic.consumers):
        alive += member_of(sim, k, other).alive
    while share_of(sim, k, m) < topic.partitions // alive:
        most, donor = NONE, NONE
        for other in range(topic.consumers):
            share = share_of(sim, k, other)
            if other != m and share > most:
                most, donor = share, other
        last = NONE
        for p in range(topic.partitions):
            partition = partition_of(sim, k, p)
            if (partition.owner if partition.heir < 0 else partition.heir) == donor:
                last = p
        partition = partition_of(sim, k, last)
        if partition.fetched > 0:
            partition.heir = m
        else:
            partition.owner, partition.heir = m, NONE
    poll(sim, k, m)


@part
def member_event(sim: Any, k: int, m: int, epoch: int, kind: int) -> None:
    """A member's timer has come."""
    member = member_of(sim, k, m)
    if epoch != member.epoch & 0xFFFF_FFFF:
        return
    if kind == POLL:
        fetch(sim, k, m)
    elif kind == RETRY:
        member.resting = 0
        poll(sim, k, m)
    else:
        redistribute(sim, k, m)
