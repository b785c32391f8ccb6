"""Reads the body of a stranger's answer: decompressed, and never more than a bound at once."""

from __future__ import annotations

import zlib

ACCEPTED = "gzip, deflate"
"""What is asked for. Both can be unpacked piece by piece to a bound; an answer in anything else is not read."""

_EITHER_HEADER = 32 + zlib.MAX_WBITS


class BadBodyError(Exception):
    """A body that is too large, or is not in the encoding it claims; the message says which."""


class Body:
    """Gathers the parts of one body. ``encoding``: its Content-Encoding; ``most``: bytes, as they are when unpacked."""

    def __init__(self, encoding: str | None, most: int) -> None:
        name = (encoding or "identity").strip().lower()
        if name not in ("identity", "gzip", "x-gzip", "deflate"):
            # Also for several at once, as in a bomb inside a bomb.
            raise BadBodyError("the answer has a content encoding that was not asked for")
        self._unpacker = None if name == "identity" else zlib.decompressobj(_EITHER_HEADER)
        self._most = most
        self._read = bytearray()
        self._packed = 0

    def add(self, part: bytes) -> None:
        """The next part as it came.

        Raises:
            BadBodyError: with it, the body is too large or its encoding broken.
        """
        self._packed += len(part)
        self._read += part if self._unpacker is None else self._unpacked(self._unpacker, part)
        # What unpacks to nothing, or follows the end, counts as well: such a stream could go on for ever.
        if max(len(self._read), self._packed) > self._most:
            raise BadBodyError(f"the answer is larger than {self._most:,} bytes")

    def whole(self) -> bytes:
        """All of it.

        Raises:
            BadBodyError: its compressed form breaks off.
        """
        if self._unpacker is not None and self._packed and not self._unpacker.eof:
            raise BadBodyError("the answer's content encoding is broken")
        return bytes(self._read)

    def _unpacked(self, unpacker: zlib._Decompress, part: bytes) -> bytes:
        try:
            # One byte beyond the bound tells that there is more; it is never unpacked any further.
            return unpacker.decompress(part, self._most + 1 - len(self._read))
        except zlib.error:
            raise BadBodyError("the answer's content encoding is broken") from None
