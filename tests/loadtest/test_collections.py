"""Long garbage collections are told apart from what requests cost."""

from types import SimpleNamespace

import pytest

from loadtest.collections_seen import SERVER, Collections, take_out
from loadtest.observed_run import cpu_of
from loadtest.otlp_spans import Span


def span(name, start_s, end_s, cpu_s, service="api", parent=""):
    return Span(service, name, "t", f"{name}{start_s}", parent, start_s, end_s, 1 if name == "gc" else SERVER, {"cpu_s": cpu_s})


def test_a_long_collection_is_taken_out_of_what_was_under_way_and_a_short_one_is_left():
    struck, spared, others = span("feed.open", 0.0, 1.0, 0.005), span("feed.open", 2.0, 3.0, 0.002), span("batch", 0, 9, 0.5, "worker")
    long, short = span("gc", 0.5, 0.504, 0.003), span("gc", 2.5, 2.5004, 0.0003)
    run = SimpleNamespace(spans=[struck, spared, others, long, short, span("gc", 0.6, 0.7, 0.05, "worker")], requests=500)
    assert take_out([run]) == Collections(n=1, pause_s=0.003, requests_each=500.0)
    assert [cpu_of(one) for one in (struck, spared, others)] == pytest.approx([0.002, 0.002, 0.5])
    assert take_out([SimpleNamespace(spans=[spared, short], requests=500)]) == Collections()
