"""Token buckets in a real Redis, shared by several processes' limiters."""

import asyncio
import contextlib
import uuid

import pytest

from reference_impl.rate_limits import RateLimiter, unchecked_total
from reference_impl.settings import Settings
from reference_impl.web import ApiError


@contextlib.asynccontextmanager
async def limiters(stack, count=1, **changes):
    """Limiters of processes of their own, on the running Redis."""
    settings = Settings(redis_url=stack.state["settings"]["redis_url"], **changes)
    made = [RateLimiter(settings) for _ in range(count)]
    try:
        yield made
    finally:
        for one in made:
            await one.close()


def admitted(limiter, user, most):
    """How many of ``most`` requests are let in."""
    for number in range(most):
        try:
            limiter.admit(user)
        except ApiError as error:
            return number if error.status == 429 and int(error.headers["retry-after"]) >= 1 else -1
    return most


def new_user():
    return uuid.uuid4().int >> 66  # nobody has spent anything of it


def test_processes_share_a_users_bucket(stack):
    async def spend():
        user, other = new_user(), new_user()
        async with limiters(stack, 2, user_requests_per_s=0.1, user_requests_burst=10) as (first, second):
            assert admitted(first, user, 6) == 6
            assert admitted(second, user, 6) == 6  # nobody has told it yet
            await first.settle()
            await second.settle()  # the bucket is below zero now
            assert admitted(second, user, 5) == 0
            assert admitted(second, other, 5) == 5
            assert admitted(first, user, 5) == 5  # what it heard was: four are left
            await first.settle()
            assert admitted(first, user, 5) == 0

    asyncio.run(spend())


def test_a_process_admits_no_more_than_a_burst_before_it_settles(stack):
    async def spend():
        async with limiters(stack, user_requests_per_s=0.1, user_requests_burst=10) as (limiter,):
            assert admitted(limiter, new_user(), 1_000) == 10

    asyncio.run(spend())


def test_the_bucket_fills_again(stack):
    async def spend():
        user = new_user()
        async with limiters(stack, user_requests_per_s=50, user_requests_burst=5) as (limiter,):
            assert admitted(limiter, user, 10) == 5
            await limiter.settle()
            assert admitted(limiter, user, 10) == 0
            while not admitted(limiter, user, 1):  # 20 ms a token
                await asyncio.sleep(0.01)

    asyncio.run(spend())


def test_without_redis_everybody_is_admitted_and_counted(stack):
    async def spend():
        limiter = RateLimiter(Settings(redis_url="redis://127.0.0.1:1/0", user_requests_burst=10))
        user, before = new_user(), unchecked_total._value.get()
        for _ in range(5):
            assert admitted(limiter, user, 10) == 10
            await limiter.settle()
        await limiter.try_session("user1")
        assert unchecked_total._value.get() - before == 51
        await limiter.close()

    asyncio.run(spend())


def test_a_name_has_few_tries_to_log_in(stack):
    async def guess():
        name = f"user {uuid.uuid4()}"
        async with limiters(stack, 2, session_tries_per_s=0.01, session_tries_burst=3) as (first, second):
            for limiter in (first, second, first):
                await limiter.try_session(name)
            with pytest.raises(ApiError) as refusal:
                await second.try_session(name)
            assert refusal.value.status == 429
            await second.try_session("somebody else " + name)

    asyncio.run(guess())


