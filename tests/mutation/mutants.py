"""Small faults planted in source text: what can go wrong in a line, and a seeded draw of them."""

import ast
import copy
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ["metrics", "search", "trainer"]

# Here numbers, sums and single calls are colours, sizes, places and strokes on a page: no test should hold them.
DRAWING = {
    "metrics/comparison/picture.py",
    "metrics/onset/plot.py",
    "metrics/onset/plot_behaviour.py",
    "metrics/onset/plot_page.py",
    "search/running/live_table.py",
    "search/verdict/charts.py",
    "search/verdict/front_picture.py",
    "search/verdict/sheet.py",
}
_SILENT = {"__repr__", "__str__"}
_WORDS = {"print", "warn", "warning", "info", "debug", "exception"}

_COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_COUNTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_OPPOSITE = {
    "min": "max",
    "max": "min",
    "any": "all",
    "all": "any",
    "minimum": "maximum",
    "maximum": "minimum",
    "argmin": "argmax",
    "argmax": "argmin",
}


@dataclass(frozen=True)
class Mutant:
    """One fault: `before` at [start, end) of the file's UTF-8 bytes becomes `after`."""

    path: str
    line: int
    kind: str
    before: str
    after: str
    start: int
    end: int
    statement: bool
    in_function: bool  # or it runs on import only

    @property
    def name(self) -> str:
        return f"{self.path}:{self.line}: {self.kind}: {self.before} -> {self.after}"

    def planted(self, source: str) -> str:
        """The file's text with the fault."""
        text = source.encode()
        return (text[: self.start] + self.after.encode() + text[self.end :]).decode()


def _with(node: ast.AST, **fields: object) -> ast.AST:
    other = copy.copy(node)
    for name, value in fields.items():
        setattr(other, name, value)
    return other


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str | bytes))


def _numbers(value: object, draw: random.Random) -> Iterator[ast.Constant]:
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int | float):
        steps = {0: [1], 1: [0, 2]}.get(value, [value - 1, value + 1])
        yield ast.Constant(draw.choice(steps))


def _changes(node: ast.AST, draw: random.Random, drawing: bool) -> Iterator[tuple[str, ast.AST]]:
    match node:
        case ast.Compare(ops=[first, *rest]):
            yield "comparison", _with(node, ops=[_COMPARED[type(first)](), *rest])
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _COUNTED:
            if not drawing and not _is_text(left) and not _is_text(right):
                yield "arithmetic", _with(node, op=_COUNTED[type(op)]())
        case ast.BoolOp(op=op):
            yield "and/or", _with(node, op=ast.Or() if isinstance(op, ast.And) else ast.And())
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield "not", operand
        case ast.UnaryOp(op=ast.USub(), operand=operand) if not drawing:
            yield "sign", operand
        case ast.Constant(value=value) if not drawing or isinstance(value, bool):
            yield from (("constant", other) for other in _numbers(value, draw))
        case ast.Return(value=ast.expr() as value):
            if not (isinstance(value, ast.Constant) and value.value is None):
                yield "return value", _with(node, value=ast.Constant(None))
        case ast.Raise():
            yield "raise dropped", ast.Pass()
        case ast.Continue():
            yield "loop", ast.Break()
        case ast.Break():
            yield "loop", ast.Continue()
        case ast.AugAssign() | ast.Expr(value=ast.Call()) | ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            if not drawing:
                yield "statement removed", ast.Pass()
        case ast.Call(func=ast.Name(id=called)) if called in _OPPOSITE:
            yield "opposite", _with(node, func=ast.Name(_OPPOSITE[called]))
        case ast.Call(func=ast.Attribute(attr=called) as func) if called in _OPPOSITE:
            yield "opposite", _with(node, func=_with(func, attr=_OPPOSITE[called]))
        case ast.Call(args=[ast.expr() as one, ast.expr() as two, *others]):
            if not isinstance(one, ast.Starred) and not isinstance(two, ast.Starred) and ast.dump(one) != ast.dump(two):
                yield "arguments swapped", _with(node, args=[two, one, *others])
    if isinstance(node, ast.If | ast.IfExp):
        yield "condition", _with(node, test=ast.Constant(draw.choice([True, False])))


def _spoken(node: ast.AST) -> bool:
    """Whether its inside is words for a reader."""
    if isinstance(node, ast.Raise | ast.JoinedStr):
        return True
    if not isinstance(node, ast.Call):
        return False
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return called in _WORDS


def _visited(node: ast.AST) -> Iterator[ast.AST]:
    """Depth first, without annotations, words, and what only runs for type checkers or as a command."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "type_params", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST):
                continue
            if isinstance(child, ast.FunctionDef) and child.name in _SILENT:
                continue
            if isinstance(child, ast.If) and ast.unparse(child.test).startswith(("__name__", "TYPE_CHECKING")):
                continue
            if isinstance(child, ast.Expr) and _spoken(child.value):
                continue  # nor is it removed
            yield child
            if not _spoken(child):
                yield from _visited(child)


def candidates(path: str, source: str, draw: random.Random) -> list[Mutant]:
    """All faults of a file, `path` being relative to the repository."""
    offsets = [0]
    for row in source.encode().splitlines(keepends=True):
        offsets.append(offsets[-1] + len(row))

    def place(node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return offsets[node.lineno - 1] + node.col_offset, offsets[node.end_lineno - 1] + node.end_col_offset

    tree = ast.parse(source)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.Lambda)]
    inside = {
        node
        for function in functions
        for part in (function.body if isinstance(function.body, list) else [function.body])
        for node in ast.walk(part)
    }
    found = []
    for node in _visited(tree):
        for kind, other in _changes(node, draw, path in DRAWING):
            at, now = node, other
            if isinstance(node, ast.If) and isinstance(other, ast.If):
                at, now = node.test, other.test  # not the whole block
            assert isinstance(at, ast.expr | ast.stmt)
            start, end = place(at)
            before = source.encode()[start:end].decode()
            after = ast.unparse(now)
            if isinstance(at, ast.expr) and not isinstance(now, ast.Constant | ast.Name):
                after = f"({after})"
            found.append(
                Mutant(path, at.lineno, kind, before, after, start, end, isinstance(at, ast.stmt), node in inside)
            )
    return found


def _code_lines(source: str) -> int:
    return len({node.lineno for node in ast.walk(ast.parse(source)) if isinstance(node, ast.stmt)})


def drawn(root: Path, number: int, seed: int) -> list[Mutant]:
    """`number` faults in `root`, in random order: each package by its lines of code, at most one fault to a line."""
    draw = random.Random(seed)
    files = {package: sorted((root / package).rglob("*.py")) for package in PACKAGES}
    lines = {package: sum(_code_lines(path.read_text()) for path in paths) for package, paths in files.items()}
    chosen: list[Mutant] = []
    for place, package in enumerate(PACKAGES):
        share = round(number * lines[package] / sum(lines.values()))
        if place == len(PACKAGES) - 1:
            share = number - len(chosen)
        by_line: dict[tuple[str, int], list[Mutant]] = {}
        for path in files[package]:
            name = path.relative_to(root).as_posix()
            for mutant in candidates(name, path.read_text(), draw):
                by_line.setdefault((name, mutant.line), []).append(mutant)
        chosen += [draw.choice(by_line[line]) for line in draw.sample(sorted(by_line), share)]
    draw.shuffle(chosen)
    return chosen
