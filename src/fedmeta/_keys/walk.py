"""The walk over a value from which its key is made."""

import array
import collections
import dataclasses
import functools
import hashlib
import pathlib
import sys
import types
from collections.abc import Hashable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from fedmeta._keys.origins import (
    HEAP_TYPE,
    imported,
    is_importable,
    is_library,
    is_library_class,
    is_library_space,
    names_in,
    own_attribute,
)

_PLAIN = frozenset({type(None), bool, int, str, bytes, type(Ellipsis), type(NotImplemented)})
_SCALARS = _PLAIN | {float, complex}
_COMPARABLE = (np.dtype, jax.sharding.Mesh, jax.sharding.Sharding, jax.sharding.PartitionSpec, pathlib.PurePath)
"""Types whose own == tells apart all that computes differently."""
_CONTAINERS = (tuple, list, dict, set, frozenset, collections.deque)
_WRAPPERS = (jax.custom_jvp, jax.custom_vjp, jax.custom_batching.custom_vmap)
_NAMESPACES = frozenset({("types", "SimpleNamespace"), ("argparse", "Namespace")})
_RESTLESS = frozenset(
    {"_abc", "_io", "_thread", "abc", "asyncio", "concurrent", "importlib", "io", "logging", "multiprocessing", "queue"}
    | {"socket", "subprocess", "tempfile", "threading", "typing", "unittest", "weakref", "zipimport"}
)
"""Packages of loggers, locks, streams: the state of such objects is large, ever changing, and no configuration."""
_CLASS_NOISE = frozenset(
    {"__abstractmethods__", "__annotations__", "__annotate__", "__annotate_func__", "__annotations_cache__", "__doc__"}
    | {"__dataclass_fields__", "__dataclass_params__", "__dict__", "__firstlineno__", "__match_args__", "__module__"}
    | {"__orig_bases__", "__parameters__", "__qualname__", "__static_attributes__", "__weakref__", "_abc_impl"}
)
"""What a class has besides its methods and attributes."""
_ABSENT = ("absent",)


def value_key(value: Any) -> Hashable:
    """Return a key that is equal for two values only where they compute the same, as they are at this moment.

    By value: numbers (1, 1.0 and True are three things, and so are 0.0 and -0.0; NaN is itself), texts, tuples, lists,
    dicts and sets in their order, dataclasses, registered pytree nodes of libraries, `functools.partial`, bound
    methods, arrays and PRNG keys (dtype, shape, bytes), jitted functions (what they wrap, and the static arguments),
    and functions: their code, defaults, attributes, what they have captured, and the globals and attributes of modules
    that they name, followed through all functions and classes that no library brings. A library's own functions and
    classes are what they are by identity.

    Everything else is by identity, and held by the key, so that its id is not used again; what can be read of its
    state belongs to the key too, so that a changed configuration is another one.

    A miss costs a compilation; a false hit would be a wrong result. Four ways to one remain, all of which mislead
    `jax.jit` too: changing in place what an object written in C, or an installed package, keeps inside; looking up a
    name that is put together while the program runs; telling a function from another that is alike by `is`; and a
    function that was jitted by itself, and traced, before a global changed that it names. JAX's settings (precision,
    x64) are not part of the key. A function that changes what it has captured whenever it is traced is never found
    again.
    """
    walk = _Walk()
    try:
        root = walk.ref(value)
    except RecursionError:
        # Too deep to be looked at whole: equal to nothing but itself.
        lost = object()
        return _Key(("deep", id(lost)), (lost,))
    return _Key((root, *walk.terms), tuple(walk.held))


class _Key:
    """The terms of a value, and what is held so that the ids among them stay its own."""

    __slots__ = ("_hash", "_held", "_terms")

    def __init__(self, terms: tuple[Any, ...], held: tuple[Any, ...]):
        self._terms, self._held, self._hash = terms, held, hash(terms)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self._hash == other._hash and self._terms == other._terms

    def __hash__(self) -> int:
        return self._hash


class _Seen:
    """A value that the walk has met: where it stands in the order of visits, and its term once that is closed."""

    __slots__ = ("number", "size", "term", "value")

    def __init__(self, value: Any, number: int):
        self.value, self.number, self.size = value, number, 0
        self.term: int | None = None


