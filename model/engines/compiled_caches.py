"""Caches of the compiled engine; what each function means is said in `plain_caches.py`.

All entries of all caches are in one table of open addresses, at most half full. An entry is *live* until it expires; it is *being
filled* while `filler` is a task; it is `linked` if its cache has a capacity and it counts, in the order of use. A task that waits
for an entry (state EXPECTING) has `place` = the cache and `lease_key` = the key, one that fills it `lease_cache` and `lease_key`:
entries move when the table grows, so nobody keeps their place.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from model.engines.compiled_lists import NONE, append_to, bits_of, signed, take_from
from model.engines.compiled_tables import cached, cached_before, caches, steps, tasks
from model.engines.compiled_tasks import EXPECTING, ready
from model.kernel_cache import part
from model.variates import mix

HIT, MISS, WAIT = range(3)
GOLDEN = np.uint64(0x9E37_79B9_7F4A_7C15)


# ---- the table
@part
def place_of(sim: Any, cache: int, key: float) -> int:
    """The place of a key's entry, or a free place for it."""
    mask = sim.cached_rows - 1
    place = signed(mix(bits_of(key) ^ (np.uint64(cache) * GOLDEN)) & np.uint64(mask))
    while cached(sim, place).used and (cached(sim, place).key != key or cached(sim, place).cache != cache):
        place = (place + 1) & mask
    return int(place)


@part
def claim(sim: Any, place: int, cache: int, key: float) -> Any:
    """The entry at a place that `place_of` has found, made one if it was free."""
    entry = cached(sim, place)
    if not entry.used:
        sim.cached_used += 1
        entry.used, entry.cache, entry.key, entry.expires_s = 1, cache, key, 0.0
        entry.filler = entry.head = entry.tail = NONE
        entry.linked = 0
    return entry


@part
def rehash(sim: Any) -> None:
    """Fill a new table with what counts of the one before: live entries, those being filled, those in order of use."""
    sim.cached_used = 0
    for place in range(sim.cached_before_rows):
        old = cached_before(sim, place)
        if old.used and not old.linked and (old.filler >= 0 or old.expires_s > sim.now):
            entry = claim(sim, place_of(sim, old.cache, old.key), old.cache, old.key)
            entry.expires_s, entry.filler, entry.head, entry.tail = old.expires_s, old.filler, old.head, old.tail
    for c in range(sim.cache_count):
        cache = caches(sim, c)
        place = cache.oldest
        cache.oldest = cache.newest = NONE
        while place >= 0:
            old = cached_before(sim, place)
            new = place_of(sim, c, old.key)
            claim(sim, new, c, old.key).expires_s = old.expires_s
            link(sim, cache, new)
            place = old.newer


# ---- the order of use
@part
def link(sim: Any, cache: Any, place: int) -> None:
    """The entry was used last."""
    entry = cached(sim, place)
    entry.linked, entry.older, entry.newer = 1, cache.newest, NONE
    if cache.newest < 0:
        cache.oldest = place
    else:
        cached(sim, cache.newest).newer = place
    cache.newest = place


@part
def unlink(sim: Any, cache: Any, place: int) -> None:
    """The entry stands in the order no more."""
    entry = cached(sim, place)
    entry.linked = 0
    if entry.older < 0:
        cache.oldest = entry.newer
    else:
        cached(sim, entry.older).newer = entry.newer
    if entry.newer < 0:
        cache.newest = entry.older
    else:
        cached(sim, entry.newer).older = entry.older


@part
def put(sim: Any, c: int, place: int) -> None:
    """The entry is filled; it may drive out another one."""
    cache = caches(sim, c)
    entry = cached(sim, place)
    entry.expires_s = sim.now + cache.ttl_s
    if cache.capacity == 0:
        return
    if entry.linked:
        unlink(sim, cache, place)
    else:
        cache.count += 1
    link(sim, cache, place)
    if cache.count > cache.capacity:
        cache.count -= 1
        cached(sim, cache.oldest).expires_s = 0.0
        unlink(sim, cache, cache.oldest)


