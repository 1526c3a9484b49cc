"""Files become scenarios: units, defaults, extends, overrides, and that nothing else than a scenario or one line comes out."""

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.scenario import Event, Fault
from scenarios.documents import DEFAULTS, read_toml, shipped
from scenarios.fields import ScenarioError
from scenarios.loader import load_document, load_scenario, scenario_of
from scenarios.toml_text import as_toml, differences, inline
from scenarios.units import UNITS, same_quantity, split_unit


@pytest.fixture
def write(tmp_path):
    def write(text, name="mine.toml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_every_default_says_where_it_comes_from():
    values = [line for line in DEFAULTS.read_text().splitlines() if re.match(r"(# )?\w+ ?[=:]", line)]
    silent = [line for line in values if not re.search(r"# (source: \S|assumption)", line) and line != 'question = ""']
    assert len(values) > 70
    assert silent == []


@pytest.mark.parametrize("name", sorted(shipped()))
def test_shipped_scenarios_load_and_ask_their_question(name):
    scenario = load_scenario(name)
    text = shipped()[name].read_text()
    assert scenario.name == name
    assert scenario.question.endswith("?")
    assert text.startswith(f"# {scenario.question}\n")
    assert "─►" in text


@pytest.mark.parametrize("name", sorted(shipped()))
def test_every_number_of_a_shipped_scenario_says_where_it_comes_from(name):
    lines = shipped()[name].read_text().splitlines()
    numbers = [(above, line) for above, line in zip(["", *lines], lines, strict=False) if re.match(r"(?!answer = )[^#]*=.*\d", line)]
    assert [line for above, line in numbers if "#" not in line and not above.startswith("#")] == []


@pytest.mark.parametrize(
    ("key", "seconds"),
    [("linger_us = 2500", 0.0025), ("linger_ms = 50", 0.05), ("linger_s = 1.5", 1.5), ("linger_minutes = 2", 120.0)],
)
def test_any_unit_of_time_will_do(write, key, seconds):
    assert load_scenario(write(f"[topics.posts]\n{key}")).topics["posts"].linger_s == seconds


def test_rates_come_per_second_or_per_minute(write):
    assert load_scenario(write("[load]\nfeed_opens_per_minute = 90")).load.feed_opens_per_s == 1.5


def test_units_are_the_longest_endings():
    assert split_unit("rate_per_s") == ("rate", "rate", "per_s")
    assert split_unit("per_ms") == ("per", "time", "ms")
    assert split_unit("likes_per_feed_open") == ("likes_per_feed_open", "", "")
    assert same_quantity("linger_ms", "linger_s")
    assert not same_quantity("linger_ms", "linger_mib")
    assert all(split_unit(f"x_{unit}") == ("x", name, unit) for name, units in UNITS.items() for unit in units)


def test_costs_and_service_times_go_by_name_in_seconds():
    scenario = load_scenario("baseline", ["costs.api_feed_row_us=7", "service_times.api_write.mean_ms=2"])
    assert scenario.costs_s["api_feed_row"] == 7e-6
    assert scenario.service_times["api_write"].mean_s == pytest.approx(0.002)
    assert scenario.service_times["api_write"].cv == pytest.approx(0.5)


def test_a_warm_up_that_is_not_given_is_a_tenth(write):
    assert load_scenario(write("[run]\nduration_s = 50")).run.warmup_s == 5


def test_extends_merges_key_by_key_and_the_other_unit_replaces(write):
    write(
        '[topics.posts]\nlinger_ms = 7\nbatch_max = 9\n[service_times]\napi_read = { distribution = "constant", mean_ms = 3 }',
        "base.toml",
    )
    scenario = load_scenario(write('extends = "base.toml"\n[topics.posts]\nlinger_s = 0.5'))
    assert scenario.topics["posts"].linger_s == 0.5
    assert scenario.topics["posts"].batch_max == 9
    assert scenario.topics["posts"].partitions == load_scenario("baseline").topics["posts"].partitions
    assert scenario.service_times["api_read"].name == "constant"


def test_a_distribution_that_is_named_replaces_the_old_one_whole(write):
    path = write('[service_times]\napi_read = { distribution = "exponential", mean_ms = 3 }')
    assert load_scenario(path).service_times["api_read"].cv == 1.0


def test_extends_a_shipped_name(write):
    scenario = load_scenario(write('extends = "celebrity_post"\n[feed]\nthreshold = 7'))
    assert (scenario.feed.strategy, scenario.feed.threshold) == ("push", 7)
    assert scenario.events == (Event(30.0, "feed.publish", "celebrity:0", 10, 10.0),)


def test_overrides_go_before_files_and_options_before_overrides():
    scenario = load_scenario("baseline", ["run.seed=4", "feed.threshold=5_000", "feed.strategy=naive"], seed=9)
    assert (scenario.run.seed, scenario.feed.threshold, scenario.feed.strategy) == (9, 5000, "naive")


def test_objectives_have_seconds_however_they_are_written():
    overrides = ['slo."feed.open.p99_ms"=70', "slo.feed.delivered.max_minutes=1", "slo.feed.open.throughput_per_s=3"]
    slo = load_scenario("baseline", overrides).slo
    assert slo["feed.open.p99_s"] == 0.07
    assert slo["feed.delivered.max_s"] == 60
    assert slo["feed.open.throughput_per_s"] == 3


def test_faults_of_both_kinds():
    faults = (
        'faults=[{kind="consumer_crash",at_s=1,target="interactions",member=1},'
        '{kind="capacity",at_s=2,target="database",servers=0,back_after_ms=500}]'
    )
    assert load_scenario("baseline", [faults]).faults == (
        Fault("consumer_crash", 1.0, "interactions", 1, 0, None),
        Fault("capacity", 2.0, "database", 0, 0, 0.5),
    )


def test_a_graph_counts_from_the_file_that_names_it_or_from_here(write, tmp_path, monkeypatch):
    (tmp_path / "edges.txt").write_text("1 2\n")
    path = write('[population]\ngraph = "edges.txt"\nboth_ways = true')
    assert load_scenario(path).population.graph == str(tmp_path / "edges.txt")
    monkeypatch.chdir(tmp_path)
    assert load_scenario("baseline", graph="edges.txt").population.graph == "edges.txt"


@pytest.mark.parametrize("name", sorted(shipped()))
def test_what_show_prints_is_the_same_scenario(name, write):
    document = load_document(name)
    again = load_document(write(as_toml(document, marked=True), f"{name}.toml"))
    assert scenario_of(again) == scenario_of(document)
    assert differences(document, again) == []


def test_differences_go_by_meaning():
    one, other = load_document("baseline"), load_document("baseline", ["run.warmup_ms=20000", "feed.page_size=9"])
    assert differences(one, other) == [("feed.page_size", "20", "9")]


def test_marks_say_the_default():
    text = as_toml(
        load_document("baseline", ["topics.posts.linger_s=0.001", "topics.fanout.linger_s=0.005"]), marked=True
    )
    assert "linger_s = 0.001  # default: 0 ms\n" in text
    assert "linger_s = 0.005\n" in text


# ---- whatever a file holds: a scenario, or one line
VALUES = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from([10**30, "api", "feed.open", 0, 1]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
SMALL = """
[run]
duration_s = 10
[network.stations.api]
servers = 2
[network.caches.c]
ttl_s = 1
[network.quotas.q]
rate_per_s = 5
[network.topics.log]
service_time = { distribution = "gamma", mean_ms = 1, cv = 2 }
per_event_ms = 0.1
steps = [{ scatter = { each_event = true, steps = [{ mark = "seen" }] } }]
[network.operations."a.b"]
arrivals = { rate_per_s = 3 }
attributes = { rows = { distribution = "uniform", low = 1, high = 9 } }
steps = [
  { serve = "api", service_time = { distribution = "exponential", mean_ms = 10 }, per_us = { rows = 3 } },
  { branch = [{ probability = 0.5, steps = [{ delay = { distribution = "constant", mean_ms = 5 } }] }] },
  { lookup = "c", key = "rows", miss = [{ acquire = "q" }] },
  { try = [{ publish = "log", key = "rows" }], timeout_ms = 5, attempts = 2 },
  { scatter = { count = "rows", steps = [] } },
  { respond = true },
]
[slo]
"a.b.p99_ms" = 5
[[faults]]
kind = "capacity"
at_s = 1
target = "api"
servers = 1
"""


def scenario_or_one_line(path):
    try:
        load_scenario(path)
    except ScenarioError as problem:
        text = str(problem)
        assert text.startswith(f"{path}: "), text
        assert "; " in text and text.isprintable(), text


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=80) | st.text(max_size=80).map(lambda text: text.encode()))
def test_any_bytes_give_a_scenario_or_one_line(tmp_path, content):
    path = tmp_path / "fuzz.toml"
    path.write_bytes(content)
    scenario_or_one_line(str(path))


