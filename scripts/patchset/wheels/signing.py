# SPDX-License-Identifier: Apache-2.0
"""Signing with minisign and its keys: SHA256SUMS.minisig, which minisign and `patchset verify --key` check."""

from __future__ import annotations

import base64
import binascii
import getpass
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from patchset.node.errors import UsageError
from patchset.node.verify.dist import SIGNATURE

PASSWORD = "PATCHSET_KEY_PASSWORD"  # noqa: S105 - the name of a variable


@dataclass(frozen=True)
class Signer:
    """A secret key that minisign can use.

    Attributes:
        key: minisign's secret key file.
        password: its password; empty where it has none.
    """

    key: Path
    password: str = field(default="", repr=False)

    def sign(self, sums: bytes, comment: str) -> dict[str, bytes]:
        """What lies beside SHA256SUMS once it is signed, by file name.

        Args:
            sums: the content of SHA256SUMS.
            comment: the trusted comment. It has no time, so that the same sums have the same signature.

        Raises:
            UsageError: minisign cannot use the key: it is damaged, or the password is wrong.
        """
        with tempfile.TemporaryDirectory(prefix="patchset-sign-") as folder:
            file = Path(folder) / "sums"
            file.write_bytes(sums)
            said = ["-t", comment, "-c", "signature of SHA256SUMS"]
            done = subprocess.run(
                ["minisign", "-S", "-s", str(self.key.absolute()), "-m", str(file), "-x", f"{file}.minisig", *said],
                input=f"{self.password}\n",
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                why = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1].removeprefix("Password: ")
                hint = f"give the secret key that minisign -G wrote, and its password, or set {PASSWORD}"
                raise UsageError(f"minisign cannot sign with {self.key}: {why}", hint=hint)
            return {SIGNATURE: Path(f"{file}.minisig").read_bytes()}


def load(key: Path) -> Signer:
    """A secret key, tested by a signature; the password is asked for if the key has one.

    Raises:
        UsageError: there is no minisign, no such file or no password, or minisign cannot use the key.
    """
    if shutil.which("minisign") is None:
        raise UsageError("minisign, which signs, is not on PATH", hint="apt-get install minisign")
    signer = Signer(key, _password(key) if _protected(key) else "")
    signer.sign(b"", "a first use")
    return signer


def _protected(key: Path) -> bool:
    """Whether a key file says that a password protects it: its third and fourth byte name scrypt."""
    try:
        line = key.read_text(encoding="utf-8").splitlines()[1]
        return base64.b64decode(line)[2:4] == b"Sc"
    except (OSError, UnicodeDecodeError, IndexError, binascii.Error):
        return False  # minisign says what is the matter


def _password(key: Path) -> str:
    """From the environment, for runs that nobody watches, or from the user."""
    if (given := os.environ.get(PASSWORD)) is not None:
        return given
    if not sys.stdin.isatty():
        raise UsageError(f"the key {key} needs a password, and there is nobody to ask", hint=f"set {PASSWORD}")
    return getpass.getpass(f"password of {key}: ")
