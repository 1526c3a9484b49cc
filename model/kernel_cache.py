"""Machine code for the kernels that `kernel_compiler.py` has put into LLVM's words, and a cache of it that is never stale.

The cache's directory is named after a hash of every source that the machine code is made of, of LLVM's version and of the
processor: whoever edits one of them gets a new directory. A file's name says which kernel it is and which features it has. The
directory lies in the package's `__pycache__`, else in the user's cache directory; where neither can be written there is no cache,
and nothing fails.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import llvmlite
import llvmlite.binding as llvm

from model.kernel_compiler import Unit
from model.kernel_words import FLOAT, INT, WORD, Kind, Part, column_kind

Function = TypeVar("Function", bound=Callable[..., Any])

PACKAGE = Path(__file__).parent
SOURCES = (
    "kernel_cache.py",
    "kernel_compiler.py",
    "kernel_text.py",
    "kernel_words.py",
    "variates.py",
    "distributions.py",
    "tables.py",
    "recording.py",
    "engines/order.py",
    *sorted(f"engines/{path.name}" for path in (PACKAGE / "engines").glob("compiled*.py")),
)
_KINDS: Mapping[str, Kind] = {"i8": INT, "u8": WORD, "f8": FLOAT, "f8*": column_kind("f8")}
_SEEN_BY_PYTHON: Mapping[str, Any] = {
    "i8": ctypes.c_int64,
    "u8": ctypes.c_uint64,
    "f8": ctypes.c_double,
    "f8*": ctypes.c_void_p,
}
_LOADED: list[Any] = []  # machine code is there as long as its owner is


def part(function: Function) -> Function:
    """A function that only compiled functions call: a part of theirs, made into machine code together with them."""
    return cast(Function, Part(function))


def always(function: Function) -> Function:
    """A part on every request's way: it becomes part of the code of those who call it, however long it is."""
    return cast(Function, Part(function, "", "alwaysinline "))


def apart(function: Function) -> Function:
    """A long part on few requests' way: it stays out of the code of those who call it, which so stays short."""
    return cast(Function, Part(function, "", "noinline "))


def seldom(function: Function) -> Function:
    """A part that most networks never need: it stays apart, and leaves the registers to those who call it."""
    return cast(Function, Part(function, "preserve_mostcc ", "noinline cold "))


def sources_hash(package: Path = PACKAGE) -> str:
    """A hash of the texts that the machine code is made of, of LLVM's version and of the processor."""
    machine = f"{llvmlite.__version__} {llvm.get_host_cpu_name()} {llvm.get_host_cpu_features().flatten()}"
    digest = hashlib.blake2b(machine.encode(), digest_size=10)
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


@cache
def _initialise() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


def _target() -> Any:
    """This machine. Floats are rounded after every operation, as Python rounds them: nothing allows LLVM to fuse two.

    Without registers of 512 bits: the first of eight instants is found a twentieth faster in two halves.
    """
    _initialise()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten().replace("+avx512", "-avx512"),
        opt=2,
        reloc="static",
        codemodel="jitdefault",
        jit=True,
    )


def optimised(text: str) -> Any:
    """LLVM's module for this text, optimised."""
    target = _target()
    module = llvm.parse_assembly(text)
    module.triple, module.data_layout = llvm.get_default_triple(), str(target.target_data)
    # level 2 takes two to three times as long for a code that is at most a twentieth faster
    options = llvm.create_pipeline_tuning_options(speed_level=1)
    options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False
    builder = llvm.create_pass_builder(target, options)
    builder.getModulePassManager().run(module, builder)
    return module


def _object_code(name: str, unit: Callable[[], Unit], keep: bool) -> bytes:
    """From the cache, or made and put there."""
    directory = cache_directory() if keep else None
    file = None if directory is None else directory / f"{name}.o"
    if file is not None and file.exists():
        return file.read_bytes()
    made = bytes(_target().emit_object(optimised(unit().text())))
    if file is not None and directory is not None:
        unfinished = directory / f"{name}.{os.getpid()}"  # another process may be making the same
        unfinished.write_bytes(made)
        unfinished.replace(file)
    return made


def entries(
    name: str, functions: Mapping[Any, str], features: frozenset[str] = frozenset(), keep: bool = True
) -> tuple[Callable[..., Any], ...]:
    """Functions that Python can call, each with its signature, as in "f8(i8, u8)": the result, and what it is given.

    i8 and u8 are whole numbers with and without a sign, f8 a float, "f8*" the address of an array of floats. They are one piece of
    machine code, called `name` in the cache, which is left alone unless `keep`. Other threads run
    meanwhile.
    """
    signatures = {
        function: (result, [word.strip() for word in given.rstrip(")").split(",")])
        for function, (result, given) in ((function, text.split("(")) for function, text in functions.items())
    }

    def unit() -> Unit:
        made = Unit(features)
        for function, (result, given) in signatures.items():
            made.entry(
                f"entry_{function.function.__name__}", function, _KINDS[result], [_KINDS[each] for each in given]
            )
        return made

    code = llvm.ObjectFileRef.from_data(_object_code("-".join([name, *sorted(features)]), unit, keep))
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target())
    engine.add_object_file(code)
    engine.finalize_object()
    _LOADED.append(engine)
    return tuple(
        ctypes.CFUNCTYPE(_SEEN_BY_PYTHON[result], *(_SEEN_BY_PYTHON[each] for each in given))(
            engine.get_function_address(f"entry_{function.function.__name__}")
        )
        for function, (result, given) in signatures.items()
    )
