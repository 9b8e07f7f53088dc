"""How a node says no: a status, a code and a message."""

from starlette.responses import Response

from fedmeta.govern.errors import Refused
from fedmeta.govern.server.json import to_json

STATUSES = {"malformed": 400, "too-large": 413}
"""The statuses of refusals that are about the bytes; every other refusal of a transaction has 422."""

_ABSENT = ("not-found", "unknown-member")


def problem(status: int, code: str, message: str, retry_after: int = 0) -> Response:
    """Return an answer with a problem; `retry_after` in seconds, 0 for none."""
    headers = {"retry-after": str(retry_after)} if retry_after else {}
    return Response(to_json({"code": code, "message": message}), status, headers=headers, media_type="application/json")


def refusal(error: Refused) -> Response:
    """Return an answer to a transaction that the ledger refuses."""
    return problem(STATUSES.get(error.code, 422), error.code, error.message)


def no_answer(error: Refused) -> Response:
    """Return an answer to a question that has none."""
    return problem(404 if error.code in _ABSENT else 400, error.code, error.message)
