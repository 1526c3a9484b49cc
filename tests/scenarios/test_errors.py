"""What is said about bad input: exactly these lines."""

import pytest

from scenarios.documents import shipped
from scenarios.fields import ScenarioError
from scenarios.loader import load_scenario

BUY = '[network.operations."shop.buy"]\narrivals = { rate_per_s = 1 }\n'
NET = f"[run]\nduration_s = 9\n[network.stations.api]\n{BUY}"
TIMES = "write duration_us, duration_ms, duration_s or duration_minutes"

FILES = {
    "[feed]\ntreshold = 3": 'feed.treshold: unknown key; did you mean "threshold"?',
    "[fed]\nthreshold = 3": 'fed: unknown section; did you mean "feed"?',
    "feed = 3": "feed: is 3; write a table, [section] or { key = value }",
    "[run]\nduration_mib = 3": f"run.duration_mib: is no time; {TIMES}",
    "[run]\nduration = 3": f"run.duration: has no unit; {TIMES}",
    "[run]\nduration_ms = 3\nduration_s = 3": "run.duration_ms: given twice, as duration_s and duration_ms; keep one of the two",
    "[run]\nduration_s = nan": "run.duration_s: is nan; write a number above 0",
    "[run]\nduration_s = inf": "run.duration_s: is inf; write a number above 0",
    "[run]\nduration_s = true": "run.duration_s: is true; write a number above 0",
    '[run]\nduration_s = "9"': 'run.duration_s: is "9"; write a number above 0',
    "[run]\nduration_s = 9\nwarmup_s = 9": "run.warmup_s: is 9 s of a run of 9 s; give a warm-up shorter than duration_s",
    "[run]\nseed = 1.5": "run.seed: is 1.5; write a whole number from 0 up",
    "[feed]\npage_size_ms = 5": "feed.page_size_ms: takes no unit; write page_size",
    "[feed]\npage_size = 500": "feed.page_size: is 500; write a whole number from 1 to 100",
    '[feed]\nstrategy = "pul"': 'feed.strategy: is "pul"; there are: naive, indexed, push, hybrid',
    "[stations.databse]\nservers = 3": 'stations.databse: unknown name; did you mean "database"?',
    "[stations.fanout_workers]\nqueue_limit = 3": "stations.fanout_workers.queue_limit: unknown key; there are: servers",
    '[topics.post]\npartitions = "x"': 'topics.post: unknown name; did you mean "posts"?',
    "[service_times]\napi_raed = 3": 'service_times.api_raed: unknown name; did you mean "api_read"?',
    "[service_times]\napi_read = 3": "service_times.api_read: is 3; write a table, [section] or { key = value }",
    "[costs]\napi_feed_row = 3": "costs.api_feed_row: has no unit; "
    "write api_feed_row_us, api_feed_row_ms, api_feed_row_s or api_feed_row_minutes",
    "[costs]\napi_fed_row_us = 3": 'costs.api_fed_row_us: unknown key; did you mean "api_feed_row_us"?',
    "[population]\nusers = 50": "population.mean_followees: is 100 of 50 users; nobody has more than all others",
    '[population]\ngraph = "no"': "population.graph: no file 'no'; name an edge list, or leave it out to draw a graph",
    '[slo]\n"feed.opne.p99_ms" = 5': "slo.\"feed.opne.p99_ms\": no operation or milestone 'feed.opne'; did you mean \"feed.open\"?",
    '[slo]\n"feed.open.p99" = 5': 'slo."feed.open.p99": p99 has no unit; write p99_ms or p99_s',
    '[slo]\n"feed.open.p98_ms" = 5': "slo.\"feed.open.p98_ms\": no figure 'p98_ms'; did you mean \"p99_ms\"?",
    '[slo]\n"feed.open.p99_mib" = 5': 'slo."feed.open.p99_mib": p99_mib is no time; write p99_ms or p99_s',
    '[slo]\n"feed.delivered.throughput_per_s" = 5': "slo.\"feed.delivered.throughput_per_s\": no figure 'throughput_per_s'; "
    "there are: mean_ms, p50_ms, p90_ms, p95_ms, p99_ms, p999_ms, max_ms",
    '[slo]\n"stations.apu.utilisation" = 5': "slo.\"stations.apu.utilisation\": no station 'apu'; did you mean \"api\"?",
    '[slo]\n"topics.posts.lag" = 5': "slo.\"topics.posts.lag\": no figure 'lag' of a topic; write topics.posts.max_lag",
    '[slo]\n"feed.open.rejected_ratio" = 5': 'slo."feed.open.rejected_ratio": is 5; write a number from 0 to 1',
    '[[events]]\nat_s = 1\noperation = "feed.open"\nuser = "celebrity:0"': "events #1.user: is 'celebrity:0', but "
    "population.celebrities has 0; name one that there is",
    '[[events]]\nat_s = 1\noperation = "feed.open"\nuser = 20000': "events #1.user: is 20000; "
    "write a whole number from 0 to 19999",
    '[[events]]\nat_s = 1\nuser = 1\noperation = "feed.opn"': 'events #1.operation: is "feed.opn"; did you mean "feed.open"?',
    '[[events]]\nuser = 1\noperation = "feed.open"': "events #1: at_s is missing; give it as at_us, at_ms, at_s or at_minutes",
    '[[faults]]\nkind = "capacity"\nat_s = 1\ntarget = "apo"': 'faults #1.target: is "apo"; did you mean "api"?',
    '[[faults]]\nkind = "capacity"\nat_s = 1\ntarget = "api"': "faults #1: servers is missing; say how many servers are left",
    '[[faults]]\nkind = "consumer_crash"\nat_s = 1\ntarget = "interactions"\nmember = 2': "faults #1.member: is 2 of a group of 2; "
    "count from 0 to 1",
    '[[faults]]\nkind = "consumer_crash"\nat_s = 1e4\ntarget = "fanout"': "faults #1.at_s: is 10000 s, after the end of the run; "
    "write at most 600 s",
    "a = 1\na = 2": "not TOML: Cannot overwrite a value (at line 2, column 6); correct it there",
    "[run": "not TOML: Expected ']' at the end of a table declaration (at line 1, column 5); correct it there",
    "x = " + "[" * 2000: "nested too deep; write fewer levels",
    'extends = "basline"': 'extends: basline: no scenario of this name; did you mean "baseline"?',
    'extends = "mine.toml"': 'extends: "mine.toml" extends this file in turn; break the circle',
    'extends = "defaults"': "extends: every scenario rests on the defaults; leave extends out",
    "extends = 3": 'extends: is 3; write a text in quotes, "…"',
    # networks of one's own
    "[network]": 'network: has no operations; declare one, [network.operations."shop.buy"]',
    "[network.station.api]": 'network.station: unknown key; did you mean "stations"?',
    f"{NET}steps = [] \n[feed]\nthreshold = 1": "feed: belongs to the platform, and this file declares a network; "
    "leave [feed] or [network] out",
    "[network.operations.x]\nsteps = []": "network.operations.x: has no arrivals; "
    "give arrivals = { rate_per_s = … } or interarrival = { distribution = … }",
    f"{NET}": 'network.operations."shop.buy": steps is missing; give it as steps',
    f'{NET}steps = [{{ serv = "api" }}]': 'network.operations."shop.buy".steps #1: has no verb, only serv; did you mean "serve"?',
    f"{NET}steps = [{{ respond = true, delay = {{}} }}]": 'network.operations."shop.buy".steps #1: has the verbs respond and delay; '
    "give each its own step",
    f'{NET}steps = [{{ serve = "api" }}]': 'network.operations."shop.buy".steps #1: service_time is missing; '
    "give it as service_time",
    f'{NET}steps = [{{ publish = "log" }}]': 'network.operations."shop.buy".steps #1.publish: is "log"; '
    "declare it, [network.topics.NAME]",
    f'{NET}steps = [{{ delay = {{ distribution = "gama" }} }}]': 'network.operations."shop.buy".steps #1.delay.distribution: '
    'is "gama"; did you mean "gamma"?',
    f'{NET}steps = [{{ delay = {{ distribution = "gamma", mean_ms = 1 }} }}]': 'network.operations."shop.buy".steps #1.delay: '
    "a distribution of kind gamma with mean_s; give mean_ms and cv or shape and scale_ms",
    f'{NET}steps = [{{ delay = {{ distribution = "uniform", mean_ms = 1, cv = 2 }} }}]': "network.operations.\"shop.buy\".steps #1.delay: "
    "no distribution of kind uniform has these numbers; a uniform duration has a cv between 0 and 0.5774, not 2.0",
    f'{NET}steps = [{{ delay = {{ distribution = "exponential", mean = 1 }} }}]': 'network.operations."shop.buy".steps #1.delay.mean: '
    "has no unit; write mean_us, mean_ms, mean_s or mean_minutes",
    f"{NET}steps = [{{ branch = [{{ probability = 1.5, steps = [] }}] }}]": 'network.operations."shop.buy".steps #1.branch #1.probability: '
    "is 1.5; write a number from 0 to 1",
    f"{NET}steps = [{{ respond = false }}]": 'network.operations."shop.buy".steps #1.respond: is false; '
    "write respond = true or leave the step out",
    f'{NET}steps = [{{ scatter = {{ count = "rows", steps = [] }} }}]': "network: operation shop.buy, step 1: no attribute 'rows'; "
    "there are none",
    f"{NET}steps = []\n[network.topics.log]": "network.topics.log: its consumers do nothing; give service_time or steps",
}  # fmt: skip


