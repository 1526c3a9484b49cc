"""What a network may be: one line for whatever does not fit, with the name that was probably meant."""

import pytest

from model.distributions import constant
from model.network import (
    Acquire,
    Arm,
    Branch,
    Cache,
    Delay,
    Hold,
    Lookup,
    Mark,
    Milestone,
    Network,
    Operation,
    Publish,
    Quota,
    Respond,
    Scatter,
    Serve,
    Station,
    Step,
    Topic,
    Try,
    inner_routes,
    suggestion,
    walk,
)

ONE = constant(1.0)
DECLARED = {
    "stations": (Station("database"),),
    "topics": (Topic("posts", ()),),
    "caches": (Cache("pages", 60.0),),
    "quotas": (Quota("push", 10.0),),
    "attributes": ("rows", "post"),
}


def of(*steps, **declared):
    return Network((Operation("feed.open", steps),), **(DECLARED | declared))


def topic(*steps, **settings):
    return of(topics=(Topic("posts", steps, **settings),))


def test_everything_in_its_place_is_accepted():
    steps = (
        Serve("database", ONE, per={"rows": 1e-6}),
        Lookup("pages", "post", miss=(Acquire("push"),), hit=(Delay(ONE),)),
        Branch((Arm(0.5, (Mark("half"),)), Arm("rows", ()))),
        Scatter((Publish("posts", key="post", weight="rows"),), count="rows"),
        Try((Delay(ONE),), timeout_s=1.0, attempts=2, backoff=ONE, otherwise=(Respond(),)),
        Respond(),
    )
    batch = (
        Serve("database", ONE, per={"events": 1e-6, "keys": 1e-6, "weight": 1e-6}),
        Scatter((Publish("posts", key="post"),), each_event=True),
        Mark("applied"),
    )
    network = of(
        *steps, topics=(Topic("posts", batch),), milestones=(Milestone("last"), Milestone("applied", since="answer"))
    )
    assert network.milestone_names() == ("last", "applied", "half")
    assert network.names("caches") == ("pages",)


