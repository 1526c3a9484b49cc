"""The direction of dependency, read from the source: also what is imported inside a function or for type checking."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "model": {"model"},
    "scenarios": {"scenarios", "model"},
    "loadtest": {"loadtest", "scenarios", "model"},
    "reference_impl": {"reference_impl"},
}
ROOMS = ("uploads", "feed", "interactions", "search", "notifications")
# In the model a feature's words stay in its room, except where the rooms are put together.
SEES_ALL_ROOMS = {"model.platform", "model.live"}


def module_name(path: Path, root: Path = ROOT) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(source: str, module: str, is_package: bool = False) -> set[str]:
    """Dotted names that a module's source imports; for `from a import b` both a and a.b, as b may be a module."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                parts = module.split(".")
                package = parts[: len(parts) - node.level + is_package]
                origin = ".".join([*package, *([origin] if origin else [])])
            names.add(origin)
            names.update(f"{origin}.{alias.name}" for alias in node.names)
    return names


def modules_of(package: str) -> dict[str, set[str]]:
    """Module name → what it imports, of all modules of a package."""
    return {
        module_name(path): imports_of(path.read_text(), module_name(path), path.name == "__init__.py")
        for path in sorted((ROOT / package).rglob("*.py"))
    }


def room_of(name: str) -> str | None:
    """The room that a module of ours (or what is imported from it) belongs to."""
    parts = name.replace("model.live.", "model.", 1).split(".")  # each room of the live platform belongs to its room
    return parts[1] if len(parts) > 1 and parts[0] in MAY_IMPORT and parts[1] in ROOMS else None


def test_every_way_to_import_is_seen():
    source = """
import reference_impl.feed.workers as w
from model import feed
from . import interactions
from ..search import index
def late():
    if TYPE_CHECKING:
        from loadtest.uploads import begin
"""
    found = imports_of(source, "model.engines.plain")
    assert {"reference_impl.feed.workers", "model.feed", "model.engines.interactions", "model.search.index"} <= found
    assert "loadtest.uploads" in found
    assert "model.interactions" in imports_of("from . import interactions", "model", is_package=True)
    assert room_of("model.feed") == room_of("reference_impl.feed.workers.fan_out") == "feed"
    assert room_of("model.feed_costs") is room_of("model.network") is room_of("tests.feed") is None


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_packages_import_in_one_direction(package):
    modules = modules_of(package)
    assert modules, f"no modules in {package}/"
    wrong = {
        f"{module} imports {name}"
        for module, names in modules.items()
        for name in names
        if name.split(".")[0] in MAY_IMPORT.keys() - MAY_IMPORT[package]
    }
    assert wrong == set()


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_rooms_never_import_each_other(package):
    wrong = {
        f"{module} imports {name}"
        for module, names in modules_of(package).items()
        for name in names
        if room_of(module) and room_of(name) and room_of(name) != room_of(module)
    }
    assert wrong == set()


def test_in_the_model_only_the_platform_sees_the_rooms():
    wrong = {
        f"{module} imports {name}"
        for module, names in modules_of("model").items()
        for name in names
        if room_of(name) and not room_of(module) and module not in SEES_ALL_ROOMS
    }
    assert wrong == set()


def test_engines_know_the_vocabulary_and_not_the_platform():
    wrong = {
        f"{module} imports {name}"
        for module, names in modules_of("model").items()
        for name in names
        if module.startswith("model.engines") and name.startswith(("model.platform", "model.live", "model.scenario"))
    }
    assert wrong == set()
