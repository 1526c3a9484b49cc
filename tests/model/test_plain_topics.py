"""Topics with exact clocks: producer buffers, acknowledgements, polls, batches, commits, crashes."""

import pytest

from model.distributions import constant, uniform
from model.network import (
    Delay,
    Mark,
    Network,
    Operation,
    Publish,
    Respond,
    Scatter,
    Serve,
    Station,
    Topic,
    Try,
)
from model.variates import scramble
from tests.model.runs import answered, answers, at, marks, probe, run, topic

pytestmark = pytest.mark.usefixtures("engine")

APPLY = (Delay(constant(1.0)), Mark("applied"))


def log(steps=APPLY, publish=None, before=(), **settings):
    """Publishing operations and one topic `log`."""
    stations = settings.pop("stations", ())
    operation = Operation("put", (*before, publish or Publish("log", key="key", weight="weight"), Respond()))
    return Network((operation,), stations, (Topic("log", steps, **settings),), attributes=("key", "weight"))


def log_and_hog(steps, hog_s, **settings):
    """The same at a database without a queue, which an operation `hog` can hold."""
    database = Station("database", queue_limit=0)
    base = log(steps, stations=(database,), **settings)
    hog = Operation("hog", (Serve("database", constant(hog_s)),))
    return Network((*base.operations, hog), base.stations, base.topics, attributes=base.attributes)


def puts(*instants, **attributes):
    return [(instant, "put", attributes) for instant in instants]


def keys_of_partitions(count):
    """A key for each partition."""
    found = {}
    for key in range(1000):
        found.setdefault(int(scramble(key, 0)) % count, float(key))
    return [found[number] for number in range(count)]


def applied(record):
    return [(instant, request) for instant, _, request in marks(record)]


# ---- the producer


def test_a_lone_record_is_sent_at_once_and_acknowledged_later():
    record = run(log(acknowledgement=constant(0.5)), puts(1))
    assert answers(record) == [(1, 1.5, "ok")]
    assert applied(record) == [(2.5, 0)]


def test_linger_counts_from_the_first_record_of_the_buffer():
    record = run(log(linger_s=1.0, batch_max=10, acknowledgement=constant(0.25)), puts(0, 0.5, 0.875, 1.5))
    assert answered(record) == [1.25, 1.25, 1.25, 2.75]


def test_a_full_buffer_is_sent_before_its_linger_is_over():
    record = run(log(linger_s=1.0, batch_max=3, acknowledgement=constant(0.25)), puts(0, 0.25, 0.5, 0.75, 1.25))
    # Three at 0.5. The linger of 0 was the first buffer's: the second one waits from 0.75 to 1.75.
    assert answered(record) == [0.75, 0.75, 0.75, 2, 2]


def test_each_partition_has_a_buffer_of_its_own():
    first, second = keys_of_partitions(2)
    schedule = [(0, "put", {"key": first}), (0.5, "put", {"key": second}), (0.75, "put", {"key": first})]
    record = run(log(linger_s=1.0, batch_max=2, partitions=2, acknowledgement=constant(0.25)), schedule)
    assert answered(record) == [1, 1.75, 1]


def test_a_member_sees_a_record_a_fetch_after_it_was_appended():
    network = log((Delay(constant(4.0)), Mark("applied")), fetch=constant(0.5), poll_wait_s=1.0)
    record = run(network, puts(0, 0.25, 1.25, 1.75, 5.375))
    # Seen at 0.5 and taken at 1.5, when 1.25 is not seen yet; done at 5.5. The others were seen long before 6.5.
    assert applied(record) == [(5.5, 0), (5.5, 1), (10.5, 2), (10.5, 3), (10.5, 4)]


