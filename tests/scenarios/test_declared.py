"""Networks of one's own: every word of the file form, and that the engine runs what the file says."""

from pathlib import Path

import numpy as np
import pytest

from model import distributions as d
from model import network as net
from model.queueing_theory import MMc
from model.simulation import simulate
from scenarios.durations import FORMS, duration
from scenarios.fields import Place, ScenarioError
from scenarios.loader import load_scenario

EVERY_WORD = """
[run]
duration_s = 10

[network.stations.api]
servers = 3
discipline = "priority"
queue_limit = 7
shed_above = 5
shed_keeps = 1

[network.budgets.few]
ratio = 0.2
burst = 5

[network.breakers.fuse]
window = 20
failure_ratio = 0.7
pause_s = 3

[network.caches.page]
ttl_ms = 500
capacity = 100
coalesce = true

[network.quotas.push]
rate_per_minute = 120
burst = 3

[network.milestones."a.done"]
since = "answer"

[network.topics.log]
partitions = 4
linger_ms = 5
batch_max = 6
consumers = 2
poll_max = 50
poll_wait_ms = 20
session_timeout_s = 10
retry_ms = 200
idempotent = false
acknowledgement = { distribution = "constant", mean_ms = 2 }
fetch = { distribution = "uniform", low_ms = 1, high_ms = 3 }
service_time = { distribution = "constant", mean_ms = 3 }
per_event_us = 100
steps = [{ scatter = { each_event = true, join = false, steps = [{ mark = "a.done" }] } }]

[network.operations."a.b"]
arrivals = { rate_per_minute = 90 }
priority = -1
attributes = { rows = { distribution = "uniform", mean = 6, cv = 0.1 }, post = { distribution = "empirical", values = [1, 2] } }
steps = [
  { serve = "api", service_time = { distribution = "erlang", mean_ms = 10, stages = 2 }, per_us = { rows = 5 } },
  { delay = { distribution = "constant", mean_ms = 5 }, per_ms = { rows = 1 } },
  { lookup = "page", key = "post", hit = [{ mark = "hit" }, { fail = 0.5 }], miss = [{ acquire = "push" }] },
  { acquire = "push", wait = false, otherwise = [{ fail = "rows" }] },
  { try = [{ publish = "log", key = "post", weight = "rows" }], timeout_ms = 50, attempts = 3, growth = 2,
    jitter = "full", backoff_max_ms = 90, budget = "few", breaker = "fuse",
    backoff = { distribution = "exponential", mean_ms = 4 }, otherwise = [{ respond = true }] },
  { scatter = { count = 2, join = "any",
    stagger = { distribution = "constant", mean_ms = 7 }, steps = [{ delay = { distribution = "constant", mean_ms = 1 } }] } },
  { branch = [{ probability = 0.25, steps = [{ scatter = { count = "rows", join = false, steps = [] } }] }] },
  { respond = true },
]

[network.operations.c]
interarrival = { distribution = "gamma", mean_s = 2, cv = 0.5 }
steps = []
""".replace(",\n    ", ", ")


def test_every_word_of_a_declared_network(tmp_path):
    path = tmp_path / "every.toml"
    path.write_text(EVERY_WORD)
    declared = load_scenario(str(path)).declared
    assert declared is not None
    batch = (
        net.Delay(d.constant(0.003), {"events": 1e-4}),
        net.Scatter((net.Mark("a.done"),), join=False, each_event=True),
    )
    steps = (
        net.Serve("api", d.erlang(0.01, 2), {"rows": 5e-6}),
        net.Delay(d.constant(0.005), {"rows": 0.001}),
        net.Lookup("page", "post", hit=(net.Mark("hit"), net.Fail(0.5)), miss=(net.Acquire("push"),)),
        net.Acquire("push", wait=False, otherwise=(net.Fail("rows"),)),
        net.Try(
            (net.Publish("log", "post", "rows"),),
            0.05,
            3,
            d.exponential(0.004),
            2.0,
            (net.Respond(),),
            "full",
            0.09,
            "few",
            "fuse",
        ),
        net.Scatter((net.Delay(d.constant(0.001)),), 2, "any", stagger=d.constant(0.007)),
        net.Branch((net.Arm(0.25, (net.Scatter((), "rows", join=False),)),)),
        net.Respond(),
    )
    topic = net.Topic("log", batch, 4, 0.005, 6, d.constant(0.002), 2, 50, 0.02, 10.0, 0.2, idempotent=False, fetch=d.uniform(0.001, 0.003))
    assert declared.network == net.Network(
        operations=(net.Operation("a.b", steps, -1), net.Operation("c", ())),
        stations=(net.Station("api", 3, "priority", 7, shed_above=5, shed_keeps=1),),
        topics=(topic,),
        caches=(net.Cache("page", 0.5, 100, True),),
        quotas=(net.Quota("push", 2.0, 3.0),),
        budgets=(net.RetryBudget("few", 0.2, 5.0),),
        breakers=(net.Breaker("fuse", 20, 0.7, 3.0),),
        attributes=("rows", "post"),
        milestones=(net.Milestone("a.done", "answer"),),
    )
    assert declared.arrivals["a.b"].interarrival == d.exponential(1 / 1.5)
    assert declared.arrivals["c"].interarrival == d.gamma(2.0, 0.5)
    assert declared.arrivals["a.b"].attributes["rows"] == d.uniform(mean_s=6.0, cv=0.1)
    results = simulate(load_scenario(str(path)))
    assert results.audit["conserved"]