class _Walk:
    """One pass over a value, as a graph: each object is looked at once, so the time is linear in what is reached.

    A term is a tuple; where it has a child, there is either the child's own plain term, or the place of its term in the
    list of all. Equal terms share a place, so it does not matter whether a part that occurs twice is one object or two.
    An object that is met again while its own term is unfinished (recursion) is named by how many visits ago it came.
    """

    def __init__(self):
        self.terms: dict[tuple[Any, ...], int] = {}
        self.held: list[Any] = []
        self._seen: dict[int, _Seen] = {}
        self._count = 0
        self._oldest: float = float("inf")

    def ref(self, value: Any) -> Any:
        """Return what stands for a value inside another term."""
        kind = type(value)
        if kind in _PLAIN:
            return kind, value
        short = _short_form(kind)
        term = None if short is None else getattr(self, short)(value)
        return self._node(value) if term is None else term

    def place(self, term: tuple[Any, ...]) -> int:
        return self.terms.setdefault(term, len(self.terms))

    def identity(self, word: str, value: Any) -> tuple[str, int]:
        self.held.append(value)
        return word, id(value)

    def _node(self, value: Any) -> Any:
        seen = self._seen.get(id(value))
        if seen is None:
            seen = self._seen[id(value)] = _Seen(value, self._count)
        elif seen.term is not None:
            self._count += seen.size  # as if it were visited anew, so that later distances do not tell the difference
            return seen.term
        else:
            self._oldest = min(self._oldest, seen.number)
            return "again", self._count - seen.number
        self._count += 1
        outer, self._oldest = self._oldest, float("inf")
        term = self.place(getattr(self, _form(type(value)))(value))
        if self._oldest >= seen.number:
            seen.term, seen.size = term, self._count - seen.number
            self._oldest = outer
        else:
            self._oldest = min(outer, self._oldest)
        return term

    def _number(self, value: Any) -> Any:
        return type(value), np.asarray(value).tobytes()

    def _comparable(self, value: Any) -> Any:
        return type(value), value

    def _library_class(self, value: Any) -> Any:
        return self.identity("class", value) if is_library_class(value) else None

    def _lone_module(self, value: Any) -> Any:
        return self.place(self._module(value, (), set()))

    def _array(self, value: Any) -> Any:
        """Return a term of what bytes tell in full, else None."""
        if isinstance(value, jax.Array):
            if isinstance(value, Tracer) or not value.is_fully_addressable or value.is_deleted():
                return self.identity("array", value)
            kept = ("jax", value.dtype, getattr(value, "weak_type", False), value.sharding if value.committed else None)
            if not isinstance(value.dtype, np.dtype):
                if not jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
                    return self.identity("array", value)
                with jax.ensure_compile_time_eval():
                    value = jax.random.key_data(value)
            return *kept, value.shape, _digest(np.asarray(value))
        if value.dtype.hasobject or (isinstance(value, np.ndarray) and type(value) not in (np.ndarray, np.memmap)):
            return None
        word = "numpy" if isinstance(value, np.ndarray) else "scalar"
        return word, value.dtype, value.shape, _digest(np.asarray(value))

    def _odd_array(self, value: np.ndarray) -> tuple[Any, ...]:
        if value.dtype.hasobject:
            content: Any = self.ref(np.asarray(value).tolist())
        else:
            content = _digest(np.asarray(value))
        return *self.identity("array", value), value.dtype, value.shape, content, self._state(value)

    def _function(self, function: types.FunctionType) -> tuple[Any, ...]:
        space = function.__globals__
        library = is_library_space(space)
        if library and is_importable(function):
            return self.identity("named", function)
        if library and space["__name__"] == "jaxtyping._decorator" and "__wrapped__" in function.__dict__:
            # Which wraps a function in checks that are written anew each time, and change no result.
            return "checked", self.ref(function.__dict__["__wrapped__"])
        code = function.__code__
        names = names_in(code)
        modules: set[int] = set()

        def look(value: Any) -> Any:
            if isinstance(value, types.ModuleType):
                return self.place(self._module(value, names.attributes, modules))
            return self.ref(value)

        def cell(one: types.CellType) -> Any:
            try:
                return look(one.cell_contents)
            except ValueError:
                return _ABSENT

        captured = tuple(cell(one) for one in function.__closure__ or ())
        defaults = tuple(map(look, function.__defaults__ or ()))
        keywords = tuple((name, look(one)) for name, one in (function.__kwdefaults__ or {}).items())
        attributes = tuple(self._items(function.__dict__)) if function.__dict__ else ()
        term = ("function", code, captured, defaults, keywords, attributes)
        if library:
            return term
        found = [(name, look(space[name])) for name in names.read if name in space]
        found += [(name, look(one)) for name in names.imported for one in imported(name, space)]
        builtins = space.get("__builtins__")
        if builtins is not None and builtins not in (sys.modules["builtins"], vars(sys.modules["builtins"])):
            found.append(("__builtins__", self.ref(builtins)))
        return *term, tuple(found)

    def _module(self, module: types.ModuleType, attributes: tuple[str, ...], met: set[int]) -> tuple[Any, ...]:
        """Return a module's term: itself, and those of its attributes that the code at hand may read."""
        own = self.identity("module", module)
        if id(module) in met:
            return own
        met.add(id(module))
        space = vars(module)
        found = []
        for name in attributes:
            if name in space:
                one = space[name]
                inner = self._module(one, attributes, met) if isinstance(one, types.ModuleType) else None
                found.append((name, self.ref(one) if inner is None else self.place(inner)))
        if not is_library(module.__name__):
            # Who is handed the whole module may read what the code at hand does not name.
            plain = ((name, one) for name, one in sorted(space.items()) if type(one) in _SCALARS)
            found += [(name, self.ref(one)) for name, one in plain if not name.startswith("__")]
            found.append(("__getattr__", self.ref(space.get("__getattr__"))))
        return *own, tuple(found)

    def _class(self, cls: type) -> tuple[Any, ...]:
        own = [(name, self.ref(one)) for name, one in vars(cls).items() if name not in _CLASS_NOISE]
        return *self.identity("class", cls), self.ref(type(cls)), tuple(map(self.ref, cls.__mro__[1:])), tuple(own)

    def _method(self, value: Any) -> tuple[Any, ...]:
        return "method", self.ref(value.__func__), self.ref(value.__self__)

    def _sequence(self, value: Any) -> tuple[Any, ...]:
        return type(value), *map(self.ref, value)  # sets too: a program that runs over them depends on their order

    def _mapping(self, value: Any) -> tuple[Any, ...]:
        return type(value), *self._items(value)

    def _partial(self, value: Any) -> tuple[Any, ...]:
        parts = type(value), value.func, value.args, value.keywords
        return *map(self.ref, parts), self._state(value)

    def _builtin(self, value: Any) -> tuple[Any, ...]:
        kind = type(value)
        if kind is property:
            return kind, self.ref(value.fget), self.ref(value.fset), self.ref(value.fdel)
        if kind in (staticmethod, classmethod):
            return kind, self.ref(value.__func__)
        if kind in (range, slice):
            return kind, self.ref(value.start), self.ref(value.stop), self.ref(value.step)
        if kind is bytearray:
            return kind, bytes(value)
        if kind is types.BuiltinMethodType and not isinstance(value.__self__, types.ModuleType | None):
            return kind, value.__name__, self.ref(value.__self__)
        return self.identity("object", value)

    def _container(self, value: Any) -> tuple[Any, ...]:
        """Return the term of an instance of a container's subclass, such as a named tuple."""
        if isinstance(value, dict):
            extra = value.default_factory if isinstance(value, collections.defaultdict) else None
            pairs: Any = collections.OrderedDict if isinstance(value, collections.OrderedDict) else dict
            content = [(self.ref(key), self.ref(one)) for key, one in pairs.items(value)]
        else:
            extra = value.maxlen if isinstance(value, collections.deque) else None
            own: Any = next(base for base in _CONTAINERS if isinstance(value, base))
            content = [self.ref(one) for one in own.__iter__(value)]
        return self.ref(type(value)), tuple(content), self.ref(extra), self._state(value)

    def _dataclass(self, value: Any) -> tuple[Any, ...]:
        names = [field.name for field in dataclasses.fields(value)]
        fields = tuple((name, self.ref(getattr(value, name)) if hasattr(value, name) else _ABSENT) for name in names)
        return self.ref(type(value)), fields, self._state(value, frozenset(names))

    def _instance(self, value: Any) -> tuple[Any, ...]:
        kind = type(value)
        library = is_library_class(kind)
        if library and is_importable(value):
            return self.identity("named", value)
        if isinstance(value, array.array):
            return "array.array", value.typecode, value.tobytes()
        if kind.__module__ == "jaxlib._jax" and (settings := own_attribute(value, "_jit_info")) is not None:
            options = [getattr(settings, name) for name in settings._fields if not name.startswith("fun_")]
            return "jitted", self.ref(value.__wrapped__), *map(self.ref, options)
        if isinstance(value, jax.tree_util.PyTreeDef):
            return "treedef", self.ref(value.node_data()), *map(self.ref, value.children())
        if (kind.__module__, kind.__qualname__) in _NAMESPACES or isinstance(value, _WRAPPERS) or _is_a_value(kind):
            return self.ref(kind), self._state(value)
        if library and kind.__module__.partition(".")[0] in _RESTLESS:
            return self.identity("object", value)
        if library and (flat := jax.tree_util.default_registry.flatten_one_level(value)) is not None:
            return self.ref(kind), "pytree", self.ref(list(flat[0])), self.ref(flat[1])
        wrapped = self.ref(own_attribute(value, "__wrapped__"))
        return *self.identity("object", value), self.ref(kind), wrapped, self._state(value)

    def _state(self, value: Any, without: frozenset[str] = frozenset()) -> tuple[Any, ...]:
        """Return the attributes of an instance, in `__dict__` and in slots."""
        kind = type(value)
        found = [(name, _slot(value, slot)) for name, slot in _slots(kind)]
        found += (own_attribute(value, "__dict__") or {}).items()
        if is_library_class(kind):
            # Nothing but a copy of what follows from the rest.
            found = [one for one in found if not isinstance(vars(kind).get(one[0]), functools.cached_property)]
        return tuple((name, self.ref(one)) for name, one in found if name not in without)

    def _items(self, pairs: Any) -> list[tuple[Any, Any]]:
        return [(self.ref(key), self.ref(one)) for key, one in pairs.items()]


