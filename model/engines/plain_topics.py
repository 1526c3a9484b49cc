"""Topics of the plain engine: producer buffers, partitions, and a consumer group that polls, works, commits and survives crashes.

A record's life: it waits in its partition's producer buffer (linger, batch size), is sent, is acknowledged and so in the log;
the partition's owner fetches it with others, runs the topic's steps for the batch, and commits. Only the commit takes it from
the log, so a member that dies before it leaves everything there for the next owner.
"""

from __future__ import annotations

import math
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from model.engines.order import ACKNOWLEDGE, LINGER, POLL, REBALANCE, RETRY, batch_origin, system_key
from model.recording import TopicCounts
from model.variates import scramble

if TYPE_CHECKING:
    from model.engines.plain import Plain
    from model.engines.plain_tasks import Task


class Record:
    """What is in the log: whose request it is, its key and weight, and which milestones it has already reached."""

    __slots__ = (
        "arrived_s",
        "attributes",
        "key",
        "marked",
        "ordinal",
        "path",
        "publisher",
        "redelivered",
        "request",
        "weight",
    )

    def __init__(self, task: Task, key: float, weight: float) -> None:
        self.request, self.path, self.ordinal, self.attributes = task.origin, task.path, task.ordinal, task.attributes
        self.key, self.weight = key, weight
        self.publisher: Task | None = task
        self.marked, self.redelivered, self.arrived_s = 0, False, 0.0
        task.record = self


class Partition:
    """A producer buffer and a log; the first `fetched` records of the log are with its owner, uncommitted."""

    def __init__(self, topic: Topic, index: int, owner: int) -> None:
        self.topic, self.index, self.owner, self.heir = topic, index, owner, -1
        self.buffer: list[Record] = []
        self.buffer_epoch = self.sends = self.in_flight = 0
        self.sent_until_s = 0.0
        self.log: deque[Record] = deque()
        self.fetched = 0

    def seen(self, most: int, until_s: float) -> int:
        """How many of the first `most` records were appended by then."""
        for number, record in enumerate(islice(self.log, most)):
            if record.arrived_s > until_s:
                return number
        return min(most, len(self.log))

    def belongs_to(self) -> int:
        """The member that has it, or will have it once the present owner has committed."""
        return self.owner if self.heir < 0 else self.heir

    def withdraw(self, task: Task) -> None:
        """The publisher gives up. What was sent already is durable all the same; what was not, never will be."""
        record = task.record
        assert record is not None
        task.place = None
        if record in self.buffer:
            self.buffer.remove(record)
            self.buffer_epoch += not self.buffer
        record.publisher = None


class Member:
    """One consumer: a process that is free, waits for more records, or works on a batch."""

    def __init__(self, index: int) -> None:
        self.index, self.alive, self.epoch, self.first_partition = index, True, 0, 0
        self.collecting = False
        self.resting = False  # a batch failed; it is tried again later
        self.batch: Task | None = None


