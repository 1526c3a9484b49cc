"""The shipped scenarios still give the answers that stand in their files."""

import pytest

from scenarios.documents import question_of, shipped
from tests.golden.answers import README, answer, library, templates


def test_every_scenario_has_an_answer():
    assert set(templates()) == set(shipped())


@pytest.mark.parametrize("name", sorted(templates()))
def test_the_answer_is_still_true(name):
    question, found = question_of(shipped()[name])
    assert question.endswith("?")
    assert found == answer(name)


def test_the_readme_lists_them():
    assert library() in README.read_text(encoding="utf-8")
