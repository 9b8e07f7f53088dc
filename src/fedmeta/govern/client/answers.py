"""What a node's answers say: a value, or a no that becomes an exception."""

import json
from typing import Any, TypeVar

import httpx

from fedmeta.govern.errors import REFUSALS, NodeBusy, NodeError, Refused

REFUSED = (400, 404, 413, 422)
"""What is no for good."""

NOT_NOW = (429, 502, 503, 504)
"""What may be otherwise later."""

T = TypeVar("T")


class Answers:
    """Reads the answers of one node; raises `NodeError` for what no node would say.

    Args:
        node: Its address, for messages.
        timeout: Seconds that it has, for messages.
    """

    def __init__(self, node: str, timeout: int):
        self._node = node
        self._timeout = timeout

    def value(self, answer: httpx.Response) -> Any:
        """Return what an answer holds, or raise what it says."""
        if not answer.is_error:
            return self.json(answer.text)
        code, message = self.problem(answer) or ("", "")
        if answer.status_code in REFUSED and code in REFUSALS:
            raise Refused(code, message)
        wait = answer.headers.get("retry-after", "")
        if answer.status_code in NOT_NOW and wait.isascii() and wait.isdecimal():
            raise NodeBusy(self.no(answer), int(wait[:6]))
        raise NodeError(self.no(answer))

    def no(self, answer: httpx.Response) -> str:
        """Return what a node's no says, in a line."""
        found = self.problem(answer)
        if found is None:
            return f"{self._node} answers {answer.status_code} to {answer.request.url.path}: {answer.text[:60]!r}"
        return f"{self._node}: {found[1]}"

    def problem(self, answer: httpx.Response) -> tuple[str, str] | None:
        """Return code and message of a node's no, or None if it is not a node's."""
        try:
            value = json.loads(answer.text)
        except (ValueError, RecursionError):
            return None
        code, message = (value.get("code"), value.get("message")) if isinstance(value, dict) else (None, None)
        return (code, message) if isinstance(code, str) and isinstance(message, str) else None

    def json(self, text: str) -> Any:
        """Return what a text holds, which must be JSON."""
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise NodeError(f"{self._node} does not answer as a node does: {text[:60]!r} is not JSON") from error

    def part(self, value: Any, name: str, kind: type[T]) -> T:
        """Return a part of an answer, which must be a map with a value of this type under that name."""
        found = value.get(name) if isinstance(value, dict) else None
        if type(found) is not kind:
            raise NodeError(f"{self._node} does not answer as a node does: {str(value)[:60]!r} has no {name}")
        return found

    def unreachable(self, error: Exception) -> str:
        """Return why there is no answer, in a line."""
        if isinstance(error, httpx.TimeoutException):
            return f"{self._node} gave no answer within {self._timeout} seconds"
        return f"{self._node} cannot be reached: {error or type(error).__name__}"
