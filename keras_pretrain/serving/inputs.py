"""Reads the body of a request within limits, and checks its texts."""

import json
from typing import Any

from starlette.requests import Request

MAX_CHARACTERS = 5_000  # limit for all texts of a request together
MAX_SENTENCES = 8
MAX_BYTES = 1 << 16  # limit for a body; a character outside of ASCII can take 12 bytes, because JSON may escape it


class InputError(ValueError):
    """An error in a request.

    Args:
      code: the name of the error, for which the page has a text of its own.
      message: what is wrong, and what to do.
      status: the HTTP status.
    """

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.status = code, status


async def read_body(request: Request) -> dict[str, Any]:
    """Read the JSON object that a request sends. Reading stops as soon as the body exceeds `MAX_BYTES`.

    Raises:
      InputError: the content type is not JSON, or the body is too large or not a JSON object.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise InputError("not_json", "The content type must be application/json.", 415)
    too_large = InputError("too_large", f"The request is larger than {MAX_BYTES:,} bytes: send a shorter text.", 413)
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > MAX_BYTES:
        raise too_large
    data = b""
    async for part in request.stream():
        data += part
        if len(data) > MAX_BYTES:
            raise too_large
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        raise InputError("not_json", "The request is no valid JSON.") from None
    if not isinstance(body, dict):
        raise InputError("not_json", 'The request must be a JSON object, such as {"text": "…"}.')
    return body


def texts_of(body: dict[str, Any], task: str) -> list[str]:
    """Return the texts of a request after checking them: several for `compare`, one or a pair for `classify`, else one.

    Raises:
      InputError: texts are missing, empty, too many or too long, or have no `[MASK]` to fill.
    """
    texts = body.get("texts") if task == "compare" else [body.get("text")]
    if task == "classify" and body.get("pair") is not None:
        texts = [body.get("text"), body["pair"]]
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        wanted = '"texts" must be a list of texts' if task == "compare" else '"text" must be a text'
        raise InputError("not_text", f"{wanted}.")
    if task == "compare" and not 2 <= len(texts) <= MAX_SENTENCES:
        raise InputError("count", f"Give 2 to {MAX_SENTENCES} sentences, not {len(texts)}.")
    if not all(text.strip() for text in texts):
        raise InputError("empty", "The text is empty. Write something first.")
    if sum(map(len, texts)) > MAX_CHARACTERS:
        raise InputError("too_long", f"The text is longer than {MAX_CHARACTERS:,} characters: shorten it.")
    if any("\ud800" <= character <= "\udfff" for text in texts for character in text):
        raise InputError("not_text", "The text has half of a surrogate pair, which is not a character.")
    if task == "fill" and "[MASK]" not in texts[0]:
        raise InputError("no_mask", "There is no gap in the text. Write [MASK] where the model shall fill in a word.")
    return texts