def test_a_full_poll_waits_for_its_fetch_alone():
    network = log(fetch=constant(0.5), poll_wait_s=4.0, poll_max=2)
    assert applied(run(network, puts(0, 0.75))) == [(5.5, 0), (5.5, 1)]  # it filled up unseen
    assert applied(run(network, puts(0, 0.25, 1, 1.25))) == [(5.5, 0), (5.5, 1), (6.5, 2), (6.5, 3)]
    assert applied(run(log(fetch=constant(0.5), poll_max=1), puts(0, 0.25))) == [(1.5, 0), (2.5, 1)]


def test_acknowledgements_of_a_partition_keep_their_order():
    network = log(acknowledgement=uniform(0.0, 10.0))
    record = run(network, puts(*[n / 16 for n in range(200)], key=1))
    instants = answered(record)
    assert instants == sorted(instants)
    assert len(set(instants)) < 60  # a slow one holds up many
    others = [(n / 16, "put", {"key": float(n)}) for n in range(200)]
    spread = answered(run(log(acknowledgement=uniform(0.0, 10.0), partitions=50), others))
    assert spread != sorted(spread)  # partitions owe each other nothing


@pytest.mark.parametrize("seed", range(20))
def test_no_rounding_lets_an_acknowledgement_overtake(seed):
    instants = answered(run(log(acknowledgement=uniform(1.0, 6.0)), puts(*[n / 37 for n in range(80)], key=1), seed=seed))
    assert instants == sorted(instants)


@pytest.mark.parametrize("partitions", [1, 2, 3, 8])
def test_the_same_key_always_goes_to_the_same_partition(partitions):
    keys = keys_of_partitions(partitions)
    network = log(partitions=partitions, consumers=partitions, steps=(Delay(constant(2.0)), Mark("applied")))
    schedule = [(0.25 * n, "put", {"key": key}) for n in range(2) for key in keys]
    record = run(network, sorted(schedule, key=lambda item: item[0]))
    # Two events per member: the second of a key waits until the member is free, keys do not wait for each other.
    assert sorted(instant for instant, _ in applied(record)) == [2] * partitions + [4] * partitions


def test_records_without_a_key_spread_over_partitions():
    network = log(publish=Publish("log"), partitions=4, consumers=4, poll_max=1)
    record = run(network, puts(*[0] * 400))
    assert topic(record, "log")["batches"] == 400
    last_of_each = max(instant for instant, _ in applied(record))
    assert 100 <= last_of_each <= 135  # 400 services of a second by four members, about evenly


# ---- the consumer group


def test_a_free_member_takes_what_is_there_and_a_busy_one_finds_the_rest_later():
    record = run(log(), puts(0, 0.25, 0.5, 1.5))
    assert applied(record) == [(1, 0), (2, 1), (2, 2), (3, 3)]
    counts = topic(record, "log")
    assert (counts["published"], counts["consumed"], counts["batches"], counts["batch_events"]) == (4, 4, 3, 4)
    assert counts["max_lag"] == 3
    assert counts["busy_area"] == 3
    assert counts["lag_area"] == 1 * 1 + 2 * 1.75 - 0.25 + 1 * 1.5
    assert counts["wait_s"] == 0.75 + 0.5 + 0.5


def test_poll_max_bounds_a_batch():
    record = run(log(poll_max=2), puts(0, 0.25, 0.25, 0.25, 0.25))
    assert applied(record) == [(1, 0), (2, 1), (2, 2), (3, 3), (3, 4)]


def test_a_member_waits_a_little_for_more_but_not_when_it_has_enough():
    network = log(poll_wait_s=0.5, poll_max=3)
    # The third comes during the work; the member finds it at 1.5 and waits for more until 2.
    assert applied(run(network, puts(0, 0.25, 0.75))) == [(1.5, 0), (1.5, 1), (3, 2)]
    assert applied(run(network, puts(0, 0.125, 0.25))) == [(1.25, 0), (1.25, 1), (1.25, 2)]