@pytest.mark.parametrize(
    ("make", "line"),
    [
        # names
        (
            lambda: of(Serve("databse", ONE)),
            "operation feed.open, step 1: no station 'databse' (did you mean 'database'?)",
        ),
        (lambda: of(Serve("x", ONE), stations=()), "operation feed.open, step 1: no station 'x' (there are none)"),
        (lambda: of(Publish("zzz")), "operation feed.open, step 1: no topic 'zzz' (there are: posts)"),
        (
            lambda: of(Publish("posts", key="pots")),
            "operation feed.open, step 1: no attribute 'pots' (did you mean 'post'?)",
        ),
        (lambda: of(Acquire("pusch")), "operation feed.open, step 1: no quota 'pusch' (did you mean 'push'?)"),
        (
            lambda: of(Lookup("page", "post", ())),
            "operation feed.open, step 1: no cache 'page' (did you mean 'pages'?)",
        ),
        (
            lambda: of(Lookup("pages", "user", ())),
            "operation feed.open, step 1: no attribute 'user' (there are: rows, post)",
        ),
        (
            lambda: of(Delay(ONE, per={"row": 1.0})),
            "operation feed.open, step 1: no attribute 'row' (did you mean 'rows'?)",
        ),
        (
            lambda: of(Scatter((), count="row")),
            "operation feed.open, step 1: no attribute 'row' (did you mean 'rows'?)",
        ),
        (
            lambda: of(Branch((Arm("row", ()),))),
            "operation feed.open, step 1: no attribute 'row' (did you mean 'rows'?)",
        ),
        (
            lambda: topic(Delay(ONE, per={"rows": 1.0})),
            "topic posts, step 1: no attribute 'rows' (there are: events, keys, weight)",
        ),
        # places
        (
            lambda: of(Delay(ONE), Lookup("pages", "post", miss=(Delay(ONE), Serve("db", ONE)))),
            "operation feed.open, step 2 (miss), step 2: no station 'db' (there are: database)",
        ),
        (
            lambda: of(Try((), otherwise=(Serve("databas", ONE),))),
            "operation feed.open, step 1 (otherwise), step 1: no station 'databas' (did you mean 'database'?)",
        ),
        (lambda: topic(Respond()), "topic posts, step 1: only an operation's own steps can respond"),
        (
            lambda: of(Scatter((Respond(),))),
            "operation feed.open, step 1, step 1: only an operation's own steps can respond",
        ),
        (
            lambda: topic(Publish("posts")),
            "topic posts, step 1: a batch can't publish as a whole; scatter with each_event first",
        ),
        (
            lambda: topic(Scatter((Mark("applied"),))),
            "topic posts, step 1, step 1: a batch's children can't mark; scatter with each_event instead",
        ),
        (
            lambda: of(Try((Try(()),))),
            "operation feed.open, step 1 (try), step 1: a try inside a try; put the inner one into a scatter with join",
        ),
        # numbers
        (lambda: of(Branch((Arm(1.5, ()),))), "operation feed.open, step 1: a probability is from 0 to 1, not 1.5"),
        (
            lambda: of(Branch((Arm(0.75, ()), Arm(0.5, ())))),
            "operation feed.open, step 1: the probabilities of a branch add up to 1.25, more than 1",
        ),
        (lambda: of(Scatter((), count=-1)), "operation feed.open, step 1: count must be 0 or more, not -1"),
        (lambda: of(Try((), attempts=0)), "operation feed.open, step 1: attempts must be 1 or more, not 0"),
        (lambda: of(Try((), growth=0)), "operation feed.open, step 1: a timeout is 0 or more and a growth above 0"),
        (
            lambda: of(Delay(ONE, per={"rows": -1})),
            "operation feed.open, step 1: a cost per rows must be 0 or more, not -1",
        ),
        (lambda: of(stations=(Station("s", servers=0),)), "station s: servers must be 1 or more, not 0"),
        (
            lambda: of(stations=(Station("s", discipline="fifos"),)),
            "station s: no discipline 'fifos' (did you mean 'fifo'?)",
        ),
        (lambda: of(stations=(Station("s", queue_limit=-1),)), "station s: queue_limit must be 0 or more, not -1"),
        (lambda: topic(partitions=0), "topic posts: partitions must be 1 or more, not 0"),
        (lambda: topic(poll_max=0), "topic posts: poll_max must be 1 or more, not 0"),
        (lambda: topic(linger_s=-1), "topic posts: linger_s must be 0 or more, not -1"),
        (lambda: topic(retry_s=0), "topic posts: retry_s must be more than 0, not 0"),
        (lambda: of(caches=(Cache("c", 0),)), "cache c: ttl must be more than 0, not 0"),
        (lambda: of(quotas=(Quota("q", 0),)), "quota q: needs a rate above 0 and a burst of 1 or more"),
        (lambda: of(quotas=(Quota("q", 1, 0.5),)), "quota q: needs a rate above 0 and a burst of 1 or more"),
        # twice
        (lambda: of(stations=(Station("a"), Station("b"), Station("a"))), "stations: a declared twice"),
        (lambda: Network((Operation("x", ()), Operation("x", ()))), "operations: x declared twice"),
        (lambda: of(milestones=(Milestone("m"), Milestone("m"))), "milestones: m declared twice"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(make, line):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == line


def test_only_a_batch_has_a_child_for_each_event():
    with pytest.raises(ValueError, match=r"^operation feed\.open, step 1: each_event belongs to the steps of a topic"):
        of(Scatter((), each_event=True))


def test_a_scatter_opens_a_new_try_and_a_topics_child_is_a_request_again():
    of(Try((Scatter((Try((Delay(ONE),)),)),)))
    topic(Scatter((Mark("dispatched"), Publish("posts", key="post")), each_event=True))


def test_walking_sees_inner_steps_in_the_order_of_the_text():
    def mark(name):
        return Mark(name)

    steps = (
        Lookup("pages", "post", hit=(mark("1"),), miss=(mark("2"),)),
        Branch((Arm(0.5, (mark("3"),)), Arm(0.5, (Scatter((mark("4"),)),)))),
        Try((mark("5"),), otherwise=(mark("6"),)),
        mark("7"),
    )
    assert [step.milestone for step in walk(steps) if isinstance(step, Mark)] == list("1234567")


def test_inner_routes_cover_every_step_that_has_steps():
    """A new kind of step with steps inside must be known to `inner_routes`, or its milestones would be overlooked."""
    with_steps = {kind for kind in Step.__args__ if {"steps", "miss", "arms"} & set(kind.__dataclass_fields__)}
    examples = (Lookup("c", "k", ()), Branch((Arm(0.5, ()),)), Scatter(()), Try(()), Hold("s", ()))
    assert {type(step) for step in examples if inner_routes(step)} == with_steps
    assert inner_routes(Delay(ONE)) == ()


def test_suggestions():
    assert suggestion("feed.opne", ["feed.open", "feed.publish"]) == " (did you mean 'feed.open'?)"
    assert suggestion("x", ["b", "a"]) == " (there are: b, a)"
    assert suggestion("x", []) == " (there are none)"
