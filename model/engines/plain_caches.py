"""Caches of the plain engine: entries that expire, the least recently used driven out, and leases on keys that are being filled."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from model.engines.plain import Plain
    from model.engines.plain_tasks import Task


class Lease:
    """A task's right, and duty, to fill the entry of a key; those who wait for it, first come first."""

    def __init__(self, cache: Cache, key: float) -> None:
        self.cache, self.key = cache, key
        self.in_try = False  # it was taken within the task's attempt, and goes when that fails
        self.waiting: dict[Task, None] = {}

    def give_to(self, task: Task) -> None:
        """From now on it is this task's."""
        task.lease, self.in_try = self, task.try_row >= 0

    def withdraw(self, task: Task) -> None:
        """Somebody who waits gives up."""
        del self.waiting[task]
        task.place = None

    def abandon(self, task: Task) -> None:
        """The task with the lease has failed: the first who waits runs the miss steps instead."""
        task.lease = None
        heir = next(iter(self.waiting), None)
        if heir is None:
            del self.cache.leases[self.key]
            return
        self.withdraw(heir)
        self.give_to(heir)
        self.cache.engine.wake(heir)


class Cache:
    """One cache."""

    def __init__(self, engine: Plain, index: int) -> None:
        self.engine, self.env = engine, engine.env
        self.ttl_s, self.capacity, self.coalesce, self.stampede = engine.tables.caches[index].item()
        self.hits = self.misses = self.waits = 0
        self.expires_s: OrderedDict[float, float] = OrderedDict()  # the least recently used first
        self.leases: dict[float, Lease] = {}

    def hit(self, key: float) -> bool:
        """Is there a live entry?"""
        if self.expires_s.get(key, 0.0) <= self.env.now:
            return False
        self.expires_s.move_to_end(key)
        self.hits += 1
        return True

    def miss(self, task: Task, key: float) -> None:
        """The task will run the miss steps: the entry is there at once, or once they have ended."""
        self.misses += 1
        if self.stampede:
            return
        if not self.coalesce:
            self.put(key)
            return
        self.expires_s.pop(key, None)
        lease = self.leases[key] = Lease(self, key)
        lease.give_to(task)

    def wait(self, task: Task, key: float) -> bool:
        """Wait if somebody is filling the entry; False if nobody is."""
        lease = self.leases.get(key)
        if lease is not None:
            self.waits += 1
            lease.waiting[task] = None
            task.place = lease
        return lease is not None

    def fill(self, task: Task, lease: Lease) -> None:
        """The miss steps have ended: who waits hits."""
        task.lease = None
        del self.leases[lease.key]
        self.put(lease.key)
        for waiter in list(lease.waiting):
            lease.withdraw(waiter)
            self.engine.wake(waiter)

    def put(self, key: float) -> None:
        """The entry is there from now on; it may drive out another one."""
        self.expires_s[key] = self.env.now + self.ttl_s
        self.expires_s.move_to_end(key)
        if 0 < self.capacity < len(self.expires_s):
            self.expires_s.popitem(last=False)

    def evict(self, key: float) -> None:
        """The entry of a key is gone, if there was one."""
        self.expires_s.pop(key, None)

    def open_window(self) -> None:
        """Forget the warm-up's counts."""
        self.hits = self.misses = self.waits = 0

    def flush(self) -> None:
        """All entries are gone; what is being filled will be there when it is."""
        self.expires_s.clear()
