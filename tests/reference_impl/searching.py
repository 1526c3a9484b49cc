"""Asking the search, and looking behind it."""

import asyncio
import itertools
import random
import re
import string
import time

import httpx
import redis

from reference_impl import inspection, state
from reference_impl.search.index import SearchIndex
from tests.reference_impl.stack import eventually

numbers = itertools.count()


def word():
    """A word that is in no title yet, and no typing error away from another one."""
    return f"{next(numbers)}" + "".join(random.choices(string.ascii_lowercase, k=12))


def search(stack, text, kind="posts", **parameters):
    return stack.request("GET", "/v1/search", 1, params={"q": text, "kind": kind, **parameters})


def found(stack, text, kind="posts"):
    """Ids that a query finds now. No answer is asked for twice: a cached one would hide what is new."""
    for _ in range(5):
        answer = search(stack, text, kind, limit=50 - next(numbers) % 40)
        if answer.status_code != 503:  # a machine with too much to do may not answer in time, and says to try again
            break
        time.sleep(0.5)
    assert answer.status_code == 200, answer.text
    if answer.headers["X-Cache"] == "hit":
        redis.Redis.from_url(settings_of(stack).redis_url).flushdb()
        return found(stack, text, kind)
    return [result["id"] for result in answer.json()["results"]]


def settings_of(stack):
    return state.read(stack.state_dir).to_settings()


def ask_index(stack, ask):
    """What ``ask`` (a coroutine function of a :class:`SearchIndex`) returns."""

    async def run():
        index = SearchIndex(settings_of(stack))
        try:
            return await ask(index)
        finally:
            await index.close()

    return asyncio.run(run())


def indexed(stack, kind="posts"):
    return ask_index(stack, lambda index: index.count(kind))


def rows(stack, kind="posts"):
    return stack.sql(f"SELECT count(*) FROM {kind}")[0][0]


def wait_until_searchable(stack):
    eventually(lambda: inspection.caught_up(state.read(stack.state_dir)), 60, "catching up")


def metric(stack, process, name):
    url = next(child["metrics_url"] for child in stack.state["processes"] if child["name"] == process)
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", httpx.get(url).text, re.MULTILINE))
