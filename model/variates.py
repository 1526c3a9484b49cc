"""Random variates by key: the same (seed, stream, origin, path, attempt) gives the same number, in any order, in any engine.

    stream_of(seed, name)      a row's stream: a hash of what it is called, so that adding rows elsewhere moves no other number
    key_of(stream, ...)        splitmix64's finaliser over a chained key -> 64 random bits; in two steps, `place_of` and `bits_at`
    unit(bits)                 52 bits, centred, in the open interval (0, 1)
    draw(distribution, key)    one variate

There is one text for both engines. With LLVM (llvmlite) it is compiled, called from Python by the plain engine and inlined into the
compiled one, so that logarithms have the same last bit; without it the same text runs as plain Python on the C library's
logarithm. The constants are typed accordingly at the head; nothing else differs.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from model.distributions import (
    CONSTANT,
    ERLANG,
    EXPONENTIAL,
    GAMMA,
    HYPEREXPONENTIAL,
    LOGNORMAL,
    PARETO,
    UNIFORM,
    VALUES,
    WEIBULL,
)

Function = TypeVar("Function", bound=Callable[..., Any])

_MASK = 0xFFFF_FFFF_FFFF_FFFF


def _wrap(value: int) -> int:
    """A whole number as an unsigned 64-bit word, in plain Python."""
    return value & _MASK


try:
    from model.kernel_cache import apart, entries
    from model.kernel_cache import part as compiled

    COMPILED = True
    WORD: Any = np.uint64
except ImportError:
    COMPILED = False
    WORD = _wrap

    def compiled(function: Function) -> Function:
        """Without LLVM the text runs as it stands."""
        return function

    apart = compiled


MASK, GOLDEN = WORD(_MASK), WORD(0x9E37_79B9_7F4A_7C15)
FIRST, SECOND = WORD(0xBF58_476D_1CE4_E5B9), WORD(0x94D0_49BB_1331_11EB)
S4, S12, S27, S30, S31, S32 = WORD(4), WORD(12), WORD(27), WORD(30), WORD(31), WORD(32)
ROTATE, ONE = WORD(0xD1B5_4A32_D192_ED03), WORD(1)


def stream_of(seed: int, name: str) -> int:
    """A row's stream as an unsigned 64-bit number: a hash of the seed and of the row's own name."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest(), "little")


@compiled
def mix(word: Any) -> Any:
    """splitmix64's output function (Steele, Lea, Flood 2014): a bijection in which every input bit moves every output bit."""
    word = ((word ^ (word >> S30)) * FIRST) & MASK
    word = ((word ^ (word >> S27)) * SECOND) & MASK
    return word ^ (word >> S31)


@compiled
def path_of(path: Any, ordinal: Any) -> Any:
    """The path of a task's child number `ordinal`: 60 bits, so that it fits beside an event's kind."""
    return mix((WORD(path) * ROTATE + WORD(ordinal) * GOLDEN + ONE) & MASK) >> S4


@compiled
def place_of(origin: Any, path: Any, attempt: Any) -> Any:
    """A position, the same in all streams."""
    return mix(((mix((WORD(origin) * GOLDEN + WORD(attempt)) & MASK) ^ WORD(path)) + GOLDEN) & MASK)


@compiled
def bits_at(stream: Any, place: Any) -> Any:
    """The 64 bits that belong to one draw: a stream, and a position in it."""
    return mix((WORD(stream) ^ place) & MASK)


@compiled
def key_of(stream: Any, origin: Any, path: Any, attempt: Any) -> Any:
    """The same in one step."""
    return bits_at(stream, place_of(origin, path, attempt))


@compiled
def unit(bits: Any) -> Any:
    """A double in the open interval (0, 1) from the upper 52 bits; with 53 the largest would round to 1."""
    return (float(bits >> S12) + 0.5) * (1.0 / 4503599627370496.0)


@compiled
def scrambled(a: Any, b: Any) -> Any:
    """64 bits that spread two numbers: the choice of a partition."""
    return mix(mix((WORD(a) + GOLDEN) & MASK) ^ WORD(b))


@compiled
def uniform(stream: Any, origin: Any, path: Any, attempt: Any) -> Any:
    """A uniform variate by key."""
    return unit(key_of(stream, origin, path, attempt))


@compiled
def normal_quantile(u: Any) -> Any:
    """Acklam's rational approximation of the normal quantile, relative error 1.2e-9."""
    if u < 0.02425 or u > 0.97575:
        tail = u if u < 0.5 else 1.0 - u
        q = math.sqrt(-2.0 * math.log(tail))
        top = -7.784894002430293e-03 * q - 3.223964580411365e-01
        top = ((top * q - 2.400758277161838) * q - 2.549732539343734) * q + 4.374664141464968
        top = top * q + 2.938163982698783
        bottom = 7.784695709041462e-03 * q + 3.224671290700398e-01
        bottom = ((bottom * q + 2.445134137142996) * q + 3.754408661907416) * q + 1.0
        return top / bottom if u < 0.5 else -(top / bottom)
    q = u - 0.5
    r = q * q
    top = ((-3.969683028665376e01 * r + 2.209460984245205e02) * r - 2.759285104469687e02) * r + 1.383577518672690e02
    top = ((top * r - 3.066479806614716e01) * r + 2.506628277459239) * q
    bottom = ((-5.447609879822406e01 * r + 1.615858368580409e02) * r - 1.556989798598866e02) * r + 6.680131188771972e01
    return top / ((bottom * r - 1.328068155288572e01) * r + 1.0)


