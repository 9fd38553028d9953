"""Errors in the form in which Google sends them."""

from typing import Any

# The word that a status goes with where there is no better one.
_USUAL = {
    400: "badRequest",
    401: "authError",
    403: "forbidden",
    404: "notFound",
    409: "fileIdInUse",
    416: "requestedRangeNotSatisfiable",
    429: "rateLimitExceeded",
    500: "backendError",
    502: "backendError",
    503: "backendError",
    504: "backendError",
}


class ApiError(Exception):
    """An answer that is an error."""

    def __init__(
        self,
        status: int,
        reason: str = "",
        message: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        """``reason`` is the word in ``errors[0].reason``."""
        self.status = status
        self.reason = reason or _USUAL.get(status, "badRequest")
        self.message = message or f"The request failed with {self.reason}."
        self.headers = headers or {}
        super().__init__(f"{status} {self.reason}: {self.message}")

    def body(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "error": {
                "code": self.status,
                "message": self.message,
                "errors": [
                    {"message": self.message, "domain": "global", "reason": self.reason},
                ],
            }
        }


def not_found(file_id: str) -> ApiError:
    """The answer for what is not there, or may not be seen."""
    return ApiError(404, "notFound", f"File not found: {file_id}.")
