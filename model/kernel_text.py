"""LLVM's text of one function of a kernel: lines, blocks, and what can be done with numbers; see `kernel_compiler.py`."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path
from types import FunctionType
from typing import Any, NoReturn

from model.kernel_words import (
    ARITHMETIC,
    COMPARISONS,
    CONVERSIONS,
    FLOAT,
    INT,
    TRUTH,
    WORD,
    CompileError,
    Kind,
    Value,
    constant,
    word_constant,
)


class Text:
    """A function's text in the making."""

    def __init__(self, function: FunctionType) -> None:
        self.function = function
        self.node: ast.AST = ast.Pass()  # what is being compiled
        self.lines: list[str] = []
        self.numbered, self.block, self.over = 0, "begin", False  # over: nothing can follow here

    def fail(self, message: str) -> CompileError:
        """An error with its place."""
        line = getattr(self.node, "lineno", self.function.__code__.co_firstlineno)
        return CompileError(f"{Path(self.function.__code__.co_filename).name}:{line}: {message}")

    def unknown(self, node: ast.AST) -> NoReturn:
        """Not a part of this language."""
        self.node = node if hasattr(node, "lineno") else self.node
        raise self.fail(f"a kernel has no {type(node).__name__}")

    def known(self, value: Any, node: ast.AST) -> Value:
        """A constant."""
        found = constant(value)
        if found is None:
            self.unknown(node)
        assert found is not None
        return found

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

    # ---- numbers
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

    def converted(self, value: Value, kind: Kind, said: bool = False) -> Value:
        """The same as another kind; from a float to a whole number, or to and from a word, only if somebody `said` so."""
        if value.kind == kind:
            return value
        if value.constant is not None and (kind == FLOAT or (kind == INT and value.kind == TRUTH) or said):
            plain = value.constant if isinstance(value.constant, float) else int(value.constant)
            if kind == WORD:
                return word_constant(int(plain) & 0xFFFF_FFFF_FFFF_FFFF)
            return self.known({INT: int, FLOAT: float, TRUTH: bool}[kind](plain), self.node)
        if value.constant is not None and kind == WORD and value.kind == INT:
            return word_constant(value.constant)
        if {value.kind, kind} == {INT, WORD} and said:
            return Value(kind, value.text)
        code = CONVERSIONS.get((value.kind, kind))
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
        compute, codes = ARITHMETIC[op]
        if a.constant is not None and b.constant is not None and WORD not in (a.kind, b.kind):
            return self.known(compute(a.constant, b.constant), self.node)
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
        compute, codes = COMPARISONS[op]
        if a.constant is not None and b.constant is not None:
            return self.known(bool(compute(a.constant, b.constant)), self.node)
        a, b = self.alike(a, b)
        if a.kind == TRUTH:
            a, b = self.converted(a, INT), self.converted(b, INT)
        if a.kind not in codes:
            raise self.fail(f"no {op.__name__} of a {a.kind.name} in a kernel")
        return self.value(TRUTH, f"{codes[a.kind]} {a.kind.llvm} {a.text}, {b.text}")
