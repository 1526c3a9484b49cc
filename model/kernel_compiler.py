"""A small compiler: from the few things of Python that kernels are written in to LLVM's text.

A kernel is made of *parts* (`part`): functions of whole numbers (64 bits), words (unsigned, 64 bits), floats, and *rows* and
*columns*, which are addresses of the caller's memory. Assignments, `if`, `while`, `for ... in range(...)`, `return`, arithmetic,
comparisons, calls of other parts, `row.field` and `column[i]` mean what they mean in Python; whole numbers wrap around, and a
division by zero is infinite. A name outside the function is a constant. Nothing is allocated, raised or counted, so nothing else
is there, and what else somebody writes is a `CompileError` with its place.

A `Feature` is a constant that each kernel sets for itself: what stands under `if FEATURE:` is neither compiled nor even read by a
kernel that lacks it. That is what a compiler of our own is for. Numba, which this replaces, took 13 s for the 170 parts of a kernel
before LLVM began, and 0.7 s to be imported; here it is 0.3 s. The rest, optimisation and machine code, is LLVM's (`kernel_cache.py`).
"""

from __future__ import annotations

import ast
import builtins
import math
import operator
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import numpy as np


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
STORED = {"f8": "double", "i8": "i64", "u8": "i64", "i4": "i32", "i1": "i8"}  # in memory
SEEN_AS = {"f8": FLOAT, "i8": INT, "u8": WORD, "i4": INT, "i1": INT}  # whole numbers are all of 64 bits


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
    """A function that only compiled functions call. `seldom`: most never need it, so it stays out of the code of those that do."""

    def __init__(self, function: Callable[..., Any], seldom: bool = False) -> None:
        assert isinstance(function, FunctionType)
        self.function, self.seldom, self.__doc__ = function, seldom, function.__doc__

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