@pytest.mark.parametrize("text", FILES, ids=lambda text: text[:60])
def test_a_bad_file_gets_one_line(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(ScenarioError) as caught:
        load_scenario("mine.toml")
    said = FILES[text]
    assert str(caught.value) == f"{'defaults.toml' if 'mean_followees' in said else 'mine.toml'}: {said}"


OVERRIDES = {
    "feed": '"feed" is no key=value; write --set section.key=value',
    "feed.threshold=[1": 'feed.threshold: "[1" is no TOML value; write --set section.key=value',
    "feed.treshold=1": 'feed.treshold: unknown key; did you mean "threshold"?',
    "feed.strategy=psh": 'feed.strategy: is "psh"; did you mean "push"?',
    "feed.threshold=": 'feed.threshold: "" is no TOML value; write --set section.key=value',
    "a = 1\nb = 2": '"a = 1\\nb = 2" is no key=value; write --set section.key=value',
}


@pytest.mark.parametrize("override", OVERRIDES)
def test_a_bad_override_gets_one_line(override):
    with pytest.raises(ScenarioError) as caught:
        load_scenario("baseline", [override])
    assert str(caught.value) == f"--set: {OVERRIDES[override]}"


def test_files_that_can_not_be_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latin.toml").write_bytes("question = 'für'".encode("latin-1"))
    (tmp_path / "loop_a.toml").write_text('extends = "loop_b.toml"')
    (tmp_path / "loop_b.toml").write_text('extends = "loop_a.toml"')
    names = ", ".join(shipped())
    expected = {
        "latin.toml": "latin.toml: byte 14 is not UTF-8; save the file as UTF-8",
        "baselin": 'baselin: no scenario of this name; did you mean "baseline"?',
        "no.toml": f"no.toml: no such file; write the path of a .toml file, or one of: {names}",
        "./": f"./: is a folder; write the path of a .toml file, or one of: {names}",
        "a\0b": f"a\\x00b: no scenario of this name; there are: {names}",
        "loop_a.toml": 'loop_b.toml: extends: "loop_a.toml" extends this file in turn; break the circle',
    }
    for name, line in expected.items():
        with pytest.raises(ScenarioError) as caught:
            load_scenario(name)
        assert str(caught.value) == line


def test_an_error_names_the_file_that_says_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.toml").write_text("[feed]\nthreshold = -1\n[run]\nseed = 3")
    (tmp_path / "mine.toml").write_text('extends = "base.toml"\n[run]\nduration_s = 5')
    with pytest.raises(ScenarioError, match=r"^base.toml: feed.threshold: is -1; "):
        load_scenario("mine.toml")
    with pytest.raises(ScenarioError, match=r"^--set: run.seed: is -1; "):
        load_scenario("mine.toml", ["feed.threshold=1", "run.seed=-1"])
