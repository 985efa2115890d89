"""Turns what obstore and the file system say into one plain line and one remedy.

Their own texts are pages of debug output with URLs and headers in them: nothing of that goes on, only what is
recognised. An error that nobody foresaw keeps its first line.
"""

import errno
import re

from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

from kiejobs.errors import KieJobsError, StorageUnavailable

_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
# S3's error codes, https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
_CODES = {
    "NoSuchBucket": ("the bucket does not exist", "Create the bucket, or correct KIEJOBS_STORAGE_URL."),
    "AccessDenied": ("access is denied", "Allow this key to get, put and delete objects in the bucket."),
    "InvalidAccessKeyId": ("the access key is unknown", "Correct AWS_ACCESS_KEY_ID."),
    "SignatureDoesNotMatch": ("the secret key is wrong", "Correct AWS_SECRET_ACCESS_KEY (and AWS_REGION)."),
    "ExpiredToken": ("the session token has expired", "Renew AWS_SESSION_TOKEN."),
    "RequestTimeTooSkewed": ("the clock of this machine is wrong", "Set the clock."),
    "SlowDown": ("it asks for fewer requests", "Nothing to do: the copy is tried again."),
}
_ERRNOS = {
    errno.ENOSPC: ("the disk is full", "Free space, or point KIEJOBS_STORAGE_URL at another disk."),
    errno.EDQUOT: ("the disk quota is used up", "Free space, or point KIEJOBS_STORAGE_URL at another disk."),
    errno.EACCES: ("the folder may not be written", "Give the workers' user the right to write there."),
    errno.EPERM: ("the folder may not be written", "Give the workers' user the right to write there."),
    errno.EROFS: ("the file system is read-only", "Mount it writable, or correct KIEJOBS_STORAGE_URL."),
    errno.ENOTDIR: ("a part of the path is a file", "Correct KIEJOBS_STORAGE_URL: it names a folder."),
    errno.EEXIST: ("a file is where the folder should be", "Correct KIEJOBS_STORAGE_URL: it names a folder."),
}
_OS_ERROR = re.compile(r"\(os error (\d{1,4})\)")
_QUERY = re.compile(r"\?\S*")  # may hold a signature
# What is left, told by the exception's class or by words in it; the first that fits.
_REST: tuple[tuple[tuple[type[Exception], ...], tuple[str, ...], tuple[str, str]], ...] = (
    (
        (),
        ("169.254.169.254", "169.254.170.2", "metadata.google.internal", "Missing credentials"),
        ("no credentials were found", "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."),
    ),
    (
        (PermissionDeniedError, UnauthenticatedError),
        (),
        ("access is denied", "Check the credentials and their rights on the bucket."),
    ),
    (
        (FileNotFoundError,),
        (),
        ("the bucket, folder or object does not exist", "Create the bucket, or correct KIEJOBS_STORAGE_URL."),
    ),
    (
        (),
        ("error sending request", "timed out"),
        ("the server cannot be reached", "Check AWS_ENDPOINT_URL and that the server runs, then `kiejobs doctor`."),
    ),
    ((), ("builder error",), ("the address needs https", "Write AWS_ENDPOINT_URL with https://.")),
)


def storage_fault(error: Exception, shown: str) -> KieJobsError:
    """Build the StorageUnavailable for an exception that a store raised; `shown` names the store."""
    if isinstance(error, KieJobsError):
        return error
    what, remedy = _meaning(error)
    return StorageUnavailable(f"{shown}: {what}", remedy=remedy)


def _meaning(error: Exception) -> tuple[str, str]:
    text = str(error)
    code = _CODE.search(text)
    if code and code[1] in _CODES:
        return _CODES[code[1]]
    found = _OS_ERROR.search(text)
    number = int(found[1]) if found else getattr(error, "errno", None)
    if number in _ERRNOS:
        return _ERRNOS[number]
    for kinds, words, meaning in _REST:
        if isinstance(error, kinds) or any(word in text for word in words):
            return meaning
    first_line = _QUERY.sub("", text.partition("\n")[0])[:200]
    return f"{type(error).__name__}: {first_line or 'no details'}", ""
