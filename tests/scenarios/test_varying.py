import pytest

from scenarios.fields import ScenarioError
from scenarios.varying import MOST_POINTS, parse_variation, points_of


@pytest.mark.parametrize(
    ("text", "key", "values"),
    [
        ("feed.threshold=1_000,10_000,100_000", "feed.threshold", (1000, 10000, 100000)),
        ("stations.database.servers=2..5", "stations.database.servers", (2, 3, 4, 5)),
        ("a.b = 2..10..3, 20", "a.b", (2, 5, 8, 20)),
        ("run.load_factor=0.5..1.1..0.2", "run.load_factor", (0.5, 0.7, 0.9, 1.1)),
        ("run.load_factor=1.0..2", "run.load_factor", (1.0, 2.0)),
        ("feed.strategy=push,hybrid", "feed.strategy", ("push", "hybrid")),
        ('feed.strategy="push", "hybrid"', "feed.strategy", ("push", "hybrid")),
        ("population.celebrities=[], [10, 20]", "population.celebrities", ([], [10, 20])),
        ('slo."feed.open.p99_ms"=50,60', 'slo."feed.open.p99_ms"', (50, 60)),
        ("x.y=true,false", "x.y", (True, False)),
    ],
)
def test_values_and_ranges(text, key, values):
    found = parse_variation(text)
    assert (found.key, found.values) == (key, values)
    assert [type(value) for value in found.values] == [type(value) for value in values]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("feed.threshold", "is no KEY=VALUES"),
        ("feed.threshold=", "is no KEY=VALUES"),
        ("=1,2", "is no KEY=VALUES"),
        ("a.b=,", "has no value"),
        ("a.b=5..2", "is empty"),
        ("a.b=1..9..0", "is empty"),
        ("a.b=1,2,1", "1 is given twice"),
        ("a.b=1..1_000_000", "more than 100,000"),
    ],
)
def test_bad_variations_are_one_line(text, says):
    with pytest.raises(ScenarioError, match=says) as caught:
        parse_variation(text)
    assert str(caught.value).startswith("--vary: ") and "\n" not in str(caught.value)


def test_points_are_all_combinations_the_last_fastest():
    points = points_of([parse_variation("a.b=1,2"), parse_variation('c."d.e"=x,y')])
    assert [tuple(point.settings.values()) for point in points] == [(1, "x"), (1, "y"), (2, "x"), (2, "y")]
    assert points[1].overrides == ("a.b=1", 'c."d.e"="y"')


def test_too_many_points_and_one_key_twice_are_refused():
    thousand = "=1..1000"
    with pytest.raises(ScenarioError, match=f"1,000,000 combinations, more than {MOST_POINTS:,}"):
        points_of([parse_variation(f"a{thousand}"), parse_variation(f"b{thousand}")])
    with pytest.raises(ScenarioError, match="a is given twice"):
        points_of([parse_variation("a=1"), parse_variation("a=2")])
