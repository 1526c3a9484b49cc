"""Compilation with Numba, and a cache of machine code that is never stale.

Numba keeps one cache per function and looks only at the file that holds it, so that a function goes on calling the old code of
another file. Here the name of the cache's directory holds a hash of every source the machine code is made of: whoever edits one
of them gets a new directory. It lies in the package's `__pycache__`, else in the user's cache directory; where neither can be
written there is no cache, and nothing fails.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core import caching, typed_passes, types, untyped_passes
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase
from numba.core.compiler_machinery import PassManager
from numba.core.registry import CPUDispatcher, cpu_target
from numba.core.runtime.nrt import rtsys

Function = TypeVar("Function", bound=Callable[..., Any])

PACKAGE = Path(__file__).parent
SOURCES = (
    "kernel_cache.py",
    "variates.py",
    "distributions.py",
    "tables.py",
    "recording.py",
    "engines/order.py",
    *sorted(f"engines/{path.name}" for path in (PACKAGE / "engines").glob("compiled*.py")),
)


def sources_hash(package: Path = PACKAGE) -> str:
    """A hash of the texts that the machine code is made of, and of Numba's version."""
    digest = hashlib.blake2b(numba.__version__.encode(), digest_size=10)
    for name in SOURCES:
        digest.update(name.encode() + b"\0" + (package / name).read_bytes() + b"\0")
    return digest.hexdigest()


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "flashcrowd"


@cache
def cache_directory() -> Path | None:
    """Where the machine code is kept, made and tried; None where nothing can be written."""
    for parent in (PACKAGE / "__pycache__", _user_cache()):
        directory = parent / f"compiled-{sources_hash()}"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=directory):
                return directory
        except (OSError, RuntimeError):
            continue
    return None


class _Locator(caching._CacheLocator):
    """Tells Numba's cache which directory to use; the directory's name stands for the sources."""

    def __init__(self, directory: Path, function: Callable[..., Any]) -> None:
        self._directory, self._line = directory, function.__code__.co_firstlineno

    def get_cache_path(self) -> str:
        return str(self._directory)

    def get_source_stamp(self) -> str:
        return self._directory.name

    def get_disambiguator(self) -> str:
        return str(self._line)

    @classmethod
    def from_function(cls, function: Callable[..., Any], _file: str) -> _Locator | None:
        directory = cache_directory()
        return None if directory is None else cls(directory, function)


class _Results(caching.CompileResultCacheImpl):
    _locator_classes = (_Locator,)


class _Cache(caching.FunctionCache):
    _impl_class = _Results

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Load machine code as it is. Numba would first register all it can compile, SciPy's linear algebra included."""
        rtsys.initialize(target_context)
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)


class _PartLibrary(JITCodeLibrary):
    """The machine code of a part: none. It is kept as LLVM's text until an entry takes it in and optimises the whole.

    Numba would optimise and load every function anew with all that it calls, eight times the work for a kernel of a hundred.
    """

    @property
    def codegen(self) -> Any:
        return _NothingLoaded()

    def add_llvm_module(self, module: Any) -> None:
        """Take in what was written, as it is."""
        self._final_module.link_in(module)

    def finalize(self) -> None:
        """Nothing is done before an entry is whole."""
        self._finalized = True

    def get_pointer_to_function(self, _name: str) -> int:
        self._ensure_finalized()
        return 0


_SELDOM: set[str] = set()  # names of parts that are not to be inlined


