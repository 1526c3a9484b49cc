"""Distributions as scenario files write them: `{ distribution = "lognormal", mean_ms = 1.5, cv = 0.5 }`."""

from __future__ import annotations

from typing import Any

from model.distributions import KINDS, Distribution
from scenarios.fields import Field, Place, as_table, choice, number, numbers, read_fields, whole
from scenarios.units import one_of, split_unit

_BY_MEAN_AND_CV = ("mean_s", "cv")
# The ways to give each kind: exactly the keys of one of them.
FORMS: dict[str, tuple[tuple[str, ...], ...]] = {
    "constant": (("mean_s",),),
    "exponential": (("mean_s",),),
    "uniform": (_BY_MEAN_AND_CV, ("low_s", "high_s")),
    "erlang": (_BY_MEAN_AND_CV, ("mean_s", "stages")),
    "gamma": (_BY_MEAN_AND_CV, ("shape", "scale_s")),
    "lognormal": (_BY_MEAN_AND_CV, ("median_s", "sigma")),
    "weibull": (_BY_MEAN_AND_CV, ("shape", "scale_s")),
    "pareto": (_BY_MEAN_AND_CV, ("minimum_s", "shape")),
    "hyperexponential": (_BY_MEAN_AND_CV, ("probability", "mean_1_s", "mean_2_s")),
    "empirical": (("values_s",), ("quantiles_s",)),
}
_READERS = {"stages": whole(1, 1000), "values_s": numbers(number()), "quantiles_s": numbers(number())}


def duration(place: Place, value: Any) -> Distribution:
    """A distribution of a duration; keys that are times carry a unit (`mean_ms`)."""
    return _read(place, value, unit=True)


def amount(place: Place, value: Any) -> Distribution:
    """A distribution of a number without unit, an attribute of a request; keys as for durations, without their unit."""
    return _read(place, value, unit=False)


def _read(place: Place, value: Any, unit: bool) -> Distribution:
    table = dict(as_table(place, value))
    if "distribution" not in table:
        raise place.error("distribution is missing", f'name one, such as distribution = "{next(iter(KINDS))}"')
    kind = choice(tuple(KINDS))(place.at("distribution"), table.pop("distribution"))

    def written(name: str) -> str:
        return name if unit else split_unit(name)[0]

    names = dict.fromkeys(name for form in FORMS[kind] for name in form)
    spec = {written(name): Field(_READERS.get(name, number()), None) for name in names}
    read = read_fields(place, table, spec)
    given = {name: read[written(name)] for name in names if read[written(name)] is not None}
    if set(given) not in [set(form) for form in FORMS[kind]]:

        def example(name: str) -> str:
            return f"{split_unit(name)[0]}_ms" if unit and split_unit(name)[1] else written(name)

        ways = [" and ".join(example(name) for name in form) for form in FORMS[kind]]
        given_names = " and ".join(written(name) for name in given) or "nothing else"
        raise place.error(f"a distribution of kind {kind} with {given_names}", f"give {one_of(ways)}")
    try:
        return KINDS[kind](**given)
    except (ValueError, OverflowError, ZeroDivisionError) as problem:
        raise place.error(f"no distribution of kind {kind} has these numbers", str(problem)) from problem