def test_a_wait_for_more_begins_anew_with_each_batch():
    # Both of 0 and 0.25 are taken at 0.25, full. The next comes at 0.375, is seen at 1.25 and collected until 1.75.
    assert applied(run(log(poll_wait_s=0.5, poll_max=2), puts(0, 0.25, 0.375))) == [(1.25, 0), (1.25, 1), (2.75, 2)]


def test_a_batch_costs_by_events_keys_and_weight():
    steps = (Delay(constant(1.0), per={"events": 0.125, "keys": 0.25, "weight": 0.5}), Mark("applied"))
    schedule = [(0, "put", {"key": 7, "weight": 1}), *[(0.5, "put", {"key": key, "weight": 2}) for key in (7, 7, 8)]]
    record = run(log(steps=steps), schedule)
    assert [instant for instant, _ in applied(record)] == [1.875] + [1.875 + 1 + 3 * 0.125 + 2 * 0.25 + 6 * 0.5] * 3
    assert record.marks["weight"].tolist() == [1, 2, 2, 2]


def test_records_without_a_key_count_as_keys_of_their_own():
    steps = (Delay(constant(1.0), per={"keys": 1.0}), Mark("applied"))
    record = run(log(steps=steps, publish=Publish("log")), puts(0, 0.5, 0.5, 0.5))
    assert applied(record) == [(2, 0), (6, 1), (6, 2), (6, 3)]


def test_a_member_serves_its_partitions_in_turn():
    first, second = keys_of_partitions(2)
    schedule = [(0, "put", {"key": first})] * 4 + [(0.5, "put", {"key": second})]
    record = run(log(partitions=2, poll_max=1), schedule)
    assert applied(record) == [(1, 0), (2, 4), (3, 1), (4, 2), (5, 3)]


def test_more_members_than_partitions_are_idle():
    record = run(log(consumers=5, poll_max=1), puts(0, 0, 0))
    assert applied(record) == [(1, 0), (2, 1), (3, 2)]


def test_a_batch_visits_stations_like_anybody():
    network = log(
        steps=(Serve("database", constant(1.0)), Mark("applied")),
        stations=(Station("database"),),
        partitions=2,
        consumers=2,
    )
    first, second = keys_of_partitions(2)
    record = run(network, [(0, "put", {"key": first}), (0, "put", {"key": second})])
    assert applied(record) == [(1, 0), (2, 1)]


def test_each_event_of_a_batch_as_a_task_of_its_own_that_publishes_on():
    dispatch = Scatter((Delay(constant(1.0)), Scatter((Publish("fanout"),), count="pieces")), each_event=True)
    topics = (
        Topic("posts", (dispatch,), acknowledgement=constant(0.25)),
        Topic("fanout", (Delay(constant(1.0)), Mark("delivered")), poll_max=1, partitions=1),
    )
    network = Network((Operation("post", (Publish("posts"), Respond())),), topics=topics, attributes=("pieces",))
    record = run(network, [(0, "post", {"pieces": 2}), (0.5, "post", {"pieces": 1})])
    assert answered(record) == [0.25, 0.75]
    assert marks(record) == [(2.25, "delivered", 0), (3.25, "delivered", 0), (4.25, "delivered", 1)]
    assert record.marks["ordinal"].tolist() == [1, 2, 1]
    assert topic(record, "posts")["batches"] == 2


# ---- failures of publishers


def test_a_record_withdrawn_from_the_buffer_was_never_sent():
    network = log(publish=Try((Publish("log"),), timeout_s=0.5), linger_s=1.0, batch_max=3)
    # 0: given up at 0.5. 1: at 0.75, before request 3 arrives. 2 and 3 go with the linger of 0, the buffer never being empty.
    record = run(network, puts(0, 0.25, 0.625, 0.75))
    assert answers(record) == [(0, 0.5, "timed_out"), (0.25, 0.75, "timed_out"), (0.625, 1, "ok"), (0.75, 1, "ok")]
    assert applied(record) == [(2, 2), (2, 3)]
    assert topic(record, "log")["published"] == 2
    full = run(network, puts(0, 0.25, 0.375))
    assert answered(full) == [0.375] * 3