NUMBERS = {
    "mean_ms": 4, "cv": 0.5, "low_ms": 1, "high_ms": 3, "stages": 3, "shape": 2.5, "scale_ms": 2, "median_ms": 2, "sigma": 0.4,
    "minimum_ms": 1, "probability": 0.3, "mean_1_ms": 1, "mean_2_ms": 9, "values_ms": [1, 2, 3], "quantiles_ms": [0, 1, 5],
}  # fmt: skip


@pytest.mark.parametrize(("kind", "form"), [(kind, form) for kind, forms in FORMS.items() for form in forms])
def test_every_way_to_give_a_distribution(kind, form):
    keys = [f"{key[:-2]}_ms" if key.endswith("_s") else key for key in form]
    table = {key: NUMBERS[key] for key in keys}
    if kind == "hyperexponential" and "cv" in table:
        table["cv"] = 2
    read = duration(Place({}), {"distribution": kind, **table})
    in_seconds = {
        name: np.divide(value, 1000).tolist() if name.endswith("_s") else value
        for name, value in zip(form, table.values(), strict=True)
    }
    assert read == d.KINDS[kind](**in_seconds)


def test_forms_name_every_parameter_of_every_kind():
    from inspect import signature

    assert set(FORMS) == set(d.KINDS)
    for kind, forms in FORMS.items():
        assert {key for form in forms for key in form} == set(signature(d.KINDS[kind]).parameters)


MM4 = """
[run]
duration_s = 20_000
warmup_s = 1_000
seed = 1

[network.stations.api]
servers = 4
discipline = "fifo"             # "fifo" | "priority" | "processor_sharing"
# queue_limit = 100             # waiting room; beyond it: rejected

[network.operations."shop.buy"]
arrivals = { rate_per_s = 3.2 } # Poisson; or interarrival = { distribution = ..., ... }
priority = 0                    # smaller is served first
steps = [
  { serve = "api", service_time = { distribution = "exponential", mean_ms = 1000 } },
  { delay = { distribution = "constant", mean_ms = 5 } },
  { respond = true },
  { mark = "shop.shipped" },
]
"""


@pytest.mark.slow
def test_four_servers_agree_with_queueing_theory(tmp_path):
    path = tmp_path / "mm4.toml"
    path.write_text(MM4)
    scenario = load_scenario(str(path))
    latencies_s = simulate(scenario).latencies_s("shop.buy")
    theory_s = MMc(3.2, 1.0, 4).mean_sojourn_s + 0.005
    batches_s = [np.mean(batch) for batch in np.array_split(latencies_s, 20)]
    standard_error_s = np.std(batches_s, ddof=1) / np.sqrt(len(batches_s))
    assert abs(np.mean(latencies_s) - theory_s) < 3 * standard_error_s
    assert standard_error_s < 0.05 * theory_s


def test_the_example_in_the_readme_is_a_scenario(tmp_path):
    readme = Path(__file__).resolve().parents[2] / "scenarios" / "README.md"
    path = tmp_path / "readme.toml"
    path.write_text(readme.read_text().split("```toml\n")[1].split("```")[0])
    declared = load_scenario(str(path)).declared
    assert declared is not None and declared.network.names("topics") == ("parcels",)


def test_hosts_processes_and_held_servers(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        """
[run]
duration_s = 10
[network.hosts.machine]
cores = 2
discipline = "wake_preemption"
speed = 1.5
[network.stations.app]
host = "machine"
preempts = false
wake_us = 20
cold = [{ idle_ms = 0.5, factor = 1 }, { idle_ms = 16, factor = 2 }]
gc_every = 1_000
gc_pause_ms = 12
[network.stations.pool]
servers = 4
[network.operations.ask]
arrivals = { rate_per_s = 100 }
steps = [{ hold = "pool", steps = [{ serve = "app", service_time = { distribution = "constant", mean_ms = 1 } }] }]
"""
    )
    scenario = load_scenario(str(path))
    assert scenario.declared is not None
    network = scenario.declared.network
    assert network.hosts == (net.Host("machine", 2, "wake_preemption", 1.5),)
    assert network.stations[0] == net.Station(
        "app",
        host="machine",
        preempts=False,
        wake_s=20e-6,
        cold=((0.0005, 1.0), (0.016, 2.0)),
        gc_every=1000,
        gc_pause_s=0.012,
    )
    assert network.operations[0].steps == (net.Hold("pool", (net.Serve("app", d.constant(0.001)),)),)
    assert 0 < simulate(scenario).document()["hosts"]["machine"]["utilisation"] < 0.2


@pytest.mark.parametrize(
    ("setting", "wrong", "right"),
    [
        ('stations.api.host="box"', "stations.api.host", "did you mean"),
        (
            "stations.api.cold=[{ idle_ms = 2, factor = 1 }, { idle_ms = 1, factor = 2 }]",
            "not longer than",
            "let idle times rise",
        ),
        ('hosts.boxx.discipline="lifo"', 'is "lifo"', 'did you mean "fifo"'),
        ("stations.api.gc_every=5", "gc_every and gc_pause belong together", ""),
    ],
)
def test_a_wrong_host_is_told_in_one_line(setting, wrong, right):
    with pytest.raises(ScenarioError) as refused:
        load_scenario("baseline", ["hosts.boxx.cores=1", setting])
    assert wrong in str(refused.value)
    assert right in str(refused.value)


def test_the_platform_runs_on_a_host():
    on_host = [f'stations.{name}.host="machine"' for name in ("api", "database")]
    scenario = load_scenario("one_machine", ["hosts.machine.cores=1", *on_host, "run.duration_s=5", "run.warmup_s=1"])
    document = simulate(scenario).document()
    hosted_s = sum(document["stations"][name]["utilisation"] for name in ("api", "database"))
    assert 0 < document["hosts"]["machine"]["utilisation"] <= hosted_s