@compiled
def standard_gamma(shape: Any, bits: Any) -> Any:
    """Gamma with scale 1 by Marsaglia and Tsang (2000); each further word of a rejected try follows from the one before."""
    boost = 1.0
    if shape < 1.0:
        bits = mix((bits + GOLDEN) & MASK)
        boost = math.exp(math.log(unit(bits)) / shape)
        shape = shape + 1.0
    d = shape - 1.0 / 3.0
    c = 1.0 / math.sqrt(9.0 * d)
    while True:
        bits = mix((bits + GOLDEN) & MASK)
        x = normal_quantile(unit(bits))
        v = 1.0 + c * x
        bits = mix((bits + GOLDEN) & MASK)
        if v > 0.0:
            v = v * v * v
            if math.log(unit(bits)) < 0.5 * x * x + d - d * v + d * math.log(v):
                return boost * d * v


@compiled
def draw(values: Any, kind: Any, a: Any, b: Any, c: Any, first: Any, count: Any, bits: Any) -> Any:
    """One variate in seconds of the distribution (kind, a, b, c, values[first : first + count]) from 64 random bits."""
    if kind == EXPONENTIAL:
        return -a * math.log(unit(bits))
    if kind == CONSTANT:
        return a
    return draw_other(values, kind, a, b, c, first, count, bits)


@apart
def draw_other(values: Any, kind: Any, a: Any, b: Any, c: Any, first: Any, count: Any, bits: Any) -> Any:
    """The same of the kinds that are neither exponential nor constant."""
    u = unit(bits)
    if kind == LOGNORMAL:
        return a * math.exp(b * normal_quantile(u))
    if kind == GAMMA:
        return a * standard_gamma(b, bits)
    if kind == ERLANG:
        total = math.log(u)
        for _ in range(int(b) - 1):
            bits = mix((bits + GOLDEN) & MASK)
            total += math.log(unit(bits))
        return -a / b * total
    if kind == UNIFORM:
        return a + (b - a) * u
    if kind == WEIBULL:
        return a * math.exp(math.log(-math.log(u)) / b)
    if kind == PARETO:
        return a * math.exp(-math.log(u) / b)
    if kind == HYPEREXPONENTIAL:  # one uniform picks the branch and, stretched, is used again
        if u < c:
            return -a * math.log(u / c)
        return -b * math.log((u - c) / (1.0 - c))
    if kind == VALUES:
        return values[first + min(count - 1, int(u * count))]
    x = u * (count - 1)
    i = min(count - 2, int(x))
    low = values[first + i]
    return low + (x - i) * (values[first + i + 1] - low)


@compiled
def sample(
    values: Any,
    kind: Any,
    a: Any,
    b: Any,
    c: Any,
    first: Any,
    count: Any,
    stream: Any,
    origin: Any,
    path: Any,
    attempt: Any,
) -> Any:
    """`draw` at the place (stream, origin, path, attempt): what the plain engine calls, in one crossing."""
    return draw(values, kind, a, b, c, first, count, key_of(stream, origin, path, attempt))


@compiled
def fill(
    drawn: Any, values: Any, kind: Any, a: Any, b: Any, c: Any, count: Any, stream: Any, first: Any, n: Any
) -> Any:
    """`n` variates of one stream, at the origins first, first + 1, ..., are written to `drawn`. Returns n."""
    for i in range(n):
        drawn[i] = draw(values, kind, a, b, c, 0, count, key_of(stream, WORD(first + i), WORD(0), WORD(0)))
    return n


# ---- for Python
child_path, scramble = path_of, scrambled
if COMPILED:
    child_path, scramble, uniform, sample, fill = entries(
        "variates",
        {
            path_of: "u8(u8, u8)",
            scrambled: "u8(u8, u8)",
            uniform: "f8(u8, u8, u8, u8)",
            sample: "f8(f8*, i8, f8, f8, f8, i8, i8, u8, u8, u8, u8)",
            fill: "i8(f8*, f8*, i8, f8, f8, f8, i8, u8, i8, i8)",
        },
    )


def handed_over(values: np.ndarray) -> Any:
    """An array of floats as `sample` takes it: its address, if that is compiled. Somebody must keep the array."""
    assert values.dtype == np.float64 and values.flags.c_contiguous
    return values.ctypes.data if COMPILED else values


def draw_many(
    values: np.ndarray, kind: int, a: float, b: float, c: float, count: int, stream: int, first: int, number: int
) -> np.ndarray:
    """`number` variates of one stream, at the origins first, first + 1, ...: arrivals and attributes, shape (number,)."""
    drawn = np.empty(number)
    fill(handed_over(drawn), handed_over(values), kind, a, b, c, count, stream, first, number)
    return drawn
