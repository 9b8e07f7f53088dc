"""How a node says no: a status, a code and a message."""

from starlette.responses import Response

from fedmeta.govern.errors import Refused
from fedmeta.govern.http.shape import to_json

STATUSES = {"malformed": 400, "too-large": 413}
"""The statuses of refusals that are about the bytes; every other refusal has 422."""


def problem(status: int, code: str, message: str, retry_after: int = 0) -> Response:
    """Return an answer with a problem; `retry_after` in seconds, 0 for none."""
    headers = {"retry-after": str(retry_after)} if retry_after else {}
    return Response(to_json({"code": code, "message": message}), status, headers=headers, media_type="application/json")


def refusal(error: Refused) -> Response:
    """Return an answer for what the ledger refuses."""
    return problem(STATUSES.get(error.code, 422), error.code, error.message)
