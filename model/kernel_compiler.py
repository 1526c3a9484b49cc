"""A small compiler: from the few things of Python that kernels are written in to LLVM's text.

A kernel is made of *parts* (`part`): functions of whole numbers (64 bits), words (unsigned, 64 bits), floats, and *rows* and
*columns*, which are addresses of the caller's memory. Assignments, `if`, `while`, `for ... in range(...)`, `return`, arithmetic,
comparisons, calls of other parts, `row.field` and `column[i]` mean what they mean in Python; whole numbers wrap around, and a
division by zero is infinite. A name outside the function is a constant. Nothing is allocated, raised or counted, so nothing else
is there, and what else somebody writes is a `CompileError` with its place.

A `Feature` is a constant that each kernel sets for itself: what stands under `if FEATURE:` is neither compiled nor even read by a
kernel that lacks it. That is what a compiler of our own is for. Numba took 13 s for the 170 parts of a kernel before LLVM
began, and 0.7 s to be imported; here it is 0.2 s. The rest, optimisation and machine code, is LLVM's (`kernel_cache.py`).
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from model.kernel_text import Text
from model.kernel_words import (
    CASTS,
    FLOAT,
    INT,
    MATH,
    NOTHING,
    SEEN_AS,
    STORED,
    TRUTH,
    Column,
    CompileError,
    Feature,
    Intrinsic,
    Kind,
    Part,
    Row,
    Value,
)


@cache
def _definitions(path: str) -> dict[str, ast.FunctionDef]:
    tree = ast.parse(Path(path).read_text(encoding="utf-8"), path)
    return {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


UNDER_WAY = Kind("what is still being compiled", "void")


class Unit:
    """All that becomes one piece of machine code: the parts that its entries need, each once for each kind of arguments."""

    def __init__(self, features: frozenset[str] = frozenset()) -> None:
        self.features = features
        self._made: dict[tuple[Part, tuple[Kind, ...]], tuple[str, Kind]] = {}
        self._texts: list[str] = []
        self._metadata: dict[str, int] = {}
        self._declared: set[str] = set()

    def entry(self, name: str, function: Part, result: Kind, arguments: Sequence[Kind]) -> None:
        """A way in from outside, called `name`."""
        inner, kind = self.instance(function, tuple(arguments))
        if kind != result:
            raise CompileError(f"{name} returns a {kind.name}, not a {result.name}")
        given = ", ".join(f"{each.llvm} %a{number}" for number, each in enumerate(arguments))
        self._texts.append(
            f"define {kind.llvm} @{name}({given}) {{\n"
            f"  %r = call {function.convention}{kind.llvm} @{inner}({given})\n  ret {kind.llvm} %r\n}}\n"
        )

    def instance(self, function: Part, kinds: tuple[Kind, ...]) -> tuple[str, Kind]:
        """The name and result of a part for arguments of these kinds."""
        key = (function, kinds)
        if key not in self._made:
            name = f"{function.function.__name__}.{len(self._made)}"
            self._made[key] = (name, UNDER_WAY)
            writer = Writer(self, function.function)
            text, result = writer.define(name, kinds, function)
            self._texts.append(text)
            self._made[key] = (name, result)
        elif self._made[key][1] is UNDER_WAY:
            raise CompileError(f"{function.function.__name__} calls itself")
        return self._made[key]

    def place(self, name: str) -> str:
        """The mark of a place: what is written to one is not read from another (LLVM's type-based alias analysis)."""
        return f"!tbaa !{self._metadata.setdefault(name, len(self._metadata)) * 2 + 3}"

    def declare(self, function: str) -> None:
        """A function of LLVM's is used: its result, name and arguments."""
        self._declared.add(f"declare {function}")

    def text(self) -> str:
        """The module."""
        lines = ['!0 = !{!"tables"}', "!1 = !{}"]
        for name, number in self._metadata.items():
            kind, tag = number * 2 + 2, number * 2 + 3
            lines += [f'!{kind} = !{{!"{name}", !0, i64 0}}', f"!{tag} = !{{!{kind}, !{kind}, i64 0}}"]
        return "\n".join(self._texts + sorted(self._declared) + lines) + "\n"


_UNKNOWN = object()


class Writer(Text):
    """Writes one part for arguments of given kinds."""

    def __init__(self, unit: Unit, function: FunctionType) -> None:
        super().__init__(function)
        self.unit = unit
        self.tree = _definitions(function.__code__.co_filename)[function.__name__]
        self.node = self.tree
        self.kept: list[str] = []  # the variables' places
        self.variables: dict[str, tuple[Kind, str]] = {}
        self.result: Kind | None = None
        self.loops: list[list[Any]] = []  # [where `continue` goes, where `break` goes, has one]

    # ---- a function
    def define(self, name: str, kinds: tuple[Kind, ...], part: Part) -> tuple[str, Kind]:
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
        head = f"define internal {part.convention}{result.llvm} @{name}({inputs}) nounwind {part.attributes}{{\nbegin:"
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
            getattr(self, f"_on_{type(statement).__name__}", self.unknown)(statement)

    def _on_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):  # a docstring
            self.evaluate(node.value)

    def _on_Assign(self, node: ast.Assign) -> None:
        if isinstance(node.targets[0], ast.Tuple):
            assert isinstance(node.value, ast.Tuple)
            values = [self.evaluate(item) for item in node.value.elts]
            for target, value in zip(node.targets[0].elts, values, strict=True):
                self.store(target, value)
            return
        value = self.evaluate(node.value)
        for target in node.targets:
            self.store(target, value)

    def _on_AugAssign(self, node: ast.AugAssign) -> None:
        before = self.evaluate(node.target)
        self.store(node.target, self.arithmetic(type(node.op), before, self.evaluate(node.value)))

    def _on_Return(self, node: ast.Return) -> None:
        if node.value is None:
            self.add("ret void")
        else:
            value = self.evaluate(node.value)
            if self.result is None:
                self.result = INT if value.kind == TRUTH else value.kind
            if self.result is not NOTHING:
                self.add(f"ret {self.result.llvm} {self.converted(value, self.result).text}")
        self.over = True

    def _on_If(self, node: ast.If) -> None:
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

    def _on_While(self, node: ast.While) -> None:
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

    def _on_For(self, node: ast.For) -> None:
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

    def _on_Break(self, _node: ast.Break) -> None:
        self.loops[-1][2] = True
        self.jump(self.loops[-1][1])

    def _on_Continue(self, _node: ast.Continue) -> None:
        self.jump(self.loops[-1][0])

    # ---- memory
    def load(self, place: str, kind: str, mark: str) -> Value:
        """A number from memory."""
        loaded = self.value(SEEN_AS[kind], f"load {STORED[kind]}, ptr {place}, {self.unit.place(mark)}")
        if STORED[kind] in ("i32", "i16", "i8"):
            return self.value(INT, f"sext {STORED[kind]} {loaded.text} to i64")
        return loaded

    def put(self, place: str, kind: str, mark: str, value: Value) -> None:
        """A number to memory."""
        text = self.converted(value, SEEN_AS[kind]).text
        if STORED[kind] in ("i32", "i16", "i8"):
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
            known = known.name in self.unit.features
        if known is not _UNKNOWN:
            return self.known(known, node)
        write: Callable[[Any], Value] = getattr(self, f"_of_{type(node).__name__}", self.unknown)
        return write(node)

    def _of_Constant(self, node: ast.Constant) -> Value:
        return self.known(node.value, node)

    def _of_Name(self, node: ast.Name) -> Value:
        if node.id not in self.variables:
            raise self.fail(f"nobody has set {node.id}")
        return self.load_variable(node.id)

    def _of_Attribute(self, node: ast.Attribute) -> Value:
        return self.load(*self.field(node))

    def _of_Subscript(self, node: ast.Subscript) -> Value:
        return self.load(*self.element(node))

    def _of_BinOp(self, node: ast.BinOp) -> Value:
        return self.arithmetic(type(node.op), self.evaluate(node.left), self.evaluate(node.right))

    def _of_UnaryOp(self, node: ast.UnaryOp) -> Value:
        if isinstance(node.op, ast.Not):
            value = self.truth(node.operand)
            if value.constant is not None:
                return self.known(not value.constant, node)
            return self.value(TRUTH, f"xor i1 {value.text}, true")
        value = self.evaluate(node.operand)
        if not isinstance(node.op, ast.USub):
            self.unknown(node.op)
        if value.constant is not None:
            return self.known(-value.constant, node)
        if value.kind == FLOAT:
            return self.value(FLOAT, f"fneg double {value.text}")
        return self.arithmetic(ast.Sub, Value(INT, "0", 0), value)

    def _of_Compare(self, node: ast.Compare) -> Value:
        sides = [self.evaluate(item) for item in (node.left, *node.comparators)]
        found: Value | None = None
        for number, op in enumerate(node.ops):
            one = self.comparison(type(op), sides[number], sides[number + 1])
            found = one if found is None else self.arithmetic(ast.BitAnd, found, one)
        assert found is not None
        return found

    def _of_BoolOp(self, node: ast.BoolOp) -> Value:
        """`and`, `or`: the later ones are looked at only if the earlier ones do not decide."""
        decides = isinstance(node.op, ast.Or)
        after = self.new("after")
        asked: list[tuple[Value, str]] = []
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
                return self.known(not decides, node)
            asked.append((self.known(not decides, node), self.block))
        self.jump(after)
        self.label(after)
        known = "true" if decides else "false"
        ways = [f"[ {known}, %{block} ]" for _, block in asked[:-1]] + [f"[ {asked[-1][0].text}, %{asked[-1][1]} ]"]
        return self.value(TRUTH, f"phi i1 {', '.join(ways)}")

    def _of_IfExp(self, node: ast.IfExp) -> Value:
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

    def _of_Call(self, node: ast.Call) -> Value:
        called = self.static(node.func)
        arguments = [self.evaluate(item) for item in node.args]
        if isinstance(called, Part):
            wide = [self.converted(item, INT) if item.kind == TRUTH else item for item in arguments]
            name, result = self.unit.instance(called, tuple(item.kind for item in wide))
            given = ", ".join(f"{item.kind.llvm} {item.text}" for item in wide)
            if result is NOTHING:
                self.add(f"call {called.convention}void @{name}({given})")
                return Value(NOTHING, "")
            return self.value(result, f"call {called.convention}{result.llvm} @{name}({given})")
        if isinstance(called, Intrinsic):
            return called.code(self, arguments)
        if called in (min, max):
            return self.least(arguments, ast.Lt if called is min else ast.Gt)
        if called in CASTS:
            return self.converted(arguments[0], CASTS[called], said=True)
        if called in MATH:
            number, name = self.converted(arguments[0], FLOAT), f"@llvm.{MATH[called]}.f64"
            self.unit.declare(f"double {name}(double)")
            return self.value(FLOAT, f"call double {name}(double {number.text})")
        raise self.fail(f"a kernel cannot call {ast.unparse(node.func)}")

    def truth(self, node: ast.expr) -> Value:
        """Is it true?"""
        return self.converted(self.evaluate(node), TRUTH, said=True)