@cache
def _definitions(path: str) -> dict[str, ast.FunctionDef]:
    tree = ast.parse(Path(path).read_text(encoding="utf-8"), path)
    return {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


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


class Unit:
    """All that becomes one piece of machine code: the parts that its entries need, each once for each kind of arguments."""

    def __init__(self, features: frozenset[str] = frozenset()) -> None:
        self.features = features
        self._made: dict[tuple[Part, tuple[Kind, ...]], tuple[str, Kind]] = {}
        self._texts: list[str] = []
        self._metadata: dict[str, int] = {}
        self._intrinsics: set[str] = set()

    def entry(self, name: str, function: Part, result: Kind, arguments: Sequence[Kind]) -> None:
        """A way in from outside, called `name`."""
        inner, kind = self.instance(function, tuple(arguments))
        if kind != result:
            raise CompileError(f"{name} returns a {kind.name}, not a {result.name}")
        given = ", ".join(f"{each.llvm} %a{number}" for number, each in enumerate(arguments))
        self._texts.append(
            f"define {kind.llvm} @{name}({given}) {{\n"
            f"  %r = call {kind.llvm} @{inner}({given})\n  ret {kind.llvm} %r\n}}\n"
        )

    def instance(self, function: Part, kinds: tuple[Kind, ...]) -> tuple[str, Kind]:
        """The name and result of a part for arguments of these kinds."""
        key = (function, kinds)
        if key not in self._made:
            name = f"{function.function.__name__}.{len(self._made)}"
            self._made[key] = (name, NOTHING)  # taken
            writer = Writer(self, function.function)
            text, result = writer.define(name, kinds, "noinline cold " if function.seldom else "")
            self._texts.append(text)
            self._made[key] = (name, result)
        return self._made[key]

    def place(self, name: str) -> str:
        """The mark of a place: what is written to one is not read from another (LLVM's type-based alias analysis)."""
        return f"!tbaa !{self._metadata.setdefault(name, len(self._metadata)) * 2 + 3}"

    def math(self, name: str) -> str:
        """One of LLVM's functions of a float."""
        self._intrinsics.add(name)
        return f"@llvm.{name}.f64"

    def text(self) -> str:
        """The module."""
        lines = ['!0 = !{!"tables"}', "!1 = !{}"]
        for name, number in self._metadata.items():
            kind, tag = number * 2 + 2, number * 2 + 3
            lines += [f'!{kind} = !{{!"{name}", !0, i64 0}}', f"!{tag} = !{{!{kind}, !{kind}, i64 0}}"]
        declared = [f"declare double @llvm.{name}.f64(double)" for name in sorted(self._intrinsics)]
        return "\n".join(self._texts + declared + lines) + "\n"


_ARITHMETIC: Mapping[type[ast.operator], tuple[Callable[[Any, Any], Any], Mapping[Kind, str]]] = {
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
_COMPARISONS: Mapping[type[ast.cmpop], tuple[Callable[[Any, Any], Any], Mapping[Kind, str]]] = {
    ast.Eq: (operator.eq, {INT: "icmp eq", WORD: "icmp eq", FLOAT: "fcmp oeq"}),
    ast.NotEq: (operator.ne, {INT: "icmp ne", WORD: "icmp ne", FLOAT: "fcmp une"}),
    ast.Lt: (operator.lt, {INT: "icmp slt", WORD: "icmp ult", FLOAT: "fcmp olt"}),
    ast.LtE: (operator.le, {INT: "icmp sle", WORD: "icmp ule", FLOAT: "fcmp ole"}),
    ast.Gt: (operator.gt, {INT: "icmp sgt", WORD: "icmp ugt", FLOAT: "fcmp ogt"}),
    ast.GtE: (operator.ge, {INT: "icmp sge", WORD: "icmp uge", FLOAT: "fcmp oge"}),
}
_CONVERSIONS: Mapping[tuple[Kind, Kind], str] = {
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
_CASTS: Mapping[Any, Kind] = {int: INT, np.int64: INT, float: FLOAT, bool: TRUTH, np.uint64: WORD}
_MATH: Mapping[Any, str] = {math.log: "log", math.exp: "exp", math.sqrt: "sqrt"}
_UNKNOWN = object()


class Writer:
    """Writes one part for arguments of given kinds."""

    def __init__(self, unit: Unit, function: FunctionType) -> None:
        self.unit, self.function = unit, function
        self.tree = _definitions(function.__code__.co_filename)[function.__name__]
        self.node: ast.AST = self.tree
        self.lines: list[str] = []
        self.kept: list[str] = []  # the variables' places
        self.variables: dict[str, tuple[Kind, str]] = {}
        self.numbered, self.block, self.over = 0, "begin", False  # over: nothing can follow here
        self.result: Kind | None = None
        self.loops: list[list[Any]] = []  # [where `continue` goes, where `break` goes, has one]

    def fail(self, message: str) -> CompileError:
        """An error with its place."""
        line = getattr(self.node, "lineno", self.tree.lineno)
        return CompileError(f"{Path(self.function.__code__.co_filename).name}:{line}: {message}")

    # ---- text
    def new(self, prefix: str = "v") -> str:
        """A new name."""
        self.numbered += 1
        return f"{prefix}{self.numbered}"

    def add(self, code: str) -> None:
        """A line."""
        self.lines.append(f"  {code}")

    def value(self, kind: Kind, code: str) -> Value:
        """A line that gives a value."""
        name = f"%{self.new()}"
        self.add(f"{name} = {code}")
        return Value(kind, name)

    def label(self, name: str) -> None:
        """A block begins."""
        self.lines.append(f"{name}:")
        self.block, self.over = name, False

    def jump(self, name: str) -> None:
        """Go on there, unless this place is never reached."""
        if not self.over:
            self.add(f"br label %{name}")
            self.over = True

    def fork(self, value: Value, yes: str, no: str) -> None:
        """Go on at one of two places."""
        self.add(f"br i1 {value.text}, label %{yes}, label %{no}")
        self.over = True

    # ---- a function
    def define(self, name: str, kinds: tuple[Kind, ...], attributes: str) -> tuple[str, Kind]:
        """The text of the whole part, and what it returns."""
        given = [argument.arg for argument in self.tree.args.args]
        if len(given) != len(kinds):
            raise self.fail(f"{name} takes {len(given)} arguments, not {len(kinds)}")
        for argument, kind in zip(given, kinds, strict=True):
            self.assign(argument, Value(kind, f"%in.{argument}"))
        self.statements(self.tree.body)
        result = self.result or NOTHING
        if not self.over:
            self.add("ret void" if result is NOTHING else "unreachable")
        inputs = ", ".join(f"{kind.llvm} %in.{argument}" for argument, kind in zip(given, kinds, strict=True))
        head = f"define internal {result.llvm} @{name}({inputs}) nounwind {attributes}{{\nbegin:"
        return "\n".join([head, *self.kept, *self.lines, "}\n"]), result

    def assign(self, name: str, value: Value) -> None:
        """Give a variable a value; it keeps the kind of its first one."""
        if name not in self.variables:
            kind = INT if value.kind == TRUTH else value.kind
            self.kept.append(f"  %{name}.at = alloca {kind.llvm}")
            self.variables[name] = (kind, f"%{name}.at")
        kind, place = self.variables[name]
        self.add(f"store {kind.llvm} {self.converted(value, kind).text}, ptr {place}")

    # ---- statements
    def statements(self, body: Sequence[ast.stmt]) -> None:
        """One after the other, as far as they are reached."""
        for statement in body:
            if self.over:
                return
            self.node = statement
            getattr(self, f"on_{type(statement).__name__}", self.unknown)(statement)

    def unknown(self, node: ast.AST) -> Any:
        """Not a part of this language."""
        self.node = node if hasattr(node, "lineno") else self.node
        raise self.fail(f"a kernel has no {type(node).__name__}")

    def on_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):  # a docstring
            self.evaluate(node.value)

    def on_Assign(self, node: ast.Assign) -> None:
        if isinstance(node.targets[0], ast.Tuple):
            assert isinstance(node.value, ast.Tuple)
            values = [self.evaluate(item) for item in node.value.elts]
            for target, value in zip(node.targets[0].elts, values, strict=True):
                self.store(target, value)
            return
        value = self.evaluate(node.value)
        for target in node.targets:
            self.store(target, value)

    def on_AugAssign(self, node: ast.AugAssign) -> None:
        before = self.evaluate(_loaded(node.target))
        self.store(node.target, self.arithmetic(type(node.op), before, self.evaluate(node.value)))

    def on_Return(self, node: ast.Return) -> None:
        if node.value is None:
            self.add("ret void")
        else:
            value = self.evaluate(node.value)
            if self.result is None:
                self.result = INT if value.kind == TRUTH else value.kind
            if self.result is not NOTHING:
                self.add(f"ret {self.result.llvm} {self.converted(value, self.result).text}")
        self.over = True

    def on_If(self, node: ast.If) -> None:
        test = self.truth(node.test)
        if test.constant is not None:
            self.statements(node.body if test.constant else node.orelse)
            return
        yes, no, after = self.new("yes"), self.new("no"), self.new("after")
        self.fork(test, yes, no if node.orelse else after)
        self.label(yes)
        self.statements(node.body)
        ends = self.over
        self.jump(after)
        if node.orelse:
            self.label(no)
            self.statements(node.orelse)
            ends = ends and self.over
            self.jump(after)
        else:
            ends = False
        if not ends:
            self.label(after)

    def on_While(self, node: ast.While) -> None:
        test, after = self.new("test"), self.new("after")
        self.jump(test)
        self.label(test)
        with self.loop(test, after) as state:
            value = self.truth(node.test)
            if value.constant is None:
                inside, state[2] = self.new("do"), True
                self.fork(value, inside, after)
                self.label(inside)
            elif not value.constant:
                raise self.fail("a loop that never runs")
            self.statements(node.body)
            self.jump(test)
        if state[2]:
            self.label(after)

    def on_For(self, node: ast.For) -> None:
        call = node.iter
        if not (isinstance(node.target, ast.Name) and isinstance(call, ast.Call) and self.static(call.func) is range):
            raise self.fail("a kernel loops over range(...) alone")
        bounds = [self.converted(self.evaluate(item), INT) for item in call.args]
        first, end = bounds if len(bounds) == 2 else (Value(INT, "0", 0), *bounds)
        hidden = self.new("count.")
        self.assign(hidden, first)
        test, inside, following, after = (self.new(name) for name in ("test", "do", "next", "after"))
        self.jump(test)
        self.label(test)
        number = self.load_variable(hidden)
        self.fork(self.value(TRUTH, f"icmp slt i64 {number.text}, {end.text}"), inside, after)
        self.label(inside)
        self.assign(node.target.id, number)
        with self.loop(following, after):
            self.statements(node.body)
        self.jump(following)
        self.label(following)
        self.assign(hidden, self.value(INT, f"add i64 {self.load_variable(hidden).text}, 1"))
        self.jump(test)
        self.label(after)

    @contextmanager
    def loop(self, following: str, after: str) -> Iterator[list[Any]]:
        """Where `continue` and `break` go meanwhile."""
        state: list[Any] = [following, after, False]
        self.loops.append(state)
        yield state
        self.loops.pop()

    def on_Break(self, _node: ast.Break) -> None:
        self.loops[-1][2] = True
        self.jump(self.loops[-1][1])

    def on_Continue(self, _node: ast.Continue) -> None:
        self.jump(self.loops[-1][0])

    # ---- memory
    def load(self, place: str, kind: str, mark: str) -> Value:
        """A number from memory."""
        loaded = self.value(SEEN_AS[kind], f"load {STORED[kind]}, ptr {place}, {self.unit.place(mark)}")
        if STORED[kind] in ("i32", "i8"):
            return self.value(INT, f"sext {STORED[kind]} {loaded.text} to i64")
        return loaded

    def put(self, place: str, kind: str, mark: str, value: Value) -> None:
        """A number to memory."""
        text = self.converted(value, SEEN_AS[kind]).text
        if STORED[kind] in ("i32", "i8"):
            text = self.value(INT, f"trunc i64 {text} to {STORED[kind]}").text
        self.add(f"store {STORED[kind]} {text}, ptr {place}, {self.unit.place(mark)}")

    def field(self, node: ast.Attribute) -> tuple[str, str, str]:
        """A row's field: place, kind of number, mark."""
        row = self.evaluate(node.value)
        found = row.kind.field(node.attr) if isinstance(row.kind, Row) else None
        if found is None:
            raise self.fail(f"a {row.kind.name} has no {node.attr}")
        kind, offset = found
        place = self.value(row.kind, f"getelementptr i8, ptr {row.text}, i64 {offset}").text
        return place, kind, f"{row.kind.name}.{node.attr}"

    def element(self, node: ast.Subscript) -> tuple[str, str, str]:
        """A column's number: place, kind of number, mark."""
        column, index = self.evaluate(node.value), self.converted(self.evaluate(node.slice), INT)
        if not isinstance(column.kind, Column):
            raise self.fail(f"a {column.kind.name} has no [...]")
        kind = column.kind.kind
        return self.item(column, index, np.dtype(kind).itemsize).text, kind, column.kind.name

    def item(self, base: Value, index: Value, size: int) -> Value:
        """The address of one of many things of this size."""
        offset = self.arithmetic(ast.Mult, self.converted(index, INT), Value(INT, str(size), size))
        return self.value(base.kind, f"getelementptr i8, ptr {base.text}, i64 {offset.text}")

    def load_variable(self, name: str) -> Value:
        """A variable's value."""
        kind, place = self.variables[name]
        return self.value(kind, f"load {kind.llvm}, ptr {place}")

    def store(self, target: ast.expr, value: Value) -> None:
        """Write to what stands on the left of an assignment."""
        if isinstance(target, ast.Name):
            self.assign(target.id, value)
        elif isinstance(target, ast.Attribute):
            self.put(*self.field(target), value)
        elif isinstance(target, ast.Subscript):
            self.put(*self.element(target), value)
        else:
            self.unknown(target)

    # ---- expressions
    def static(self, node: ast.expr) -> Any:
        """What a name outside the function is, in Python."""
        if isinstance(node, ast.Name) and node.id not in self.variables:
            known = self.function.__globals__
            return known[node.id] if node.id in known else getattr(builtins, node.id, _UNKNOWN)
        if isinstance(node, ast.Attribute) and isinstance(module := self.static(node.value), ModuleType):
            return getattr(module, node.attr, _UNKNOWN)
        return _UNKNOWN

    def evaluate(self, node: ast.expr) -> Value:
        """An expression's value."""
        known = self.static(node)
        if isinstance(known, Feature):
            return constant(known.name in self.unit.features) or self.unknown(node)
        if known is not _UNKNOWN:
            return constant(known) or self.unknown(node)
        write: Callable[[Any], Value] = getattr(self, f"of_{type(node).__name__}", self.unknown)
        return write(node)

    def of_Constant(self, node: ast.Constant) -> Value:
        return constant(node.value) or self.unknown(node)

    def of_Name(self, node: ast.Name) -> Value:
        if node.id not in self.variables:
            raise self.fail(f"nobody has set {node.id}")
        return self.load_variable(node.id)

    def of_Attribute(self, node: ast.Attribute) -> Value:
        return self.load(*self.field(node))

    def of_Subscript(self, node: ast.Subscript) -> Value:
        return self.load(*self.element(node))

    def of_BinOp(self, node: ast.BinOp) -> Value:
        return self.arithmetic(type(node.op), self.evaluate(node.left), self.evaluate(node.right))

    def of_UnaryOp(self, node: ast.UnaryOp) -> Value:
        if isinstance(node.op, ast.Not):
            value = self.truth(node.operand)
            if value.constant is not None:
                return constant(not value.constant) or self.unknown(node)
            return self.value(TRUTH, f"xor i1 {value.text}, true")
        value = self.evaluate(node.operand)
        if not isinstance(node.op, ast.USub):
            return self.unknown(node.op)
        if value.constant is not None:
            return constant(-value.constant) or self.unknown(node)
        if value.kind == FLOAT:
            return self.value(FLOAT, f"fneg double {value.text}")
        return self.arithmetic(ast.Sub, Value(INT, "0", 0), value)

    def of_Compare(self, node: ast.Compare) -> Value:
        sides = [self.evaluate(item) for item in (node.left, *node.comparators)]
        found: Value | None = None
        for number, op in enumerate(node.ops):
            one = self.comparison(type(op), sides[number], sides[number + 1])
            found = one if found is None else self.arithmetic(ast.BitAnd, found, one)
        assert found is not None
        return found

    def of_BoolOp(self, node: ast.BoolOp) -> Value:
        """`and`, `or`: the later ones are looked at only if the earlier ones do not decide."""
        decides = isinstance(node.op, ast.Or)
        after, asked = self.new("after"), []
        for number, item in enumerate(node.values):
            value = self.truth(item)
            if value.constant is not None and value.constant != decides:
                continue  # the others decide
            if not asked and (value.constant is not None or number == len(node.values) - 1):
                return value
            asked.append((value, self.block))
            if value.constant is not None or number == len(node.values) - 1:
                break
            following = self.new("and")
            self.fork(value, *((after, following) if decides else (following, after)))
            self.label(following)
        else:
            if not asked:
                return constant(not decides) or self.unknown(node)
            asked.append((constant(not decides) or self.unknown(node), self.block))
        self.jump(after)
        self.label(after)
        known = "true" if decides else "false"
        ways = [f"[ {known}, %{block} ]" for _, block in asked[:-1]] + [f"[ {asked[-1][0].text}, %{asked[-1][1]} ]"]
        return self.value(TRUTH, f"phi i1 {', '.join(ways)}")

    def of_IfExp(self, node: ast.IfExp) -> Value:
        test = self.truth(node.test)
        if test.constant is not None:
            return self.evaluate(node.body if test.constant else node.orelse)
        yes, no, after, place = self.new("yes"), self.new("no"), self.new("after"), self.new("choice.")
        self.fork(test, yes, no)
        self.label(yes)
        self.assign(place, self.evaluate(node.body))
        self.jump(after)
        self.label(no)
        self.assign(place, self.evaluate(node.orelse))
        self.jump(after)
        self.label(after)
        return self.load_variable(place)

    def of_Call(self, node: ast.Call) -> Value:
        called = self.static(node.func)
        arguments = [self.evaluate(item) for item in node.args]
        if isinstance(called, Part):
            wide = [self.converted(item, INT) if item.kind == TRUTH else item for item in arguments]
            name, result = self.unit.instance(called, tuple(item.kind for item in wide))
            given = ", ".join(f"{item.kind.llvm} {item.text}" for item in wide)
            if result is NOTHING:
                self.add(f"call void @{name}({given})")
                return Value(NOTHING, "")
            return self.value(result, f"call {result.llvm} @{name}({given})")
        if isinstance(called, Intrinsic):
            return called.code(self, arguments)
        if called in (min, max):
            return self.least(arguments, ast.Lt if called is min else ast.Gt)
        if called in _CASTS:
            return self.converted(arguments[0], _CASTS[called], said=True)
        if called in _MATH:
            number = self.converted(arguments[0], FLOAT)
            return self.value(FLOAT, f"call double {self.unit.math(_MATH[called])}(double {number.text})")
        raise self.fail(f"a kernel cannot call {ast.unparse(node.func)}")

    def least(self, values: Sequence[Value], comes_first: type[ast.cmpop]) -> Value:
        """`min` or `max`: as in Python, the first of those that are equal."""
        found = values[0]
        for other in values[1:]:
            found, other = self.alike(found, other)
            better = self.comparison(comes_first, other, found)
            found = self.value(
                found.kind, f"select i1 {better.text}, {found.kind.llvm} {other.text}, {found.kind.llvm} {found.text}"
            )
        return found

    # ---- numbers
    def truth(self, node: ast.expr) -> Value:
        """Is it true?"""
        return self.converted(self.evaluate(node), TRUTH, said=True)

    def converted(self, value: Value, kind: Kind, said: bool = False) -> Value:
        """The same as another kind; from a float to a whole number, or to and from a word, only if somebody `said` so."""
        if value.kind == kind:
            return value
        if value.constant is not None and (kind == FLOAT or (kind == INT and value.kind == TRUTH) or said):
            plain = value.constant if isinstance(value.constant, float) else int(value.constant)
            if kind == WORD:
                return word_constant(int(plain) & 0xFFFF_FFFF_FFFF_FFFF)
            return constant({INT: int, FLOAT: float, TRUTH: bool}[kind](plain)) or self.unknown(self.node)
        if value.constant is not None and kind == WORD and value.kind == INT:
            return word_constant(value.constant)
        if {value.kind, kind} == {INT, WORD} and said:
            return Value(kind, value.text)
        code = _CONVERSIONS.get((value.kind, kind))
        if code is None or not (said or (value.kind, kind) in ((TRUTH, INT), (TRUTH, FLOAT), (INT, FLOAT))):
            raise self.fail(f"a {value.kind.name} where a {kind.name} is needed")
        return self.value(kind, code.format(value.text))

    def alike(self, a: Value, b: Value) -> tuple[Value, Value]:
        """Two numbers as the same kind."""
        if a.kind == b.kind:
            return a, b
        kinds = {a.kind, b.kind}
        kind = next((each for each in (FLOAT, WORD, INT) if each in kinds), INT)
        return self.converted(a, kind), self.converted(b, kind)

    def arithmetic(self, op: type[ast.operator], a: Value, b: Value) -> Value:
        """Of two numbers."""
        compute, codes = _ARITHMETIC[op]
        if a.constant is not None and b.constant is not None and WORD not in (a.kind, b.kind):
            return constant(compute(a.constant, b.constant)) or self.unknown(self.node)
        if op is ast.Div:
            a, b = self.converted(a, FLOAT), self.converted(b, FLOAT)
        a, b = self.alike(a, b)
        if a.kind == TRUTH and TRUTH not in codes:
            a, b = self.converted(a, INT), self.converted(b, INT)
        if a.kind == INT and op in (ast.FloorDiv, ast.Mod):
            return self.divided(op, a, b)
        if a.kind not in codes:
            raise self.fail(f"no {op.__name__} of a {a.kind.name} in a kernel")
        return self.value(a.kind, f"{codes[a.kind]} {a.kind.llvm} {a.text}, {b.text}")

    def divided(self, op: type[ast.operator], a: Value, b: Value) -> Value:
        """Whole numbers divided as in Python, downwards."""
        rest = self.value(INT, f"srem i64 {a.text}, {b.text}")
        signs = self.value(INT, f"xor i64 {rest.text}, {b.text}")
        differ = self.value(TRUTH, f"icmp slt i64 {signs.text}, 0")
        some = self.value(TRUTH, f"icmp ne i64 {rest.text}, 0")
        below = self.arithmetic(ast.BitAnd, differ, some)
        if op is ast.Mod:
            more = self.value(INT, f"select i1 {below.text}, i64 {b.text}, i64 0")
            return self.value(INT, f"add i64 {rest.text}, {more.text}")
        quotient = self.value(INT, f"sdiv i64 {a.text}, {b.text}")
        return self.arithmetic(ast.Sub, quotient, self.converted(below, INT))

    def comparison(self, op: type[ast.cmpop], a: Value, b: Value) -> Value:
        """Of two numbers."""
        compute, codes = _COMPARISONS[op]
        if a.constant is not None and b.constant is not None:
            return constant(bool(compute(a.constant, b.constant))) or self.unknown(self.node)
        a, b = self.alike(a, b)
        if a.kind == TRUTH:
            a, b = self.converted(a, INT), self.converted(b, INT)
        if a.kind not in codes:
            raise self.fail(f"no {op.__name__} of a {a.kind.name} in a kernel")
        return self.value(TRUTH, f"{codes[a.kind]} {a.kind.llvm} {a.text}, {b.text}")


def _loaded(target: ast.expr) -> ast.expr:
    """The left side of an assignment, to be read."""
    return target
