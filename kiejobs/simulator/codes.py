"""What Kie says with each body code and each failCode, as two literal tables.

The texts of 401, 422 and 429 are those seen in real answers; the others are plausible English for the documented
meaning. A client should go by the code, so nothing here may be relied on beyond that.
Source: docs.kie.ai/common-api/quickstart.md and market/common/get-task-detail.md.
"""

UNAUTHORIZED = 401
NO_CREDITS = 402
CONFLICT = 409
INVALID = 422
TOO_FAST = 429
UNREACHABLE = 451

REFUSALS = {
    400: "Bad request",
    401: "You do not have access permissions",
    402: "Credits insufficient: the current balance is not enough to run this request",
    404: "Not found",
    405: "Method not allowed",
    409: "A record for this audio already exists",
    413: "The prompt is too long, or the uploaded audio matches an existing work",
    422: "The request parameters failed validation",
    429: "Your call frequency is too high. Please try again later.",
    430: "Your call frequency is too high. Please try again later.",
    433: "The usage of this API key has reached its limit",
    451: "Failed to fetch the image. Kindly verify any access limits set by you or your service provider",
    455: "The service is currently undergoing maintenance",
    500: "Server exception, please try again later or contact customer service",
    501: "Generation failed",
    505: "This feature is currently disabled",
    550: "The connection was refused, the queue is full",
}

FAILURES = {
    "400": "Generation failed upstream, please try again later.",
    "408": "The upstream gave no result in time.",
    "422": "The input could not be used: please check the parameters.",
    "500": "Internal error, please try again later.",
    "501": "Generation failed.",
    "531": "Generation failed, your credits were returned.",
}

MODERATION = ("400", "Your request was flagged by the content policy. Please change the prompt and try again.")


def refusal_text(code: int) -> str:
    """The `msg` that goes with a refused call."""
    return REFUSALS.get(code, "Error")


def failure(code: str) -> tuple[str, str]:
    """failCode and failMsg of `[[fail=code]]`."""
    if code == "moderation":
        return MODERATION
    return code, FAILURES.get(code, "Generation failed.")