class Topic:
    """One topic with its group."""

    def __init__(self, engine: Plain, index: int) -> None:
        self.engine, self.env, self.index = engine, engine.env, index
        self.row = dict(zip(engine.tables.topics.dtype.names or (), engine.tables.topics[index].item(), strict=True))
        consumers = self.row["consumers"]
        self.partitions = [Partition(self, p, p % consumers) for p in range(self.row["partitions"])]
        self.members = [Member(m) for m in range(consumers)]
        self.lag = self.busy = self.batches = 0
        self.counts = TopicCounts(since_s=self.env.now)

    # ---- the producer's side
    def publish(self, task: Task, key: float | None, weight: float) -> None:
        """Put a record into its partition's buffer; the publisher waits until it is acknowledged."""
        place = scramble(task.origin, task.path) if key is None else scramble(int(key), 0)
        partition = self.partitions[place % len(self.partitions)]
        record = Record(task, math.nan if key is None else key, weight)
        task.place = partition
        partition.buffer.append(record)
        if len(partition.buffer) >= self.row["batch_max"] or self.row["linger_s"] <= 0:
            self._send(partition)
        elif len(partition.buffer) == 1:
            epoch = partition.buffer_epoch
            key_of_event = system_key(self.index, partition.index, epoch, LINGER)
            self.engine.later(self.row["linger_s"], key_of_event, lambda _: self._lingered(partition, epoch))

    def _lingered(self, partition: Partition, epoch: int) -> None:
        if epoch == partition.buffer_epoch:
            self._send(partition)

    def _send(self, partition: Partition) -> None:
        """Acknowledgements of one partition keep their order: none overtakes the one before."""
        batch, partition.buffer = partition.buffer, []
        partition.buffer_epoch += 1
        number = partition.sends
        partition.sends += 1
        partition.in_flight += len(batch)
        took_s = self.engine.sample(self.row["acknowledgement"], self.row["stream"], partition.index, number, 0)
        wait_s = max(took_s, partition.sent_until_s - self.env.now)
        while self.env.now + wait_s < partition.sent_until_s:  # now + (then - now) may fall short of then by a rounding
            wait_s *= 1.0 + 2.0**-52
        partition.sent_until_s = self.env.now + wait_s
        if wait_s <= 0:
            self._acknowledge(partition, batch)
        else:
            key = system_key(self.index, partition.index, number, ACKNOWLEDGE)
            self.engine.later(wait_s, key, lambda _: self._acknowledge(partition, batch))

    def _acknowledge(self, partition: Partition, batch: list[Record]) -> None:
        self._advance()
        partition.in_flight -= len(batch)
        for record in batch:
            record.arrived_s = self.env.now
            partition.log.append(record)
            if record.publisher is not None:
                record.publisher.place = None
                self.engine.wake(record.publisher)
                record.publisher = None
        self.lag += len(batch)
        self.counts.published += len(batch)
        self.counts.max_lag = max(self.counts.max_lag, self.lag)
        self._poll(self.members[partition.owner])

    # ---- the group's side
    def _owned(self, member: Member) -> list[Partition]:
        return [partition for partition in self.partitions if partition.owner == member.index]

    def _poll(self, member: Member) -> None:
        """A free member takes what is there, once it has been fetched, or waits a little for more."""
        if not member.alive or member.batch is not None or member.resting:
            return
        owned = [partition for partition in self._owned(member) if partition.log]
        full = sum(len(partition.log) for partition in owned) >= self.row["poll_max"]
        if not owned:
            return
        if member.collecting:
            if full and self.row["fetch"] < 0:  # else it does not see that yet
                self._take(member)
            return
        left_s = max(0.0, self._fetch_s(member, 1) - (self.env.now - self._first_s(owned)))
        wait_s = left_s if full else left_s + self.row["poll_wait_s"]
        if wait_s <= 0:
            self._take(member)
            return
        member.collecting = True
        epoch = member.epoch
        self.engine.later(wait_s, system_key(self.index, member.index, epoch, POLL), lambda _: self._collected(member, epoch))

    def _first_s(self, owned: list[Partition]) -> float:
        """When what is first in the log was appended."""
        return min((partition.log[0].arrived_s for partition in owned if partition.log), default=math.inf)

    def _fetch_s(self, member: Member, which: int) -> float:
        """How long after it was appended a record is seen: the first of a batch (1), and the last that the batch may have (2)."""
        if self.row["fetch"] < 0:
            return 0.0
        return self.engine.sample(self.row["fetch"], self.row["stream"], member.index, member.epoch, which)

    def _collected(self, member: Member, epoch: int) -> None:
        if epoch == member.epoch:
            self._take(member)

    def _take(self, member: Member) -> None:
        """Take what has been seen from the member's partitions in turn, beginning after the last one served, and start the batch."""
        until_s = max(self.env.now - self._fetch_s(member, 2), self._first_s(self._owned(member)))
        member.epoch += 1
        member.collecting = False
        room, count = self.row["poll_max"], len(self.partitions)
        start = member.first_partition
        for step in range(count):
            partition = self.partitions[(start + step) % count]
            if partition.owner == member.index and partition.log and room > 0:
                partition.fetched = partition.seen(room, until_s)
                room -= partition.fetched
                member.first_partition = (partition.index + 1) % count
        records = self.records_of(member.index)
        if not records:  # they were withdrawn with a partition that moved
            return
        self._advance()
        self.busy += 1
        self.counts.batches += 1
        self.counts.batch_events += len(records)
        self.counts.wait_s += math.fsum(self.env.now - record.arrived_s for record in records)
        keyed = {record.key for record in records if record.key == record.key}
        unkeyed = sum(record.key != record.key for record in records)
        weight = 0.0
        for record in records:
            weight += record.weight
        origin = batch_origin(self.index, self.batches)
        self.batches += 1
        member.batch = self.engine.start_batch(self, member.index, origin, len(records), len(keyed) + unkeyed, weight)

    def records_of(self, member: int) -> list[Record]:
        """The records of the batch a member works on: by partition, then by offset."""
        found: list[Record] = []
        for partition in self.partitions:
            if partition.owner == member:
                found += [partition.log[offset] for offset in range(partition.fetched)]
        return found

    def committed(self, member_index: int) -> None:
        """The batch is done: its records leave the log, and the member polls again."""
        self._advance()
        member = self.members[member_index]
        for partition in self._owned(member):
            for _ in range(partition.fetched):
                partition.log.popleft()
            self.lag -= partition.fetched
            self.counts.consumed += partition.fetched
            partition.fetched = 0
        self._free(member)
        self._poll(member)

    def failed(self, member_index: int) -> None:
        """The batch could not be worked off: nothing is committed, and the member gets it again after a pause."""
        self._advance()
        member = self.members[member_index]
        self._give_back(member)
        self._free(member)
        member.resting = True
        member.epoch += 1
        epoch = member.epoch
        key = system_key(self.index, member_index, epoch, RETRY)
        self.engine.later(self.row["retry_s"], key, lambda _: self._rested(member, epoch))

    def _rested(self, member: Member, epoch: int) -> None:
        if epoch == member.epoch:
            member.resting = False
            self._poll(member)

    def _give_back(self, member: Member) -> None:
        for partition in self._owned(member):
            for offset in range(partition.fetched):
                partition.log[offset].redelivered = True
            self.counts.redelivered += partition.fetched
            partition.fetched = 0

    def _free(self, member: Member) -> None:
        member.batch = None
        self.busy -= 1
        self._hand_over(member)

    def _hand_over(self, member: Member) -> None:
        """Partitions promised to another member go there now that nothing of them is under way."""
        for partition in self._owned(member):
            if partition.heir >= 0:
                partition.owner, partition.heir = partition.heir, -1
                self._poll(self.members[partition.owner])

    # ---- crashes and rebalances: called by control processes
    def crash(self, member_index: int) -> None:
        """The member dies with its batch; its partitions wait for the session to time out."""
        member = self.members[member_index]
        if not member.alive:
            return
        self._advance()
        member.alive = member.collecting = member.resting = False
        member.epoch += 1
        if member.batch is not None:
            self.engine.kill(member.batch)
            self._give_back(member)
            member.batch = None
            self.busy -= 1
        epoch = member.epoch
        key = system_key(self.index, member_index, epoch, REBALANCE)
        self.engine.later(self.row["session_timeout_s"], key, lambda _: self._timed_out(member, epoch))

    def _timed_out(self, member: Member, epoch: int) -> None:
        """The group notices: the dead member's partitions go to those alive who have the fewest."""
        if epoch != member.epoch:
            return
        for partition in self.partitions:
            if partition.heir == member.index:
                partition.heir = -1
        for partition in self._owned(member):
            alive = [other for other in self.members if other.alive]
            if not alive:
                return
            owner = min(alive, key=lambda other: (self._share_of(other.index), other.index))
            partition.owner, partition.heir = owner.index, -1
            self._poll(owner)

    def _share_of(self, member_index: int) -> int:
        return sum(partition.belongs_to() == member_index for partition in self.partitions)

    def restore(self, member_index: int) -> None:
        """The member is back: it keeps what it still has, and gets its share of what others have beyond theirs."""
        member = self.members[member_index]
        if member.alive:
            return
        member.alive = True
        member.epoch += 1
        alive = [other for other in self.members if other.alive]
        fair = len(self.partitions) // len(alive)
        while self._share_of(member_index) < fair:
            others = [other for other in self.members if other is not member]
            donor = min(others, key=lambda other: (-self._share_of(other.index), other.index))
            partition = [item for item in self.partitions if item.belongs_to() == donor.index][-1]
            if partition.fetched > 0:
                partition.heir = member_index
            else:
                partition.owner, partition.heir = member_index, -1
        self._poll(member)

    # ---- accounting
    def _advance(self) -> None:
        self.counts.advance(self.env.now, self.lag, self.busy)

    def open_window(self) -> None:
        """Forget the warm-up."""
        self.counts = TopicCounts(backlog_start=self.lag, max_lag=self.lag, since_s=self.env.now)

    def finish(self, row: np.void) -> None:
        """Write the counters, brought up to now, into a row of `TOPIC_COUNTS`."""
        self._advance()
        self.counts.write(row, consumers=len(self.members), backlog_end=self.lag)
