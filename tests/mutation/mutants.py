"""Small defects, one at a time, that nobody chose: each mutant changes one place of one file.

Python is parsed, so that a mutant is a program that somebody could have written. The script in Lua
is cut into words; comments and strings are left alone.

A mutant is named by its file, its line and what becomes of it, so that a reviewed list can speak of
it (`equivalent.py`).
"""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple


class Mutant(NamedTuple):
    """A piece of a file, and what stands in its place.

    Attributes:
        path: the file, from the root of the tree.
        line: the number of the line where the piece begins.
        start, end: the place of the piece in the file's text.
        was: the piece.
        becomes: what stands in its place.
    """

    path: str
    line: int
    start: int
    end: int
    was: str
    becomes: str

    def apply(self, text: str) -> str:
        """The text of the file with the defect."""
        assert text[self.start : self.end] == self.was
        return text[: self.start] + self.becomes + text[self.end :]

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {_short(self.was)} -> {_short(self.becomes)}"


def _short(piece: str) -> str:
    return " ".join(piece.split())[:60]


def mutants_of(path: str, text: str) -> list[Mutant]:
    """Every mutant of a file, in the order of the file."""
    found = _of_lua(text) if path.endswith(".lua") else _of_python(text)
    return [
        Mutant(path, text.count("\n", 0, start) + 1, start, end, text[start:end], becomes)
        for start, end, becomes in sorted(set(found))
        if text[start:end] != becomes
    ]


def sample(files: Iterable[Path], root: Path, number: int, seed: int) -> list[Mutant]:
    """So many mutants of these files, at most one a line, drawn by this seed."""
    drawn = random.Random(seed)
    by_line: dict[tuple[str, int], list[Mutant]] = {}
    for file in sorted(files):
        path = file.relative_to(root).as_posix()
        for mutant in mutants_of(path, file.read_text("utf-8")):
            by_line.setdefault((path, mutant.line), []).append(mutant)
    lines = drawn.sample(sorted(by_line), min(number, len(by_line)))
    return [drawn.choice(by_line[line]) for line in lines]


Edit = tuple[int, int, str]

# --- Python --------------------------------------------------------------------------------------

COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==",
    ast.Is: "is not", ast.IsNot: "is", ast.In: "not in", ast.NotIn: "in",
}  # fmt: skip
ARITHMETIC: dict[type[ast.operator], str] = {
    ast.Add: "-", ast.Sub: "+", ast.Mult: "+", ast.FloorDiv: "*", ast.Mod: "*", ast.BitAnd: "|",
    ast.BitOr: "&", ast.LShift: ">>", ast.RShift: "<<",
}  # fmt: skip


def _of_python(text: str) -> Iterator[Edit]:
    places = _Places(text)
    tree = ast.parse(text)
    skipped = _left_alone(tree)
    for node in ast.walk(tree):
        if id(node) not in skipped:
            yield from _of_node(node, places)


