"""Where functions and classes come from, and which names their code looks up."""

import dis
import functools
import os
import sys
import sysconfig
import types
from typing import Any, NamedTuple

_LIBRARIES = frozenset({"fedmeta", "jax", "jaxlib", "numpy", "optax", "flax", "equinox"})
_INSTALLED = tuple(sysconfig.get_path(kind) + os.sep for kind in ("stdlib", "platstdlib", "purelib", "platlib"))
_BY_NAME = frozenset(
    {"eval", "exec", "getattr", "globals", "locals", "vars", "__import__", "import_module", "attrgetter"}
)
"""Who calls one of these may reach a name that its code has as a text only."""
HEAP_TYPE = 1 << 9
"""The flag of a class that was made while the program runs, by a `class` statement for example."""


class Names(NamedTuple):
    """Names that code may look up: as globals, as attributes, as modules that it imports; each sorted."""

    read: tuple[str, ...]
    attributes: tuple[str, ...]
    imported: tuple[str, ...]


@functools.lru_cache(maxsize=4096)
def names_in(code: types.CodeType) -> Names:
    """Return the names that code and the code inside it may look up: globals, attributes, modules to be imported."""
    read, attributes, imported = set(), set(code.co_names), set()
    for step in dis.get_instructions(code):
        if step.opname == "IMPORT_NAME":
            imported.add(step.argval)
        elif "GLOBAL" in step.opname or step.opname.endswith("_NAME"):
            read.add(step.argval)
    if not _BY_NAME.isdisjoint(code.co_names):
        texts = {const for const in code.co_consts if isinstance(const, str) and const.isidentifier()}
        read, attributes = read | texts, attributes | texts
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            deeper = names_in(inner)
            read.update(deeper.read)
            attributes.update(deeper.attributes)
            imported.update(deeper.imported)
    return Names(tuple(sorted(read)), tuple(sorted(attributes)), tuple(sorted(imported)))


def imported(name: str, space: dict[str, Any]) -> list[types.ModuleType]:
    """Return the modules that an import of this name, absolute or relative, may mean in this namespace."""
    package = space.get("__package__") or ""
    parts = package.split(".") if package else []
    candidates = [name, *(".".join([*parts[:depth], name]).rstrip(".") for depth in range(len(parts), 0, -1))]
    return [sys.modules[one] for one in candidates if isinstance(sys.modules.get(one), types.ModuleType)]


def is_library(module: Any) -> bool:
    """Return whether a module's name is one of a package that is installed, and not of the user's own program."""
    if not isinstance(module, str):
        return False
    root = module.partition(".")[0]
    if root in _LIBRARIES:
        return True
    file = getattr(sys.modules.get(module), "__file__", None)
    if not isinstance(file, str):
        return root in sys.stdlib_module_names
    # By its place, not by its name: a user's own file may be called `statistics.py`.
    return (
        file.startswith(_INSTALLED)
        or f"{os.sep}site-packages{os.sep}" in file
        or f"{os.sep}dist-packages{os.sep}" in file
    )


def is_library_space(space: dict[str, Any]) -> bool:
    """Return whether a function's globals are those of a library's module."""
    name = space.get("__name__")
    module = sys.modules.get(name) if isinstance(name, str) else None
    return module is not None and vars(module) is space and is_library(name)


@functools.lru_cache(maxsize=1024)
def is_library_class(cls: type) -> bool:
    """Return whether a class is a library's."""
    # A class that was made by `exec` without a module's name says that it is of `builtins`.
    return is_library(cls.__module__) and not (cls.__module__ == "builtins" and cls.__flags__ & HEAP_TYPE)


def is_importable(value: Any) -> bool:
    """Return whether the value is what its own module and qualified name lead to."""
    module, path = own_attribute(value, "__module__"), own_attribute(value, "__qualname__")
    if not isinstance(path, str) or not is_library(module) or module not in sys.modules:
        return False
    here: Any = sys.modules[module]
    for part in path.split("."):
        try:
            here = vars(here)[part]
        except (KeyError, TypeError):
            return False
    return here is value


def own_attribute(value: Any, name: str) -> Any:
    """Return an attribute that the instance itself has, or None; a `__getattr__` is not asked."""
    try:
        return object.__getattribute__(value, name)
    except AttributeError:
        return None
