import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from model import platform
from model.figures import figure_names, figures_of
from model.simulation import simulate
from model.workers import Failure, LocalWorkers, Outcome, Task, measure
from scenarios.loader import load_scenario
from tests.desk import desk

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("population.users=200", "population.mean_followees=5", "population.celebrities=[]", "run.duration_s=5")


def test_an_outcome_is_what_simulate_finds(tmp_path):
    scenario = desk(tmp_path, duration_s=20)
    outcome = measure(Task(scenario, 7, 1))
    results = simulate(scenario, seed=7)
    assert isinstance(outcome, Outcome)
    assert outcome.document == results.document()
    assert outcome.figures["shop.buy.p99_s"] == results.figure("shop.buy.p99_s")
    assert outcome.seed == 7


def test_flat_figures_are_those_that_objectives_name():
    scenario = load_scenario("baseline", (*SMALL, "run.warmup_s=1"))
    results = simulate(scenario)
    flat = figures_of(results.document())
    assert list(flat) == figure_names(platform.build_network(scenario))
    for name, value in flat.items():
        if not name.endswith(".count"):
            assert value == results.figure(name), name


def test_the_people_stay_the_same_in_all_replications():
    scenario = load_scenario("baseline", (*SMALL, "run.warmup_s=1"))
    same = measure(Task(scenario, 1, 5))
    graph = platform.build_graph(scenario.population, 5)
    assert isinstance(same, Outcome)
    assert same.document == simulate(scenario, seed=1, graph=graph).document()


def test_what_goes_wrong_is_one_line_and_takes_nobody_along(tmp_path):
    good, bad = desk(tmp_path, duration_s=5), desk(tmp_path, duration_s=5)
    tasks = [Task(good, 1, 1), Task(bad, 1, 1, engine="steam"), Task(good, 2, 1)]
    with LocalWorkers(2) as workers:
        answers = dict(workers.run(tasks))
    assert sorted(answers) == [0, 1, 2]
    assert isinstance(answers[1], Failure) and "steam" in answers[1].reason and "\n" not in answers[1].reason
    assert all(isinstance(answers[number], Outcome) for number in (0, 2))
    assert multiprocessing.active_children() == []


def test_processes_change_nothing_in_the_numbers(tmp_path):
    scenario = desk(tmp_path, duration_s=5)
    tasks = [Task(scenario, seed, 1) for seed in range(5)]
    with LocalWorkers(1) as here, LocalWorkers(2) as there:
        assert dict(here.run(tasks)) == dict(there.run(tasks))
    with pytest.raises(ValueError, match="at least one job"):
        LocalWorkers(0)


def test_a_task_whose_process_is_killed_is_done_by_another(tmp_path):
    scenario = desk(tmp_path, duration_s=30)
    tasks = [Task(scenario, seed, 1) for seed in range(8)]
    killed: list[int] = []

    def kill() -> None:
        while not killed:
            for child in multiprocessing.active_children():
                if child.pid:
                    os.kill(child.pid, signal.SIGKILL)
                    killed.append(child.pid)
                    break
            time.sleep(0.01)

    with LocalWorkers(2) as workers:
        killer = threading.Thread(target=kill)
        killer.start()
        answers = list(workers.run(tasks))
        killer.join()
    assert killed
    assert sorted(number for number, _ in answers) == list(range(8))
    assert all(isinstance(answer, Outcome) and answer.seed == number for number, answer in answers)


@pytest.mark.parametrize("started", [1, 2, 3, 4])  # the server and its tracker, then the workers: some are half started
def test_ctrl_c_stops_every_process(tmp_path, started):
    desk(tmp_path, duration_s=2000)
    code = (
        "from scenarios.loader import load_scenario\nfrom model.workers import *\n"
        "scenario = load_scenario('desk.toml')\nprint('ready', flush=True)\n"
        "with LocalWorkers(2) as workers:\n    list(workers.run([Task(scenario, seed, 1) for seed in range(4)]))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    family = psutil.Process(process.pid)
    until_s = time.monotonic() + 60
    while len(family.children(recursive=True)) < started and time.monotonic() < until_s:
        time.sleep(0.002)
    children = family.children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: everybody gets it
    _, stderr = process.communicate(timeout=60)
    assert len(children) >= started
    assert process.returncode != 0
    assert stderr.count("Traceback") == 1 and stderr.rstrip().endswith(
        "KeyboardInterrupt"
    )  # ours, and none of a worker's
    _, alive = psutil.wait_procs(children, timeout=30)
    assert alive == []