@functools.lru_cache(maxsize=1024)
def _short_form(kind: type) -> str | None:
    """Return the method for a kind of value whose term may stand inside others, else None."""
    if kind in (float, complex):
        return "_number"
    if issubclass(kind, np.ndarray | np.generic | jax.Array | Tracer):
        return "_array"
    if issubclass(kind, type):
        return "_library_class"
    if issubclass(kind, types.ModuleType):
        return "_lone_module"
    return "_comparable" if issubclass(kind, _COMPARABLE) else None


@functools.lru_cache(maxsize=1024)
def _form(kind: type) -> str:
    """Return the method that looks at a kind of value."""
    exact = {
        types.FunctionType: "_function",
        types.MethodType: "_method",
        dict: "_mapping",
        types.MappingProxyType: "_mapping",
        **dict.fromkeys((tuple, list, set, frozenset), "_sequence"),
    }
    if kind in exact:
        return exact[kind]
    if issubclass(kind, type):
        return "_class"
    if issubclass(kind, np.ndarray | np.generic):
        return "_odd_array"
    if kind.__module__ == "builtins" and is_library_class(kind):
        return "_builtin"
    if issubclass(kind, functools.partial):
        return "_partial"
    if issubclass(kind, _CONTAINERS):
        return "_container"
    return "_dataclass" if dataclasses.is_dataclass(kind) else "_instance"


