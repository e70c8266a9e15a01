"""What a request may ask: its body, read within limits and checked."""

import json
from typing import Any

from starlette.requests import Request

MAX_CHARACTERS = 5_000  # of all texts of a request together
MAX_SENTENCES = 8
MAX_BYTES = 1 << 16  # of a body; characters outside of ASCII take up to 12 bytes where JSON escapes them


class InputError(ValueError):
    """What is wrong with a request.

    Args:
      code: by which the page finds its own words for the message.
      message: what is wrong, and what to do.
      status: of HTTP.
    """

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.status = code, status


async def read_body(request: Request) -> dict[str, Any]:
    """The JSON object that a request sends. Of a body that is too large, no more than `MAX_BYTES` are read.

    Raises:
      InputError: another type of content, a body that is too large or that is no JSON object.
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
    """The texts of a request, checked: one, or for `classify` perhaps a pair, or for `compare` several.

    Raises:
      InputError: texts that are missing, empty, too many or too long, or that have no `[MASK]` to fill.
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
