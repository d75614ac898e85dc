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

    @property
    def name(self) -> str:
        """The id as minisign shows it.

        >>> PublicKey(bytes(range(8)), bytes(32)).name
        '706050403020100'
        """
        return key_name(self.id)

    def made(self, signature: bytes, message: bytes) -> bool:
        """Whether the key's holder made the signature, 64 bytes, of the message."""
        try:
            Ed25519PublicKey.from_public_bytes(self.point).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True)
class Signature:
    """A signature file.

    Attributes:
        key_id: of the key that made it.
        signature: 64 bytes, over the file's digest.
        trusted_comment: what the signer says; `global_signature` covers it.
        global_signature: 64 bytes, over signature and trusted comment.
    """

    key_id: bytes
    signature: bytes
    trusted_comment: str
    global_signature: bytes


def key_name(key_id: bytes) -> str:
    """A key id as minisign shows it: a little-endian number in hex."""
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
    return Signature(first[2:10], first[10:], lines[2][len(TRUSTED) :], second)


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
    signature = parse_signature(text, str(folder / SIGNATURE))
    check(sums, signature, key, what=str(folder / SUMS))
    return f"the signature of {key.name} ({signature.trusted_comment})"


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
    if not key.made(signature.signature, hashlib.blake2b(data).digest()):
        raise Findings(
            f"{what} is not what was signed: the signature does not fit", hint="get the files from the signer again"
        )
    if not key.made(signature.global_signature, signature.signature + signature.trusted_comment.encode()):
        raise Findings(
            f"the trusted comment of the signature of {what} was changed", hint="get the files from the signer again"
        )


def decode(line: str) -> bytes:
    """The bytes of a line of base64; none where it is not that."""
    try:
        return base64.b64decode(line.strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""
