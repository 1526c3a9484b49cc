"""Statements are constants and values are parameters: read from the source, so that no statement is ever built of what users say."""

import ast
from pathlib import Path

import pytest

import reference_impl

ROOT = Path(reference_impl.__file__).parent
RUN = {"execute", "executemany", "fetch", "fetchrow", "fetchval", "cursor", "prepare"}
"""Methods of asyncpg and psycopg2 that take a statement first; ``httpx`` and Redis have none of these with a text."""

ALLOWED = {
    # Names of our own tables and columns, and a number of our own: the grammar takes no parameters there.
    "f'SELECT count(*) FROM {table}'",
    "f\"SELECT {', '.join(columns)} FROM {table}\"",
    "f'SELECT {texts} FROM {table} WHERE id = $1'",
    "f\"TRUNCATE {', '.join(TABLES)}\"",
    "f'ALTER TABLE posts ALTER COLUMN id RESTART WITH {users * rounds + 1}'",
}


def built(node: ast.expr) -> bool:
    """Whether a statement is put together when it runs, rather than written down or named."""
    if isinstance(node, ast.Name | ast.Attribute):
        return False
    if isinstance(node, ast.Constant):
        return not isinstance(node.value, str)
    if isinstance(node, ast.BinOp | ast.IfExp):
        parts = [node.left, node.right] if isinstance(node, ast.BinOp) else [node.body, node.orelse]
        return (isinstance(node, ast.BinOp) and not isinstance(node.op, ast.Add)) or any(map(built, parts))
    return True


def names_bound_to_built(tree: ast.Module) -> set[str]:
    """Names that inside a function get a text put together with values; what a module puts together of its own is a constant."""
    return {
        target.id
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.JoinedStr | ast.BinOp | ast.Call)
        for target in node.targets
        if isinstance(target, ast.Name) and looks_like_sql(node.value)
    }


def looks_like_sql(node: ast.expr) -> bool:
    texts = " ".join(part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str))
    return any(word in texts for word in ("SELECT ", "INSERT ", "UPDATE ", "DELETE ", "TRUNCATE ", "ALTER ", "DROP "))


def suspicious(source: str) -> list[str]:
    """Statements in ``source`` that are put together when they run."""
    tree = ast.parse(source)
    bound = names_bound_to_built(tree)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in RUN and node.args:
            statement = node.args[0]
            if (built(statement) and looks_like_sql(statement)) or (
                isinstance(statement, ast.Name) and statement.id in bound
            ):
                found.append(ast.unparse(statement))
    return found


@pytest.mark.parametrize(
    "source",
    [
        'pool.fetch(f"SELECT id FROM users WHERE name = \'{name}\'")',
        'pool.fetch("SELECT id FROM users WHERE name = %s" % name)',
        'pool.fetch("SELECT id FROM users WHERE name = " + name())',
        'pool.fetch("SELECT id FROM users WHERE name = {}".format(name))',
        'def f(id):\n    sql = f"DELETE FROM likes WHERE id = {id}"\n    pool.execute(sql)',
    ],
)
def test_what_is_put_together_is_seen(source):
    assert suspicious(source)


def test_what_is_a_constant_is_not():
    assert suspicious('FIND = "SELECT 1"\npool.fetch(FIND, name)\npool.fetch("SELECT $1" + MORE, 5)\ncache.fetch(key)') == []


def test_every_statement_of_the_reference_is_a_constant():
    found = {
        f"{path.relative_to(ROOT)}: {statement}"
        for path in sorted(ROOT.rglob("*.py"))
        for statement in suspicious(path.read_text())
        if statement not in ALLOWED
    }
    assert found == set()
