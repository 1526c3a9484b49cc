import json
from dataclasses import replace

import pytest

from model.workers import Failure, Outcome, Task, measure
from scenarios import journal
from scenarios.fields import ScenarioError
from scenarios.journal import Journal, key_of, model_version
from scenarios.loader import load_scenario
from tests.desk import desk


@pytest.fixture
def task(tmp_path):
    return Task(desk(tmp_path, duration_s=2), 3, 1)


def test_the_key_changes_with_whatever_changes_the_numbers(task, monkeypatch):
    other_run = replace(task.scenario, run=replace(task.scenario.run, duration_s=3.0))
    changed = [replace(task, seed=4), replace(task, engine="plain"), replace(task, scenario=other_run)]
    assert len({key_of(one) for one in [task, *changed]}) == 4
    same = replace(task.scenario, name="other", question="why?", slo={})
    assert key_of(replace(task, scenario=same)) == key_of(task)
    before = key_of(task)
    monkeypatch.setattr(journal, "model_version", lambda: "another")
    assert key_of(task) != before


def test_the_key_is_about_what_is_in_a_graph_file(tmp_path):
    def key(name: str, text: str) -> str:
        (tmp_path / name).write_text(text)
        journal._content.cache_clear()
        return key_of(Task(load_scenario("baseline", graph=str(tmp_path / name)), 1, 1))

    assert key("a.txt", "1 2\n2 3\n") == key("b.txt", "1 2\n2 3\n") != key("c.txt", "1 2\n1 3\n")


def test_the_models_version_is_a_hash_of_its_sources():
    assert len(model_version()) == 64
    assert model_version() == model_version.__wrapped__()


def test_what_is_kept_is_there_again_once_and_failures_are_not_kept(tmp_path, task):
    answer = measure(task)
    assert isinstance(answer, Outcome)
    path = tmp_path / "journal.jsonl"
    with Journal(path) as first:
        assert first.done == {}
        first.add("one", answer)
        first.add("one", answer)
        first.add("two", Failure("no"))
    with Journal(path) as second:
        assert second.done == {"one": answer.figures}
    assert len(path.read_text().splitlines()) == 1


def test_half_a_line_of_a_killed_process_is_cut_off(tmp_path, task):
    path = tmp_path / "journal.jsonl"
    answer = measure(task)
    with Journal(path) as first:
        first.add("one", answer)
    whole = path.read_text()
    path.write_text(whole + whole[: len(whole) // 2])
    with Journal(path) as second:
        assert list(second.done) == ["one"]
        second.add("two", answer)
    assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == ["one", "two"]


def test_one_sweep_at_a_time_and_no_strange_files(tmp_path):
    path = tmp_path / "journal.jsonl"
    with Journal(path), pytest.raises(ScenarioError, match="another sweep is writing there"), Journal(path):
        pass
    path.write_text("a diary\n")
    with pytest.raises(ScenarioError, match="is no journal"), Journal(path):
        pass
    assert path.read_text() == "a diary\n"
    with pytest.raises(ScenarioError, match="can't be written"), Journal(tmp_path / "nowhere" / "journal.jsonl"):
        pass
