# SPDX-License-Identifier: Apache-2.0
"""Signatures of SHA256SUMS: made by minisign, with its keys; read here, and verified by cryptography.

Format (https://jedisct1.github.io/minisign/): a signature file has four lines: an untrusted comment; base64 of
algorithm, key id and signature; the trusted comment; base64 of a signature of signature and trusted comment. `ED` is
Ed25519 over the file's BLAKE2b-512, which minisign makes since 0.10; the older `Ed` over the file itself is refused.
"""

from __future__ import annotations

import base64
import getpass
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from patchset.node.errors import Findings, UsageError
from patchset.node.verify.command import SIGNATURE, SUMS

UNTRUSTED = "untrusted comment: "
TRUSTED = "trusted comment: "
KEY = b"Ed"
PREHASHED = b"ED"
PASSWORD = "PATCHSET_KEY_PASSWORD"  # noqa: S105 - the name of a variable


@dataclass(frozen=True)
class PublicKey:
    """A public key: 8 bytes that name it, and its point, 32 bytes as RFC 8032 encodes them."""

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
    """A key id as minisign shows it: a little-endian number in hex."""
    return f"{int.from_bytes(key_id, 'little'):X}"


def read_public_key(given: str) -> PublicKey:
    """A public key from a file, or from the word that minisign prints; raises UsageError where it is neither."""
    hint = "give minisign's .pub file, or the line of base64 in it"
    try:
        text = Path(given).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        text = given
        if not given.startswith("RW") or len(given) != 56:
            reason = error.strerror if isinstance(error, OSError) else "not a text file"
            raise UsageError(f"public key {given}: {reason}", hint=hint) from error
    lines = [line for line in text.splitlines() if not line.startswith(UNTRUSTED)]
    data = decode(lines[0] if lines else "")
    if len(data) != 42 or data[:2] != KEY:
        raise UsageError(f"{given} is not a minisign public key", hint=hint)
    return PublicKey(data[2:10], data[10:])


def vouched(folder: Path, sums: bytes, key: PublicKey) -> str:
    """Checks the signature of a folder's SHA256SUMS, as `check`; what was checked, with the signer's comment."""
    try:
        text = (folder / SIGNATURE).read_bytes().decode(errors="replace")
    except FileNotFoundError as error:
        hint = "ask who made it for the signature, or make wheels SIGN=key"
        raise Findings(f"{folder} is not signed: it has no {SIGNATURE}", hint=hint) from error
    return f"the signature of {key_name(key.id)} ({check(sums, text, key, what=str(folder / SUMS))})"


def check(data: bytes, text: str, key: PublicKey, *, what: str) -> str:
    """Checks the signature file of data by its text; its trusted comment. `what` is the data's name, for messages.
    Raises Findings where it is no signature, or a legacy one; another key signed; or the data, the signature or the
    trusted comment was changed since."""
    lines = text.splitlines()
    formed = len(lines) == 4 and lines[0].startswith(UNTRUSTED) and lines[2].startswith(TRUSTED)
    first, second = (decode(lines[1]), decode(lines[3])) if formed else (b"", b"")
    if len(first) == 74 and first[:2] == KEY:
        hint = "sign with minisign 0.10 or newer"
        raise Findings(f"{what}.minisig is a legacy signature, not a prehashed one", hint=hint)
    if len(first) != 74 or first[:2] != PREHASHED or len(second) != 64:
        raise Findings(f"{what}.minisig is not a minisign signature", hint="sign SHA256SUMS again")
    key_id, signature, comment = first[2:10], first[10:], lines[2][len(TRUSTED) :]
    again = "get the files from the signer again"
    if key_id != key.id:
        said = f"{what} is signed with another key\n  expected: {key_name(key.id)}\n  found:    {key_name(key_id)}"
        raise Findings(said, hint=f"give the signer's public key, or {again}")
    if not key.made(signature, hashlib.blake2b(data).digest()):
        raise Findings(f"{what} is not what was signed: the signature does not fit", hint=again)
    if not key.made(second, signature + comment.encode()):
        raise Findings(f"the trusted comment of the signature of {what} was changed", hint=again)
    return comment


def decode(line: str) -> bytes:
    """The bytes of a line of base64; none where it is not that."""
    try:
        return base64.b64decode(line.strip(), validate=True)
    except ValueError:
        return b""


@dataclass(frozen=True)
class Signer:
    """A secret key that minisign can use: its file, and its password, or nothing."""

    key: Path
    password: str = field(default="", repr=False)

    def sign(self, sums: bytes, comment: str) -> bytes:
        """SHA256SUMS.minisig. The trusted comment has no time, so that the same sums have the same signature."""
        with tempfile.TemporaryDirectory(prefix="patchset-sign-") as folder:
            file = Path(folder) / "sums"
            file.write_bytes(sums)
            command = ["minisign", "-S", "-s", str(self.key.absolute()), "-m", str(file), "-x", f"{file}.minisig"]
            command += ["-t", comment, "-c", "signature of SHA256SUMS"]
            done = subprocess.run(command, input=f"{self.password}\n", capture_output=True, text=True, check=False)
            if done.returncode:
                why = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1].removeprefix("Password: ")
                hint = f"give the secret key that minisign -G wrote, and its password, or set {PASSWORD}"
                raise UsageError(f"minisign cannot sign with {self.key}: {why}", hint=hint)
            return Path(f"{file}.minisig").read_bytes()


def load(key: Path) -> Signer:
    """A secret key, tested by a signature; the password is asked for if the key has one. Raises UsageError where there
    is no minisign, no such file or no password, or minisign cannot use the key."""
    if shutil.which("minisign") is None:
        raise UsageError("minisign, which signs, is not on PATH", hint="apt-get install minisign")
    try:
        scrypt = decode(key.read_text(encoding="utf-8").splitlines()[1])[2:4] == b"Sc"  # then a password protects it
    except (OSError, UnicodeDecodeError, IndexError):
        scrypt = False  # minisign says what is the matter
    signer = Signer(key, _password(key) if scrypt else "")
    signer.sign(b"", "a first use")
    return signer


def _password(key: Path) -> str:
    """From the environment, for runs that nobody watches, or from the user."""
    if (given := os.environ.get(PASSWORD)) is not None:
        return given
    if not sys.stdin.isatty():
        raise UsageError(f"the key {key} needs a password, and there is nobody to ask", hint=f"set {PASSWORD}")
    return getpass.getpass(f"password of {key}: ")