def test_the_linger_of_an_emptied_buffer_does_not_send_the_next_record_early():
    network = log(
        publish=Try((Publish("log"),), timeout_s=0.5, otherwise=(Publish("log"), Respond())), linger_s=1.0, batch_max=10
    )
    # Withdrawn at 0.5 and published again: the linger is 0.5 to 1.5, not to 1.
    assert answers(run(network, puts(0))) == [(0, 1.5, "ok")]


def test_a_record_in_flight_is_durable_though_its_publisher_gave_up():
    network = log(publish=Try((Publish("log"),), timeout_s=0.5), acknowledgement=constant(2.0))
    record = run(network, puts(0))
    assert answers(record) == [(0, 0.5, "timed_out")]
    assert applied(record) == [(3, 0)]
    assert topic(record, "log")["consumed"] == 1


def test_a_second_attempt_puts_a_second_record():
    network = log(publish=Try((Publish("log"),), timeout_s=0.5, attempts=2), acknowledgement=constant(0.75))
    record = run(network, puts(0))
    # Acknowledged at 0.75 for nobody, and the second at 1.25, when its publisher has given up too (at 1).
    assert answers(record) == [(0, 1, "timed_out")]
    assert applied(record) == [(1.75, 0), (2.75, 0)]


# ---- crashes


def test_a_crash_before_the_commit_delivers_again_after_the_session_timeout():
    network = log(consumers=2, partitions=2, session_timeout_s=5.0)
    first, _ = keys_of_partitions(2)
    record = run(network, puts(0, key=first), control=at((0.5, "crash", 0, 0)))
    # The other member sees partition 0 at 5.5.
    assert applied(record) == [(6.5, 0)]
    counts = topic(record, "log")
    assert (counts["published"], counts["consumed"], counts["redelivered"]) == (1, 1, 1)
    assert (counts["batches"], counts["duplicates_skipped"], counts["duplicates_applied"]) == (2, 0, 0)
    assert counts["busy_area"] == 0.5 + 1


def test_what_was_applied_before_the_crash_is_applied_once():
    steps = (*APPLY, Delay(constant(1.0)))  # applied a second after the poll, committed another second later
    network = log(steps=steps, consumers=2, session_timeout_s=5.0)
    record = run(network, puts(0, 0.5), control=at((1.5, "crash", 0, 0)))
    # At 0 alone in a batch: applied at 1, not committed. At 6.5 the other gets both: the first is skipped.
    assert applied(record) == [(1, 0), (7.5, 1)]
    counts = topic(record, "log")
    assert (counts["consumed"], counts["redelivered"], counts["duplicates_skipped"]) == (2, 1, 1)
    careless = log(steps=steps, consumers=2, session_timeout_s=5.0, idempotent=False)
    record = run(careless, puts(0, 0.5), control=at((1.5, "crash", 0, 0)))
    assert applied(record) == [(1, 0), (7.5, 0), (7.5, 1)]
    assert topic(record, "log")["duplicates_applied"] == 1


def test_a_crash_after_the_commit_repeats_nothing():
    network = log(consumers=2, session_timeout_s=5.0)
    record = run(network, puts(0, 4), control=at((2.0, "crash", 0, 0)))
    assert applied(record) == [(1, 0), (8, 1)]
    assert topic(record, "log")["redelivered"] == 0


def test_with_nobody_left_records_wait_for_whoever_returns():
    network = log(consumers=2, partitions=2, session_timeout_s=5.0)
    keys = keys_of_partitions(2)
    schedule = [(1, "put", {"key": key}) for key in keys]
    control = at((0.5, "crash", 0, 0), (0.5, "crash", 0, 1), (20.0, "restore", 0, 1))
    record = run(network, schedule, control=control)
    assert applied(record) == [(21, 0), (21, 1)]
    assert topic(record, "log")["max_lag"] == 2