@functools.lru_cache(maxsize=1024)
def _slots(kind: type) -> tuple[tuple[str, Any], ...]:
    slotted = [vars(cls) for cls in kind.__mro__ if "__slots__" in vars(cls)]
    return tuple(one for own in slotted for one in own.items() if isinstance(one[1], types.MemberDescriptorType))


def _slot(value: Any, slot: Any) -> Any:
    try:
        return slot.__get__(value)
    except AttributeError:
        return _ABSENT


@functools.lru_cache(maxsize=1024)
def _is_a_value(kind: type) -> bool:
    """Return whether instances say that identity does not matter (== and hash of their own) and hide nothing in C."""
    if kind.__eq__ is object.__eq__ or kind.__hash__ in (object.__hash__, None):
        return False
    return all(cls is object or (cls.__flags__ & HEAP_TYPE and _is_written_in_python(cls)) for cls in kind.__mro__)


def _is_written_in_python(cls: type) -> bool:
    new = vars(cls).get("__new__")
    return not isinstance(new, types.BuiltinFunctionType) and "__module__" in vars(cls)


def _digest(array: np.ndarray) -> bytes:
    flat: Any = np.ascontiguousarray(array).reshape(-1).view(np.uint8) if array.nbytes else b""
    return hashlib.sha256(flat).digest()
