"""The kernels' language: what is compiled means what Python means, features are left out unread, and the rest is an error."""

import ctypes
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model import kernel_cache
from model.kernel_cache import always, apart, part, seldom
from model.kernel_compiler import Unit
from model.kernel_words import FLOAT, INT, CompileError, Feature, Part, column_kind, row_kind

EXTRA = Feature("extra")
SEVEN, TABLE = 7, {}
whole = st.integers(-(2**40), 2**40)
floats = st.floats(-1e9, 1e9)


@part
def divided(a, b):
    return (a // b) * 1000 + a % b


@part
def least(x, y, n):
    return max(min(x, y), n / 3)


@part
def collatz(n):
    steps = 0
    while n != 1:
        steps += 1
        if n % 2 == 0:
            n //= 2
            continue
        n = 3 * n + 1
        if steps > 500:
            break
    return steps


@part
def primes(below):
    found = 0
    for n in range(2, below):
        divisors = 0
        for d in range(2, n):
            divisors += n % d == 0
            if divisors:
                break
        found += divisors == 0
    return found


@part
def decided(a, b, c):
    if 0 < a < b or (b == c and not a > c):
        return SEVEN if c > 0 else -SEVEN
    elif a & 1 and b | c:
        return np.int64(math.sqrt(float(a * a)) + 0.5)
    return a ^ (b << 2) >> 1


@part
def pair_sum(x, y):
    x, y = y, x
    x -= 2.0 * y
    return -x + math.exp(-abs_of(y))


@part
def abs_of(x):
    return x if x > 0.0 else -x


@part
def with_extra(n):
    if EXTRA and n > 0:
        return n + 1
    if not EXTRA:
        return n - 1
    return n.field_that_is_nowhere if not EXTRA else 0


@always
def shifted(a, b):
    return a * 3 - b


@apart
def curved(x):
    return math.exp(-abs_of(x))


@seldom
def curved_and_rare(x, a):
    return curved(x) * 1000.0 + a


@part
def across_calls(a, b, x):
    c, d, y, z = shifted(a, b), a ^ b, x + 1.0, x * 3.0
    if b > 0:
        y += curved_and_rare(x, shifted(c, d))
        z -= curved(y - x)
    return z + y * 2.0 + a + b + c + d + x


@part
def endless(n):
    return endless(n)


def python(function):
    """The text itself, its calls of other parts included."""
    return function.function


COMPILED = {}


def compiled(function, signature):
    """Machine code, once; the cache is not touched."""
    if function not in COMPILED:
        COMPILED[function] = kernel_cache.entries("of a test", {function: signature}, keep=False)[0]
    return COMPILED[function]


@given(whole, whole.filter(lambda n: n != 0))
def test_whole_numbers_divide_downwards(a, b):
    assert compiled(divided, "i8(i8, i8)")(a, b) == python(divided)(a, b)


@given(floats, floats, whole)
def test_least_and_greatest_of_mixed_numbers(x, y, n):
    assert compiled(least, "f8(f8, f8, i8)")(x, y, n) == python(least)(x, y, n)


@given(floats, floats)
def test_floats_are_rounded_as_in_python(x, y):
    assert compiled(pair_sum, "f8(f8, f8)")(x, y) == python(pair_sum)(x, y)


@given(st.integers(-9, 9), st.integers(-9, 9), st.integers(-9, 9))
def test_decisions(a, b, c):
    assert compiled(decided, "i8(i8, i8, i8)")(a, b, c) == python(decided)(a, b, c)


@given(st.integers(-(2**20), 2**20), st.integers(-9, 9), st.floats(-50, 50))
def test_what_is_needed_after_a_call_outlives_it_wherever_the_part_called_stands(a, b, x):
    assert compiled(across_calls, "f8(i8, i8, f8)")(a, b, x) == python(across_calls)(a, b, x)


def test_loops():
    assert [compiled(collatz, "i8(i8)")(n) for n in range(1, 40)] == [python(collatz)(n) for n in range(1, 40)]
    assert compiled(primes, "i8(i8)")(100) == 25


def test_a_division_by_zero_is_infinite():
    @part
    def here():
        return 0.0

    assert compiled(least, "f8(f8, f8, i8)")(math.inf, math.inf, -5) == math.inf
    assert here() == 0.0


@pytest.mark.parametrize(("features", "expected"), [((), 4), (("extra",), 6)])
def test_a_feature_is_a_constant_and_what_it_excludes_is_not_even_read(features, expected):
    (function,) = kernel_cache.entries("of a test", {with_extra: "i8(i8)"}, frozenset(features), keep=False)
    assert function(5) == expected


def test_rows_and_columns_are_the_callers_memory():
    dtype = np.dtype([("small", "i4"), ("flag", "i1"), ("time", "f8"), ("bits", "u8")], align=True)
    unit = Unit()

    def change(row, column):
        row.small -= 5
        row.flag = column[1] > 2.0
        row.time = row.small + column[0]
        row.bits = row.bits ^ np.uint64(1)
        column[1] = row.time

    text, _ = unit.instance(_here(change), (row_kind("things", dtype), column_kind("f8")))
    assert text == "change.0"
    assert "sext i32" in unit.text()
    assert "!tbaa" in unit.text()


def _here(function):
    """A part whose text stands inside a test."""
    return Part(function)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def f(n):\n    return [n]", "2: a kernel has no List"),
        ("def f(n):\n    return m", "2: nobody has set m"),
        ("def f(n):\n    x = 1\n    x = 2.5\n    return x", "3: a float where a whole number is needed"),
        ("def f(n):\n    return n.size", "2: a whole number has no size"),
        ("def f(n):\n    print(n)", "2: a kernel cannot call print"),
        ("def f(n):\n    for x in n:\n        pass", "2: a kernel loops over range"),
        ("def f(n):\n    return np.uint64(n) + n", "2: a whole number where a word is needed"),
    ],
)
def test_what_the_language_has_not_is_an_error_with_its_place(tmp_path, source, message):
    file = tmp_path / "kernel.py"
    file.write_text(source)
    names = {"np": np}
    exec(compile(source, str(file), "exec"), names)
    with pytest.raises(CompileError, match=message):
        Unit().entry("f", Part(names["f"]), INT, [INT])


def test_the_result_must_be_what_the_signature_says():
    with pytest.raises(CompileError, match="returns a whole number, not a float"):
        Unit().entry("collatz", collatz, FLOAT, [INT])


def test_a_part_cannot_call_itself():
    with pytest.raises(CompileError, match="endless calls itself"):
        Unit().entry("endless", endless, INT, [INT])


def test_only_compiled_functions_can_call_an_intrinsic():
    from model.engines.compiled_tables import floats as floats_at

    with pytest.raises(TypeError, match="only be called in a kernel"):
        floats_at(ctypes.c_int64(0).value)