def test_a_member_that_is_back_before_the_timeout_keeps_its_partitions():
    network = log(consumers=2, partitions=2, session_timeout_s=5.0)
    first, _ = keys_of_partitions(2)
    control = at((0.5, "crash", 0, 0), (2.0, "restore", 0, 0))
    assert applied(run(network, puts(0, 6, key=first), control=control)) == [(3, 0), (7, 1)]


def test_a_returning_member_gets_its_share_once_the_present_owner_has_committed():
    first, second = keys_of_partitions(2)
    network = log(consumers=2, partitions=2, session_timeout_s=1.0, steps=(Delay(constant(4.0)), Mark("applied")))
    control = at((0.0, "crash", 0, 1), (3.0, "restore", 0, 1))
    # From 1 on member 0 has both partitions; at 2 it begins a batch of both and is busy until 6. So partition 1 is only
    # promised to member 1 at 3; what comes at 4 it gets at 6, when the other begins with its own.
    schedule = [(2, "put", {"key": first}), (4, "put", {"key": second}), (4, "put", {"key": first})]
    record = run(network, schedule, control=control)
    assert applied(record) == [(6, 0), (8, 1), (10, 2)]
    schedule = [
        (1.5, "put", {"key": first}),
        (2, "put", {"key": second}),
        (6, "put", {"key": second}),
        (6, "put", {"key": first}),
    ]
    record = run(network, schedule, control=at((0.0, "crash", 0, 1), (6.5, "restore", 0, 1)))
    # 5.5: member 0 is free, takes partition 1's record of 2, until 9.5: at 6.5 partition 1 is in work. Then both go on.
    assert applied(record) == [(5.5, 0), (9.5, 1), (13.5, 2), (13.5, 3)]


def test_the_heir_of_a_partition_may_die_before_it_inherits():
    first, second = keys_of_partitions(2)
    network = log(consumers=2, partitions=2, session_timeout_s=1.0, steps=(Delay(constant(4.0)), Mark("applied")))
    control = at((0.0, "crash", 0, 1), (3.0, "restore", 0, 1), (3.5, "crash", 0, 1))
    record = run(
        network, [(2, "put", {"key": second}), (4, "put", {"key": second}), (4, "put", {"key": first})], control=control
    )
    assert applied(record) == [(6, 0), (10, 2), (10, 1)]  # member 0 takes both partitions at 6


def test_a_member_crashes_while_it_waits_for_more():
    network = log(consumers=2, session_timeout_s=5.0, poll_wait_s=1.0)
    record = run(network, puts(0), control=at((0.5, "crash", 0, 0)))
    assert applied(record) == [(7.5, 0)]  # 5.5 found, 6.5 collected
    assert topic(record, "log")["redelivered"] == 0  # it was never fetched


def test_crash_and_restore_of_whoever_is_dead_or_alive_already_change_nothing():
    plain = run(log(consumers=2, session_timeout_s=5.0), puts(0), control=at((0.5, "crash", 0, 0)))
    control = at((0.25, "restore", 0, 0), (0.5, "crash", 0, 0), (0.75, "crash", 0, 0), (0.75, "restore", 0, 1))
    assert (
        applied(run(log(consumers=2, session_timeout_s=5.0), puts(0), control=control)) == applied(plain) == [(6.5, 0)]
    )


def test_what_a_dying_batch_holds_at_a_station_is_given_back():
    steps = (Serve("database", constant(4.0)), Mark("applied"))
    network = log(steps=steps, stations=(Station("database"),), consumers=2, session_timeout_s=1.0)
    record = run(network, puts(0), control=at((2.0, "crash", 0, 0)))
    assert applied(record) == [(7, 0)]  # 3 + 4: the database was free again at 2
    assert record.stations["withdrawn"].tolist() == [1]
    assert record.stations["busy_area"].tolist() == [6]


