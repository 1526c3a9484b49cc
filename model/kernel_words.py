"""The words of the kernels' language (`kernel_compiler.py`): what values are, what a part is, and what the operators say to LLVM."""

from __future__ import annotations

import ast
import math
import operator
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import FunctionType
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from model.kernel_compiler import Writer


class CompileError(Exception):
    """What a kernel cannot say."""


@dataclass(frozen=True)
class Kind:
    """What a value is: its name, and LLVM's type."""

    name: str
    llvm: str


@dataclass(frozen=True)
class Row(Kind):
    """A row of a table: its address, and where its fields lie."""

    fields: tuple[tuple[str, str, int], ...] = ()  # name, kind of number, offset in bytes

    def field(self, name: str) -> tuple[str, int] | None:
        """A field's kind of number and offset."""
        return _fields(self).get(name)


@dataclass(frozen=True)
class Column(Kind):
    """A column of numbers: its address."""

    kind: str = ""


@cache
def _fields(row: Row) -> dict[str, tuple[str, int]]:
    return {name: (kind, offset) for name, kind, offset in row.fields}


def row_kind(table: str, dtype: np.dtype[Any]) -> Row:
    """The rows of a table of records."""
    assert dtype.fields is not None
    return Row(table, "ptr", tuple((name, field[0].str[1:], field[1]) for name, field in dtype.fields.items()))


def column_kind(number: str) -> Column:
    """A column of numbers of this kind."""
    return Column(f"column of {number}", "ptr", number)


INT, WORD, FLOAT = Kind("whole number", "i64"), Kind("word", "i64"), Kind("float", "double")
TRUTH, NOTHING = Kind("truth value", "i1"), Kind("nothing", "void")
STORED = {"f8": "double", "i8": "i64", "u8": "i64", "i4": "i32", "i2": "i16", "i1": "i8"}  # in memory
SEEN_AS = {"f8": FLOAT, "i8": INT, "u8": WORD, "i4": INT, "i2": INT, "i1": INT}  # whole numbers are all of 64 bits


@dataclass(frozen=True)
class Value:
    """An operand of LLVM's; `constant` is what it is, where that is known."""

    kind: Kind
    text: str
    constant: Any = None


@dataclass(frozen=True)
class Feature:
    """A constant that each kernel sets for itself. To Python it is true."""

    name: str


class Part:
    """A function that only compiled functions call. LLVM's calling `convention` and `attributes` say how; see `kernel_cache.py`."""

    def __init__(self, function: Callable[..., Any], convention: str = "", attributes: str = "") -> None:
        assert isinstance(function, FunctionType)
        self.function, self.__doc__ = function, function.__doc__
        self.convention, self.attributes = convention, attributes

    def __call__(self, *arguments: Any) -> Any:
        """As plain Python, for tests."""
        return self.function(*arguments)


class Intrinsic:
    """A function that LLVM's text says better: `code` writes it."""

    def __init__(self, code: Callable[[Writer, list[Value]], Value]) -> None:
        self.code = code

    def __call__(self, *_arguments: Any) -> Any:
        """Only compiled functions can."""
        raise TypeError("this can only be called in a kernel")


def word_constant(value: int) -> Value:
    """A known word."""
    return Value(WORD, str(int(value) - (1 << 64) if int(value) >> 63 else int(value)), np.uint64(value))


def constant(value: Any) -> Value | None:
    """A known value; None if kernels know no such thing."""
    if isinstance(value, bool | np.bool_):
        return Value(TRUTH, "true" if value else "false", bool(value))
    if isinstance(value, np.uint64):
        return word_constant(int(value))
    if isinstance(value, int | np.integer):
        return Value(INT, str(int(value)), int(value))
    if isinstance(value, float):
        return Value(FLOAT, f"0x{struct.unpack('>Q', struct.pack('>d', value))[0]:016X}", float(value))
    return None


ARITHMETIC: Mapping[type[ast.operator], tuple[Callable[[Any, Any], Any], Mapping[Kind, str]]] = {
    ast.Add: (operator.add, {INT: "add", WORD: "add", FLOAT: "fadd"}),
    ast.Sub: (operator.sub, {INT: "sub", WORD: "sub", FLOAT: "fsub"}),
    ast.Mult: (operator.mul, {INT: "mul", WORD: "mul", FLOAT: "fmul"}),
    ast.Div: (operator.truediv, {FLOAT: "fdiv"}),
    ast.FloorDiv: (operator.floordiv, {WORD: "udiv"}),
    ast.Mod: (operator.mod, {WORD: "urem"}),
    ast.Pow: (operator.pow, {}),
    ast.LShift: (operator.lshift, {INT: "shl", WORD: "shl"}),
    ast.RShift: (operator.rshift, {INT: "ashr", WORD: "lshr"}),
    ast.BitAnd: (operator.and_, {INT: "and", WORD: "and", TRUTH: "and"}),
    ast.BitOr: (operator.or_, {INT: "or", WORD: "or", TRUTH: "or"}),
    ast.BitXor: (operator.xor, {INT: "xor", WORD: "xor", TRUTH: "xor"}),
}
COMPARISONS: Mapping[type[ast.cmpop], tuple[Callable[[Any, Any], Any], Mapping[Kind, str]]] = {
    ast.Eq: (operator.eq, {INT: "icmp eq", WORD: "icmp eq", FLOAT: "fcmp oeq"}),
    ast.NotEq: (operator.ne, {INT: "icmp ne", WORD: "icmp ne", FLOAT: "fcmp une"}),
    ast.Lt: (operator.lt, {INT: "icmp slt", WORD: "icmp ult", FLOAT: "fcmp olt"}),
    ast.LtE: (operator.le, {INT: "icmp sle", WORD: "icmp ule", FLOAT: "fcmp ole"}),
    ast.Gt: (operator.gt, {INT: "icmp sgt", WORD: "icmp ugt", FLOAT: "fcmp ogt"}),
    ast.GtE: (operator.ge, {INT: "icmp sge", WORD: "icmp uge", FLOAT: "fcmp oge"}),
}
CONVERSIONS: Mapping[tuple[Kind, Kind], str] = {
    (TRUTH, INT): "zext i1 {} to i64",
    (TRUTH, FLOAT): "uitofp i1 {} to double",
    (TRUTH, WORD): "zext i1 {} to i64",
    (INT, FLOAT): "sitofp i64 {} to double",
    (WORD, FLOAT): "uitofp i64 {} to double",
    (FLOAT, INT): "fptosi double {} to i64",
    (INT, TRUTH): "icmp ne i64 {}, 0",
    (WORD, TRUTH): "icmp ne i64 {}, 0",
    (FLOAT, TRUTH): "fcmp une double {}, 0.0",
}
CASTS: Mapping[Any, Kind] = {int: INT, np.int64: INT, float: FLOAT, bool: TRUTH, np.uint64: WORD}
MATH: Mapping[Any, str] = {math.log: "log", math.exp: "exp", math.sqrt: "sqrt"}