class _EntryLibrary(JITCodeLibrary):
    """The machine code of an entry with all its parts, each of them once.

    Nobody else calls the parts ("internal linkage"), so LLVM may inline what is called in one place, however long it is.
    """

    _linking_libraries: list[Any]

    def add_llvm_module(self, module: Any) -> None:
        """Take in what was written, as it is."""
        self._final_module.link_in(module)

    def finalize(self) -> None:
        """Take in the parts and the parts' parts, then go on as Numba does."""
        own = {function.name for function in self.final_functions()}
        parts: dict[Any, None] = dict.fromkeys(self._linking_libraries)
        waiting = list(parts)
        while waiting:
            for library in waiting.pop()._linking_libraries:
                if library not in parts:
                    parts[library] = None
                    waiting.append(library)
        for library in parts:
            self._final_module.link_in(library._final_module, preserve=True)
        for function in self.final_functions():
            if function.name not in own:
                function.linkage = "internal"
                if any(f"{len(name)}{name}B" in function.name for name in _SELDOM):
                    function.add_function_attribute("noinline")
                    function.add_function_attribute("cold")
        self._linking_libraries = []
        super().finalize()

    def final_functions(self) -> list[Any]:
        """The functions that are defined here."""
        return [function for function in self._final_module.functions if not function.is_declaration]

    def _optimize_final_module(self) -> None:
        """Once, in full; Numba's cheap pass before it is for reference counts, of which there are none."""
        manager, builder = self._codegen._module_pass_manager()
        manager.run(self._final_module, builder)


class _NothingLoaded:
    """What a part's library says of where it is loaded."""

    def set_env(self, _name: str, _environment: object) -> None:
        """Parts raise nothing, so they need no environment."""


@contextmanager
def _parts_within(function: Callable[..., Any]) -> Iterator[None]:
    """Whatever is compiled meanwhile, `function` apart, is a part of it."""
    codegen = cpu_target.target_context.codegen()

    def create(name: str, **options: Any) -> Any:
        library = _EntryLibrary if name == function.__qualname__ else _PartLibrary
        return library(codegen, name, **options)

    codegen.create_library = create
    try:
        yield
    finally:
        del codegen.create_library


class _Compiler(CompilerBase):
    """Numba's compiler with the passes that plain numbers and rows need; those for closures, lists, raises and more take time."""

    _PASSES = (
        untyped_passes.TranslateByteCode,
        untyped_passes.FixupArgs,
        untyped_passes.IRProcessing,
        untyped_passes.ReconstructSSA,
        typed_passes.NopythonTypeInference,
        typed_passes.PreLowerStripPhis,
        typed_passes.IRLegalization,
        typed_passes.NativeLowering,
        typed_passes.NoPythonBackend,
    )

    def define_pipelines(self) -> list[PassManager]:
        """One pipeline."""
        passes = PassManager("kernel")
        for each in self._PASSES:
            passes.add_pass(each, each.__name__)
        passes.finalize()
        return [passes]


def entry(signature: str) -> Callable[[Function], Function]:
    """A function that Python calls, compiled for these types alone and cached. It lets other threads run meanwhile."""

    def compile_for_signature(function: Function) -> Function:
        dispatcher = numba.njit(error_model="numpy", nogil=True, pipeline_class=_Compiler)(function)
        if cache_directory() is not None:
            dispatcher._cache = _Cache(function)
        with _parts_within(function):
            dispatcher.compile(signature)
        dispatcher.disable_compile()
        return cast(Function, dispatcher)

    return compile_for_signature


class _Part(CPUDispatcher):
    """A function that compiled functions call."""

    def __init__(self, function: Callable[..., Any]) -> None:
        options = {"nopython": True, "error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
        super().__init__(function, targetoptions=options, pipeline_class=_Compiler)
        self._for_python: Callable[..., Any] | None = None

    def get_call_template(self, arguments: Any, keywords: Any) -> Any:
        """Compile once for all whole numbers; Numba would make one more for each constant, and for each truth value."""
        wide = [types.int64 if isinstance(kind, (types.IntegerLiteral, types.Boolean)) else kind for kind in arguments]
        return super().get_call_template(wide, keywords)

    def __call__(self, *arguments: Any) -> Any:
        """From Python, for tests: compiled anew, with a way in."""
        if self._for_python is None:
            self._for_python = numba.njit(error_model="numpy")(self.py_func)
        return self._for_python(*arguments)


def part(function: Function) -> Function:
    """A function that only compiled functions call: a part of theirs, made into machine code together with them."""
    return cast(Function, _Part(function))


def seldom(function: Function) -> Function:
    """A part that most networks never need: it stays out of the code of those who call it, which so stays short."""
    _SELDOM.add(function.__name__)
    return part(function)