# ---- failed batches


def test_a_failed_batch_is_tried_again_after_a_pause():
    network = log_and_hog((Serve("database", constant(1.0)), Mark("applied")), hog_s=3.0, retry_s=0.75)
    record = run(network, [(0, "hog"), (0.5, "put", {"key": 1}), (1, "put", {"key": 2})])
    # Rejected at 0.5 and, with the second record, at 1.25, 2 and 2.75; at 3.5 both are served.
    assert applied(record) == [(4.5, 1), (4.5, 2)]
    counts = topic(record, "log")
    assert (counts["batches"], counts["redelivered"], counts["consumed"]) == (5, 1 + 2 + 2 + 2, 2)
    assert counts["busy_area"] == 1


def test_a_batch_may_try_by_itself():
    steps = (Try((Serve("database", constant(1.0)),), attempts=9, backoff=constant(0.5)), Mark("applied"))
    record = run(log_and_hog(steps, hog_s=3.0), [(0, "hog"), (0.75, "put")])
    assert applied(record) == [(4.25, 1)]  # it asked at 0.75, 1.25, ... and found the database free at 3.25
    assert topic(record, "log")["batches"] == 1


def test_a_batch_that_fails_part_way_marks_once():
    steps = (Mark("applied"), Try((Delay(constant(2.0)),), timeout_s=1.0), probe("never"))
    record = run(log(steps=steps, retry_s=1.0), puts(0), until_s=5.5)
    assert marks(record) == [(0, "applied", 0)]
    counts = topic(record, "log")
    assert (counts["duplicates_skipped"], counts["redelivered"], counts["backlog_end"]) == (2, 3, 1)


# ---- nothing is lost


@pytest.mark.parametrize("idempotent", [True, False])
def test_nothing_is_lost_in_a_long_series_of_crashes(idempotent):
    network = log(
        steps=(Delay(uniform(0.0, 1.0)), Mark("applied"), Delay(uniform(0.0, 0.5))),
        partitions=5,
        consumers=3,
        poll_max=4,
        poll_wait_s=0.25,
        linger_s=0.125,
        batch_max=3,
        acknowledgement=uniform(0.0, 0.5),
        session_timeout_s=2.0,
        idempotent=idempotent,
    )
    schedule = [(n / 32, "put", {"key": float(n % 17)}) for n in range(1500)]
    crashes = [(3.0 + 5 * n, "crash", 0, n % 3) for n in range(12)] + [
        (6.5 + 5 * n, "restore", 0, n % 3) for n in range(12)
    ]
    record = run(network, schedule, control=at(*sorted(crashes)), until_s=400)
    counts = topic(record, "log")
    assert (counts["published"], counts["consumed"], counts["backlog_end"]) == (1500, 1500, 0)
    assert counts["redelivered"] > 10
    applications = sorted(request for _, request in applied(record))
    if idempotent:
        assert applications == list(range(1500))
        assert counts["duplicates_skipped"] > 0
    else:
        assert sorted(set(applications)) == list(range(1500))
        assert len(applications) - 1500 == counts["duplicates_applied"] > 0


# ---- back-pressure


def test_who_publishes_while_too_much_waits_is_refused():
    # A batch of one takes a second; at 0.75 two are in the log, at 1.25 the first has been committed.
    record = run(log(poll_max=1, lag_limit=2), [(0, "put"), (0.25, "put"), (0.75, "put"), (1.25, "put"), (1.5, "put")])
    assert [outcome for *_, outcome in answers(record)] == ["ok", "ok", "rejected", "ok", "rejected"]
    assert topic(record, "log")["max_lag"] == 2
    assert topic(record, "log")["published"] == topic(record, "log")["consumed"] == 3


def test_a_limit_of_nothing_is_refused():
    with pytest.raises(ValueError, match="topic log: lag_limit must be 1 or more, not 0"):
        log(lag_limit=0)