@part
def flush(sim: Any, c: int) -> None:
    """All entries are gone, those being filled apart."""
    for place in range(sim.cached_rows):
        entry = cached(sim, place)
        if entry.used and entry.cache == c:
            entry.expires_s = 0.0
            entry.linked = 0
    caches(sim, c).count = 0
    caches(sim, c).oldest = caches(sim, c).newest = NONE


@part
def open_caches(sim: Any) -> None:
    """Forget the warm-up's counts."""
    for c in range(sim.cache_count):
        cache = caches(sim, c)
        cache.hits = cache.misses = cache.waits = 0


# ---- what tasks do
@part
def lookup(sim: Any, c: int, i: int, key: float) -> int:
    """Does the task hit or miss, or wait until somebody has filled the entry?"""
    cache = caches(sim, c)
    place = place_of(sim, c, key)
    entry = claim(sim, place, c, key)
    if entry.filler >= 0:
        cache.waits += 1
        task = tasks(sim, i)
        task.state, task.place, task.lease_key = EXPECTING, c, key
        append_to(sim, entry, i)
        return WAIT
    if entry.expires_s > sim.now:
        if entry.linked:
            unlink(sim, cache, place)
            link(sim, cache, place)
        cache.hits += 1
        return HIT
    cache.misses += 1
    if cache.stampede:
        return MISS
    if not cache.coalesce:
        put(sim, c, place)
        return MISS
    if entry.linked:
        cache.count -= 1
        unlink(sim, cache, place)
    give_lease(sim, entry, c, i)
    return MISS


@part
def give_lease(sim: Any, entry: Any, c: int, i: int) -> None:
    """The task fills the entry."""
    task = tasks(sim, i)
    entry.filler = i
    task.lease_cache, task.lease_key, task.lease_in_try = c, entry.key, task.try_row >= 0


@part
def fill(sim: Any, c: int, i: int, key: float) -> None:
    """The miss steps have ended: the entry is there, and who waits hits."""
    if caches(sim, c).stampede:
        place = place_of(sim, c, key)
        claim(sim, place, c, key)
        put(sim, c, place)
        return
    task = tasks(sim, i)
    place = place_of(sim, task.lease_cache, task.lease_key)
    entry = cached(sim, place)
    entry.filler = NONE
    put(sim, task.lease_cache, place)
    task.lease_cache = NONE
    while entry.head >= 0:
        waiter = entry.head
        take_from(sim, entry, waiter)
        tasks(sim, waiter).row = steps(sim, tasks(sim, waiter).row).next
        ready(sim, waiter)


@part
def evict(sim: Any, c: int, key: float) -> None:
    """The entry of a key is gone, if there was one."""
    entry = cached(sim, place_of(sim, c, key))
    if entry.used:
        entry.expires_s = 0.0
        if entry.linked:
            cache = caches(sim, c)
            cache.count -= 1
            unlink(sim, cache, place_of(sim, c, key))


@part
def abandon(sim: Any, i: int) -> None:
    """The task will not fill the entry it had promised to fill, if any: the first who waits does."""
    task = tasks(sim, i)
    c = task.lease_cache
    if c < 0:
        return
    task.lease_cache = NONE
    entry = cached(sim, place_of(sim, c, task.lease_key))
    entry.filler = NONE
    heir = entry.head
    if heir >= 0:
        take_from(sim, entry, heir)
        give_lease(sim, entry, c, heir)
        tasks(sim, heir).row = steps(sim, tasks(sim, heir).row).miss
        ready(sim, heir)


@part
def expect_no_more(sim: Any, i: int) -> None:
    """A task that waits gives up."""
    task = tasks(sim, i)
    take_from(sim, cached(sim, place_of(sim, task.place, task.lease_key)), i)