@st.composite
def spoiled(draw, tables):
    """A table with one place, anywhere in it, removed, renamed, or with another value."""
    top = tables = draw(st.sampled_from(tables))()
    while True:
        keys = list(tables) if isinstance(tables, dict) else list(range(len(tables)))
        key = draw(st.sampled_from(keys))
        inner = tables[key]
        if isinstance(inner, (dict, list)) and inner and draw(st.integers(0, 4)) > 0:
            tables = inner
            continue
        value = tables.pop(key)
        change = draw(st.sampled_from(["remove", "rename", "replace"]))
        if change != "remove" and isinstance(tables, dict):
            new_key = (
                draw(st.text(max_size=8) | st.sampled_from([f"{key}_ms", f"{key}x"])) if change == "rename" else key
            )
            tables[new_key] = value if change == "rename" else draw(VALUES)
        elif change != "remove":
            tables.append(draw(VALUES))
        return top


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_spoiled_scenario_gives_a_scenario_or_one_line(tmp_path, data):
    small = tmp_path / "small.toml"
    small.write_text(SMALL)
    starts = [
        lambda: read_toml(small, "small.toml"),
        lambda: read_toml(DEFAULTS, "d"),
        lambda: load_document("worker_crash").values,
    ]
    values = data.draw(spoiled(starts))
    path = tmp_path / "fuzz.toml"
    path.write_text(
        "\n".join(f"{inline_key(key)} = {inline(value)}" for key, value in values.items()), encoding="utf-8"
    )
    scenario_or_one_line(str(path))


def inline_key(key):
    return inline({key: 0})[2:-6]


def test_the_small_network_is_a_scenario(write):
    assert load_scenario(write(SMALL)).declared is not None
