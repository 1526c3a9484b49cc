"""Locustfile of the tests: stock users and a lean one doing the same; which, the environment says.

FC_CLIENT: requests | fast | lean. FC_TASK: mixed | visit | immediate | broken | sleepless. FC_SERVERS, FC_MEAN_S, FC_THINK_S: the stand-in.
"""

import os
import random
import sys
from pathlib import Path

from locust import FastHttpUser, HttpUser, between, constant, constant_throughput, events, task

sys.path.insert(0, str(Path(__file__).parent))
import digest  # noqa: F401 - listens
from stand_in import install

from loadtest import plugin
from loadtest.platform_user import PlatformUser
from loadtest.tokens import MODEL_SECRET, sign


class Lean(PlatformUser):
    """The lean client under a user that, like a stock one, draws nothing at its start."""

    abstract = True

    def on_start(self):
        pass


TASK = os.environ.get("FC_TASK", "mixed")
Base = {"requests": HttpUser, "fast": FastHttpUser, "lean": Lean}[os.environ.get("FC_CLIENT", "lean")]
HEADERS = {"Authorization": f"Bearer {sign(7, MODEL_SECRET)}"}
THINK_S = float(os.environ.get("FC_THINK_S", "-1"))

install()


class Visitor(Base):
    weight = 9
    wait_time = between(0.5, 1.5) if THINK_S < 0 else (lambda user: random.expovariate(1 / THINK_S))

    @task(8)
    def feed(self):
        with self.client.get("/v1/feed?limit=10", name="feed.open", headers=HEADERS, catch_response=True) as response:
            if len(response.json()["posts"]) != 10:
                response.failure("bad feed")

    @task(2)
    def like(self):
        post = random.randint(1, 150)
        self.client.put(f"/v1/posts/{post}/like", name="interactions.like", headers=HEADERS)

    @task(1)
    def missing(self):
        response = self.client.get("/v1/posts/999999", name="interactions.read", headers=HEADERS)
        assert response.status_code == 404

    @task(1)
    def publish(self):
        body = {"title": "a title", "content": "é" * 10}
        assert self.client.post("/v1/posts", json=body, name="feed.publish", headers=HEADERS).json()["id"] > 150


class Paced(Base):
    wait_time = constant_throughput(0.5)

    @task
    def follow(self):
        self.client.put("/v1/users/3/follow", name="graph.follow", headers=HEADERS)


class Single(Base):
    """One kind of request only, for the tests of a single thing."""

    wait_time = constant(0)

    @task
    def one(self):
        if TASK == "sleepless":
            return
        body = {"title": TASK, "content": ""}
        self.client.post("/v1/posts", json=body, name="feed.publish", headers=HEADERS)


class Chooser(Base):
    """A closed user of one operation with an exponential think time."""

    wait_time = Visitor.wait_time

    @task
    def one(self):
        self.client.get("/v1/feed?limit=10", name="feed.open", headers=HEADERS)


@events.init.add_listener
def choose(environment, **_):
    plugin.run.loop.stall_limit = 20_000  # the same check as ever, reached sooner
    environment.user_classes = {"mixed": [Visitor, Paced], "visit": [Chooser]}.get(TASK, [Single])
