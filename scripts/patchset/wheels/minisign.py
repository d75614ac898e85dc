# SPDX-License-Identifier: Apache-2.0
"""minisign's public keys and signatures: read here, verified by cryptography.

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

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from patchset.node.errors import Findings, UsageError
from patchset.node.verify.dist import SIGNATURE, SUMS

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

    def made(self, signature: bytes, message: bytes) -> bool:
        """Whether the key's holder made the signature, 64 bytes, of the message."""
        try:
            Ed25519PublicKey.from_public_bytes(self.point).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


def key_name(key_id: bytes) -> str:
    """A key id as minisign shows it: a little-endian number in hex.

    >>> key_name(bytes(range(8)))
    '706050403020100'
    """
    return f"{int.from_bytes(key_id, 'little'):X}"


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


def vouched(folder: Path, sums: bytes, key: PublicKey) -> str:
    """Checks the signature of a folder's SHA256SUMS; what was checked, with the signer's trusted comment.

    Raises:
        Findings: it is not signed, not with this key, or not as it was signed.
    """
    try:
        text = (folder / SIGNATURE).read_bytes().decode(errors="replace")
    except FileNotFoundError as error:
        raise Findings(
            f"{folder} is not signed: it has no {SIGNATURE}",
            hint="ask who made it for the signature, or make wheels SIGN=key",
        ) from error
    return f"the signature of {key_name(key.id)} ({check(sums, text, key, what=str(folder / SUMS))})"


def check(data: bytes, text: str, key: PublicKey, *, what: str) -> str:
    """Checks a signature file; its trusted comment, which the signature covers too.

    Args:
        data: what was signed.
        text: the signature file's content.
        key: whose holder must have signed.
        what: name of the signed file, for messages.

    Raises:
        Findings: the file is no signature, or a legacy one; another key signed; or the data, the signature or the
            trusted comment was changed since.
    """
    lines = text.splitlines()
    if len(lines) != 4 or not lines[0].startswith(UNTRUSTED) or not lines[2].startswith(TRUSTED):
        raise Findings(f"{what}.minisig is not a minisign signature", hint="sign SHA256SUMS again")
    first, second = decode(lines[1]), decode(lines[3])
    if len(first) == 74 and first[:2] == KEY:
        raise Findings(
            f"{what}.minisig is a legacy signature, not a prehashed one", hint="sign with minisign 0.10 or newer"
        )
    if len(first) != 74 or first[:2] != PREHASHED or len(second) != 64:
        raise Findings(f"{what}.minisig is not a minisign signature", hint="sign SHA256SUMS again")
    key_id, signature, comment = first[2:10], first[10:], lines[2][len(TRUSTED) :]
    if key_id != key.id:
        raise Findings(
            f"{what} is signed with another key\n  expected: {key_name(key.id)}\n  found:    {key_name(key_id)}",
            hint="give the signer's public key, or get the files from the signer again",
        )
    again = "get the files from the signer again"
    if not key.made(signature, hashlib.blake2b(data).digest()):
        raise Findings(f"{what} is not what was signed: the signature does not fit", hint=again)
    if not key.made(second, signature + comment.encode()):
        raise Findings(f"the trusted comment of the signature of {what} was changed", hint=again)
    return comment


def decode(line: str) -> bytes:
    """The bytes of a line of base64; none where it is not that."""
    try:
        return base64.b64decode(line.strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""
