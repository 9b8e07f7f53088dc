"""What the rules of the ledger refuse, read from their code."""

import ast
import inspect
import textwrap
import types
from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from fedmeta.govern.errors import REFUSALS
from fedmeta.govern.rules.context import Context


def refusals(function: Callable[..., Any], skip: Iterable[Callable[..., Any]] = ()) -> set[str]:
    """Return the refusal codes that a function of the ledger, or what it calls, names; `skip` is not looked into."""
    found: set[str] = set()
    seen = {inspect.unwrap(one) for one in skip}
    waiting = [inspect.unwrap(function)]
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        for call in _calls(ast.parse(textwrap.dedent(inspect.getsource(one)))):
            if isinstance(call.func, ast.Name) and call.func.id == "Refused":
                constants = (node.value for node in ast.walk(call.args[0]) if isinstance(node, ast.Constant))
                found |= {value for value in constants if value in REFUSALS}
            else:
                waiting += _called(one, call.func)
    return found


def _calls(tree: ast.AST) -> list[ast.Call]:
    """Return the calls in a piece of code, without those whose refusals are caught around them."""
    caught: set[ast.AST] = set()
    for attempt in (node for node in ast.walk(tree) if isinstance(node, ast.Try)):
        if any(isinstance(one.type, ast.Name) and one.type.id == "Refused" for one in attempt.handlers):
            caught |= {inner for line in attempt.body for inner in ast.walk(line)}
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node not in caught]


def _called(caller: Any, func: ast.expr) -> list[Any]:
    """Return the function of the ledger that a call names, if it is one."""
    scope = caller.__globals__
    target = None
    if isinstance(func, ast.Name):
        target = scope.get(func.id)
    elif isinstance(func, ast.Attribute) and isinstance(func.value, ast.Name):
        own = scope.get(caller.__qualname__.split(".")[0])
        owner = {"context": Context, "self": own}.get(func.value.id, scope.get(func.value.id))
        if isinstance(owner, type | types.ModuleType):
            target = getattr(owner, func.attr, None)
    target = inspect.unwrap(target) if callable(target) else None
    known = isinstance(target, types.FunctionType) and target.__module__.startswith("fedmeta.govern")
    return [target] if known else []


def field_codes(cls: type) -> set[str]:
    """Return the codes with which a schema refuses a value of one of its fields."""
    found = set()
    for hint in (get_type_hints(cls, include_extras=True)[field.name] for field in fields(cls)):
        found |= {"bad-value"} if get_origin(hint) is not Annotated else {check.code for check in get_args(hint)[1:]}
    return found


def in_order(codes: Iterable[str]) -> list[str]:
    """Return codes in the order of the table of refusals."""
    return sorted(codes, key=list(REFUSALS).index)
