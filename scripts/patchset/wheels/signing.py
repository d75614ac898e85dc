# SPDX-License-Identifier: Apache-2.0
"""Signing with minisign's keys: SHA256SUMS.minisig, which minisign and `patchset verify --key` check.

A secret key file, as minisign writes it, holds base64 of 158 bytes: the algorithms of key (`Ed`), password (`Sc`, or
zeros for none) and checksum (`B2`); salt, operations and memory of the password's scrypt; then, xor-ed with scrypt's
output, key id, seed, public key and their BLAKE2b-256. Without a password the checksum is zeros.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import secrets
import struct
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from patchset.errors import UsageError
from patchset.verify import minisign
from patchset.verify.dist import SIGNATURE
from patchset.verify.minisign import PublicKey, Signature

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PASSWORD = "PATCHSET_KEY_PASSWORD"  # noqa: S105 - the name of a variable

_HEAD = struct.Struct("<2s2s2s32sQQ")
_SCRYPT, _PLAIN, _BLAKE2B = b"Sc", b"\0\0", b"B2"
_SECRET = 104  # bytes: id 8, seed 32, public key 32, checksum 32
# minisign's own cost (libsodium's "sensitive"): 1 GiB of memory for a few seconds.
_OPERATIONS, _MEMORY = 33_554_432, 1_073_741_824


@dataclass(frozen=True)
class SecretKey:
    """A key that signs.

    Attributes:
        id: 8 bytes that name it.
        seed: the 32 bytes of RFC 8032's private key.
    """

    id: bytes
    seed: bytes

    @property
    def public(self) -> PublicKey:
        """Its public half."""
        return PublicKey(self.id, Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw())

    def sign(self, data: bytes, trusted_comment: str) -> Signature:
        """The signature of data; the same for the same data and comment."""
        key = Ed25519PrivateKey.from_private_bytes(self.seed)
        signature = key.sign(minisign.digest(data))
        return Signature(self.id, signature, trusted_comment, key.sign(minisign.covered(signature, trusted_comment)))


def sign(sums: bytes, key: SecretKey, comment: str) -> dict[str, bytes]:
    """What lies beside SHA256SUMS when `key` has signed it, by file name.

    Unlike minisign's, the trusted comment has no time: the same sums have the same signature.
    """
    return {SIGNATURE: key.sign(sums, comment).render().encode()}


def generate(file: Path, *, protected: bool) -> PublicKey:
    """Writes a new key: `file`, for its owner's eyes alone, and `file`.pub; overwrites neither.

    Raises:
        UsageError: one of the two is there, or there is no password.
    """
    public_file = file.with_name(f"{file.name}.pub")
    if taken := next((one for one in (file, public_file) if one.exists()), None):
        raise UsageError(f"{taken} is there already", hint="a lost key cannot be had again: choose another name")
    key = SecretKey(secrets.token_bytes(8), secrets.token_bytes(32))
    data = seal(key, _password(file, again=True) if protected else "")
    comment = "minisign encrypted secret key" if protected else "minisign secret key"
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(f"{minisign.UNTRUSTED}{comment}\n{minisign.encode(data)}\n")
    public_file.write_text(key.public.render(), encoding="utf-8")
    return key.public


def load(file: Path) -> SecretKey:
    """Reads a secret key that `patchset keygen` or minisign made; asks for its password where it has one.

    Raises:
        UsageError: there is no such file, it is no secret key, or the password is wrong.
    """
    hint = "give the secret key that minisign -G or patchset keygen wrote"
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the key {file}: {getattr(error, 'strerror', None) or error}", hint=hint) from error
    data = minisign.decode(lines[1]) if len(lines) >= 2 and lines[0].startswith(minisign.UNTRUSTED) else b""
    if len(data) != _HEAD.size + _SECRET or data[:2] != minisign.KEY or data[4:6] != _BLAKE2B:
        raise UsageError(f"{file} is not a minisign secret key", hint=hint)
    return unseal(data, lambda: _password(file), str(file))


def seal(key: SecretKey, password: str) -> bytes:
    """A secret key as its file holds it; an empty password leaves it in the clear."""
    secret = key.id + key.seed + key.public.point
    if not password:
        return _HEAD.pack(minisign.KEY, _PLAIN, _BLAKE2B, bytes(32), 0, 0) + secret + bytes(32)
    secret += _checksum(secret)
    salt = secrets.token_bytes(32)
    stream = _stretch(password, salt, _OPERATIONS, _MEMORY)
    return _HEAD.pack(minisign.KEY, _SCRYPT, _BLAKE2B, salt, _OPERATIONS, _MEMORY) + _xor(secret, stream)


def unseal(data: bytes, password: Callable[[], str], source: str) -> SecretKey:
    """Takes a secret key out of what its file holds.

    Args:
        data: 158 bytes.
        password: asked only where the key has one.
        source: file name for messages.

    Raises:
        UsageError: the password is wrong, or the file is damaged.
    """
    _, kind, _, salt, operations, memory = _HEAD.unpack_from(data)
    secret = data[_HEAD.size :]
    if kind == _SCRYPT:
        if operations > _OPERATIONS or memory > _MEMORY:
            raise UsageError(f"{source} asks for more work than minisign does", hint="make a key with minisign")
        secret = _xor(secret, _stretch(password(), salt, operations, memory))
        if _checksum(secret[:-32]) != secret[-32:]:
            raise UsageError(
                f"the key {source} cannot be used: the password is wrong", hint=f"try again, or set {PASSWORD}"
            )
    elif kind != _PLAIN:
        raise UsageError(f"{source} is protected in a way that is not known here", hint="make a key with minisign")
    key = SecretKey(secret[:8], secret[8:40])
    if key.public.point != secret[40:72]:
        raise UsageError(f"the key {source} is damaged", hint="restore it from a copy")
    return key


def _checksum(secret: bytes) -> bytes:
    return hashlib.blake2b(minisign.KEY + secret, digest_size=32).digest()


def _password(file: Path, *, again: bool = False) -> str:
    """From the environment, for runs that nobody watches, or from the user."""
    if (given := os.environ.get(PASSWORD)) is not None:
        return given
    if not sys.stdin.isatty():
        raise UsageError(f"the key {file} needs a password, and there is nobody to ask", hint=f"set {PASSWORD}")
    password = getpass.getpass(f"password of {file}: ")
    if again and (not password or getpass.getpass("again: ") != password):
        raise UsageError("no password, or two different ones", hint="try again, or --no-password")
    return password


def _stretch(password: str, salt: bytes, operations: int, memory: int) -> bytes:
    n, r, p = cost(operations, memory)
    return hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=128 * r * (n + p + 2), dklen=_SECRET)


def cost(operations: int, memory: int) -> tuple[int, int, int]:
    """scrypt's N, r and p, as libsodium's crypto_pwhash_scryptsalsa208sha256 takes them from its two limits.

    >>> cost(33_554_432, 1_073_741_824)
    (1048576, 8, 1)
    """
    operations, r = max(operations, 32768), 8
    if operations < memory // 32:
        return _power(operations // (4 * r)), r, 1
    n = _power(memory // (128 * r))
    return n, r, min(operations // 4 // n, 0x3FFFFFFF) // r


def _power(limit: int) -> int:
    """The smallest power of two above half of the limit, from two on."""
    n = 2
    while n <= limit // 2:
        n *= 2
    return n


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))
