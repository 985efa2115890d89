"""Kie's file upload API: hands Kie a file and gets the URL under which a generation can name it, for three days.

Three ways, by size: small files as base64 inside JSON, larger ones as a streamed form, and files that lie under a public
URL by that URL, which Kie fetches itself. The file's name must be new each time: under an old one a stale copy may be
served. Uploading costs nothing. Source: https://docs.kie.ai/file-upload-api/quickstart; answers as observed.
"""

import base64
import uuid
from collections.abc import Iterator

from kiejobs.answers import Scope
from kiejobs.errors import KieRefused, KieUnavailable
from kiejobs.kie.client import KieClient, Stream
from kiejobs.kie.envelope import REFUSALS, Envelope
from kiejobs.kie.family import Call
from kiejobs.kie.reading import mapping, texts

LIVES_S = 3 * 86400.0
"""How long Kie keeps an uploaded file."""

BASE64_BYTES = 1024 * 1024
"""Up to this size a file is sent inside JSON; Kie advises this way for small files only."""

FETCH_BYTES = 100 * 1024 * 1024
"""The largest file that Kie fetches by its URL."""

FETCH_S = 60.0
"""Kie gives up fetching after 30 seconds: whoever waits for that needs to wait no longer."""

FOLDER = "kiejobs"


def upload(client: KieClient, content: Stream, *, extension: str, media_type: str, timeout_s: float) -> str:
    """Send a file and return its URL. `client` leads to the upload host. KieUnavailable, KieRefused."""
    name = f"{uuid.uuid4()}.{extension}"
    if len(content) <= BASE64_BYTES:
        return _url(client.send(_as_base64(content, name, media_type), timeout_s=timeout_s))
    form = _Form(content, name, media_type)
    sent = client.send(
        Call("POST", "/api/file-stream-upload"), payload=form, content_type=form.content_type, timeout_s=timeout_s
    )
    return _url(sent)


def fetch(client: KieClient, url: str, *, extension: str, timeout_s: float) -> str | None:
    """Let Kie fetch a file of at most FETCH_BYTES from a public URL; None where it does not. KieThrottled.

    Whatever the reason: a server that Kie finds too slow is answered like a fault of Kie's own, again and again, while
    sending the bytes works. Where Kie is away altogether, that says so.
    """
    body = {"fileUrl": url, "uploadPath": FOLDER, "fileName": f"{uuid.uuid4()}.{extension}"}
    try:
        call = Call("POST", "/api/file-url-upload", body=body)
        return _url(client.send(call, timeout_s=min(timeout_s, FETCH_S)))
    except (KieRefused, KieUnavailable):
        return None


def _as_base64(content: Stream, name: str, media_type: str) -> Call:
    data = base64.b64encode(b"".join(content)).decode()
    body = {"base64Data": f"data:{media_type};base64,{data}", "uploadPath": FOLDER, "fileName": name}
    return Call("POST", "/api/file-base64-upload", body=body)


def _url(answer: Envelope) -> str:
    """Read `data.downloadUrl`; a quickstart page also names `fileUrl`, which was never observed."""
    data = mapping(answer.data)
    found = texts([data.get("downloadUrl"), data.get("fileUrl")])
    if answer.ok and found:
        return found[0]
    said = f"Kie's upload answered {answer.effective_code}: {answer.message}"
    scope, _ = REFUSALS.get(answer.effective_code, (None, None))
    if scope is Scope.JOB:
        raise KieRefused(said)
    raise KieUnavailable(said)


class _Form:
    """A multipart/form-data body of one file and two fields, streamed, its length known beforehand."""

    def __init__(self, content: Stream, name: str, media_type: str) -> None:
        boundary = uuid.uuid4().hex
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self._content = content
        fields = {"uploadPath": FOLDER, "fileName": name}
        parts = [f'Content-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n' for key, value in fields.items()]
        file = f'Content-Disposition: form-data; name="file"; filename="{name}"\r\nContent-Type: {media_type}\r\n\r\n'
        self._head = "".join(f"--{boundary}\r\n{part}" for part in [*parts, file]).encode()
        self._tail = f"\r\n--{boundary}--\r\n".encode()

    def __len__(self) -> int:
        return len(self._head) + len(self._content) + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        yield from self._content
        yield self._tail