def _left_alone(tree: ast.AST) -> set[int]:
    """Types, decorators and docstrings, which do nothing when the program runs; and what is inside
    a formatted string, whose place in the text Python 3.11 does not tell."""
    roots: list[ast.AST | None] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            roots += [node.returns, *node.decorator_list]
        elif isinstance(node, ast.arg | ast.AnnAssign):
            roots.append(node.annotation)
        elif _is_docstring(node) or isinstance(node, ast.JoinedStr):
            roots.append(node)
    return {id(inner) for root in roots if root is not None for inner in ast.walk(root)}


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _of_node(node: ast.AST, places: _Places) -> Iterator[Edit]:
    """What a single node can become."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        between = places.between(node.left, node.comparators[0])
        yield from places.replaced(*between, COMPARISONS[type(node.ops[0])], node.ops[0])
    elif isinstance(node, ast.BoolOp):
        other = "or" if isinstance(node.op, ast.And) else "and"
        yield from places.replaced(*places.between(*node.values[:2]), other, node.op)
    elif isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        yield from places.replaced(
            *places.between(node.left, node.right), ARITHMETIC[type(node.op)], node.op
        )
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        start, _ = places.of(node)
        yield start, start + len("not"), ""
    elif isinstance(node, ast.Constant):
        yield from _of_constant(node, places)
    elif isinstance(node, ast.If | ast.While | ast.IfExp):
        start, end = places.of(node.test)
        yield start, end, f"(not ({places.text[start:end]}))"
    elif isinstance(node, ast.Return) and node.value is not None:
        yield (*places.of(node.value), "None")
    elif isinstance(node, ast.Break | ast.Continue):
        yield (*places.of(node), "continue" if isinstance(node, ast.Break) else "break")
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call | ast.Await):
        yield (*places.of(node), "pass")
    elif isinstance(node, ast.AugAssign):
        start, end = places.of(node)
        piece = places.text[start:end]
        yield start, end, re.sub(r" (\+|-)= ", lambda m: " -= " if m[1] == "+" else " += ", piece)


def _of_constant(node: ast.Constant, places: _Places) -> Iterator[Edit]:
    if node.value is True or node.value is False:
        yield (*places.of(node), str(not node.value))
    elif isinstance(node.value, int | float):
        yield (*places.of(node), repr(node.value + 1))


class _Places:
    """Where the nodes of a program are in its text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._lines = [0]
        for line in text.encode().splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))
        self._bytes = text.encode()

    def of(self, node: ast.AST) -> tuple[int, int]:
        """Its beginning and its end."""
        assert isinstance(node, ast.expr | ast.stmt)
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start = self._lines[node.lineno - 1] + node.col_offset
        end = self._lines[node.end_lineno - 1] + node.end_col_offset
        return len(self._bytes[:start].decode()), len(self._bytes[:end].decode())

    def between(self, left: ast.AST, right: ast.AST) -> tuple[int, int]:
        """What stands between two nodes: an operator, perhaps brackets."""
        return self.of(left)[1], self.of(right)[0]

    def replaced(self, start: int, end: int, becomes: str, was: ast.AST) -> Iterator[Edit]:
        """The operator that is found in between becomes another one."""
        found = re.search(OPERATORS[type(was)], self.text[start:end])
        if found:
            yield start + found.start(), start + found.end(), becomes


OPERATORS: dict[type[ast.AST], str] = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
    ast.Is: r"\bis\b", ast.IsNot: r"\bis\s+not\b", ast.In: r"\bin\b", ast.NotIn: r"\bnot\s+in\b",
    ast.And: r"\band\b", ast.Or: r"\bor\b", ast.Add: r"\+", ast.Sub: "-", ast.Mult: r"\*",
    ast.FloorDiv: "//", ast.Mod: "%", ast.BitAnd: "&", ast.BitOr: r"\|", ast.LShift: "<<",
    ast.RShift: ">>",
}  # fmt: skip

# --- Lua -----------------------------------------------------------------------------------------

LUA = {
    "==": "~=", "~=": "==", "<": "<=", "<=": "<", ">": ">=", ">=": ">", "and": "or", "or": "and",
    "+": "-", "-": "+", "*": "+", "true": "false", "false": "true", "not": "", "nil": "false",
}  # fmt: skip

_WORDS = re.compile(
    r"""--[^\n]* | '(?:\\.|[^'\\])*' | \.\. | [~<>=]= | [A-Za-z_]\w* | \d+ | [-+*<>]""", re.VERBOSE
)


def _of_lua(text: str) -> Iterator[Edit]:
    """A word becomes its opposite, a number one more; a call that writes is left out."""
    for word in _WORDS.finditer(text):
        if word[0] in LUA:
            yield (*word.span(), LUA[word[0]])
        elif word[0].isdigit():
            yield (*word.span(), str(int(word[0]) + 1))
    for line in re.finditer(r"^ *((?:call|tools\.\w+|in_chunks)\(.*\))$", text, re.M):
        yield (*line.span(1), "do end")


def line_of(mutant: Mutant, text: str) -> str:
    """The line where the mutant is, as it was."""
    return text.splitlines()[mutant.line - 1].strip()
