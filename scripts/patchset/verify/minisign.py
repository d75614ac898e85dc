# SPDX-License-Identifier: Apache-2.0
"""minisign's public keys and signatures, read and verified.

Format (https://jedisct1.github.io/minisign/): a signature file has four lines: an untrusted comment; base64 of
algorithm, key id and signature; the trusted comment; base64 of a signature of signature and trusted comment. `ED` is
Ed25519 over the file's BLAKE2b-512, which minisign makes since 0.10; the older `Ed` over the file itself is refused.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from pathlib import Path

from patchset.errors import Findings, UsageError
from patchset.verify import ed25519

UNTRUSTED = "untrusted comment: "
TRUSTED = "trusted comment: "
KEY = b"Ed"
PREHASHED = b"ED"


@dataclass(frozen=True)
class PublicKey:
    """A public key.

    Attributes:
        id: 8 bytes that name it.
        point: 32 bytes, as RFC 8032 encodes them.
    """

    id: bytes
    point: bytes

    @property
    def name(self) -> str:
        """The id as minisign shows it.

        >>> PublicKey(bytes(range(8)), bytes(32)).name
        '706050403020100'
        """
        return key_name(self.id)

    @property
    def text(self) -> str:
        """The key as one word: what minisign -P takes."""
        return encode(KEY + self.id + self.point)

    def render(self) -> str:
        """The key as a file."""
        return f"{UNTRUSTED}minisign public key {self.name}\n{self.text}\n"


@dataclass(frozen=True)
class Signature:
    """A signature file.

    Attributes:
        key_id: of the key that made it.
        signature: 64 bytes, over the file's digest.
        trusted_comment: what the signer says; `global_signature` covers it.
        global_signature: 64 bytes, over signature and trusted comment.
        comment: the untrusted comment: anybody can change it.
    """

    key_id: bytes
    signature: bytes
    trusted_comment: str
    global_signature: bytes
    comment: str = "signature from patchset"

    def render(self) -> str:
        """The signature as a file."""
        first = encode(PREHASHED + self.key_id + self.signature)
        second = encode(self.global_signature)
        return f"{UNTRUSTED}{self.comment}\n{first}\n{TRUSTED}{self.trusted_comment}\n{second}\n"


def key_name(key_id: bytes) -> str:
    """A key id as minisign shows it: a little-endian number in hex."""
    return f"{int.from_bytes(key_id, 'little'):X}"


def digest(data: bytes) -> bytes:
    """What is signed instead of a file."""
    return hashlib.blake2b(data).digest()


def covered(signature: bytes, trusted_comment: str) -> bytes:
    """What the second signature is over."""
    return signature + trusted_comment.encode()


def read_public_key(given: str) -> PublicKey:
    """A public key from a file, or from the word that minisign prints.

    Raises:
        UsageError: it is neither.
    """
    hint = "give minisign's .pub file, or the line of base64 in it"
    try:
        text = Path(given).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        text = given
        if not given.startswith("RW") or len(given) != 56:
            reason = error.strerror if isinstance(error, OSError) else "not a text file"
            raise UsageError(f"public key {given}: {reason}", hint=hint) from error
    lines = text.splitlines()
    if lines and lines[0].startswith(UNTRUSTED):
        lines = lines[1:]
    data = decode(lines[0] if lines else "")
    if len(data) != 42 or data[:2] != KEY:
        raise UsageError(f"{given} is not a minisign public key", hint=hint)
    return PublicKey(data[2:10], data[10:])


def parse_signature(text: str, source: str) -> Signature:
    """Reads a signature file.

    Raises:
        Findings: it is none, or a legacy one.
    """
    lines = text.splitlines()
    if len(lines) != 4 or not lines[0].startswith(UNTRUSTED) or not lines[2].startswith(TRUSTED):
        raise Findings(f"{source} is not a minisign signature", hint="sign SHA256SUMS again")
    first, second = decode(lines[1]), decode(lines[3])
    if len(first) == 74 and first[:2] == KEY:
        raise Findings(f"{source} is a legacy signature, not a prehashed one", hint="sign with minisign 0.10 or newer")
    if len(first) != 74 or first[:2] != PREHASHED or len(second) != 64:
        raise Findings(f"{source} is not a minisign signature", hint="sign SHA256SUMS again")
    comment = lines[0][len(UNTRUSTED) :]
    return Signature(first[2:10], first[10:], lines[2][len(TRUSTED) :], second, comment)


def check(data: bytes, signature: Signature, key: PublicKey, *, what: str) -> None:
    """Checks that the holder of `key` signed `data`, and the trusted comment with it.

    Raises:
        Findings: another key signed, or the data, the signature or the trusted comment was changed since.
    """
    if signature.key_id != key.id:
        raise Findings(
            f"{what} is signed with another key\n  expected: {key.name}\n  found:    {key_name(signature.key_id)}",
            hint="give the signer's public key, or get the files from the signer again",
        )
    if not ed25519.verify(key.point, digest(data), signature.signature):
        raise Findings(
            f"{what} is not what was signed: the signature does not fit", hint="get the files from the signer again"
        )
    if not ed25519.verify(
        key.point, covered(signature.signature, signature.trusted_comment), signature.global_signature
    ):
        raise Findings(
            f"the trusted comment of the signature of {what} was changed", hint="get the files from the signer again"
        )


def encode(data: bytes) -> str:
    """Bytes as a line of a file."""
    return base64.b64encode(data).decode()


def decode(line: str) -> bytes:
    """The bytes of a line of base64; none where it is not that."""
    try:
        return base64.b64decode(line.strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""
