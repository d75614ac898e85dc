# SPDX-License-Identifier: Apache-2.0
"""Signatures: minisign's files, minisign as the signer, dist/<set> from key to wheel."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SET, Capture, World
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from verify_world import WHEEL, made, once  # noqa: F401 - fixtures
from wheel_world import dist, tree

from patchset.node.errors import Findings, UsageError
from patchset.wheels import minisign

# What minisign 0.11 wrote: minisign -G, with the password sw0rd and with -W; minisign -S of a file "hello\n".
PROTECTED = """\
untrusted comment: minisign encrypted secret key
RWRTY0IyvDnH7QfcYWKU1eTnTLV8v0i5Tv4bR91vUj9id5uZCFcAAAACAAAAAAAAAEAAAAAAYcm191kMgquQtUgNYT2g/L5uEiy7t+pUzJwxL+5ULwQSE6z\
R7ZO3i2mfv4zCrIx2ozvtx5u9vOMxXvlfaaIZ9S2Ki1NB7DAIDcEaLZM0hdCMl8kHhNF64okCd7xEhSMdDRdX9shl1aM=
"""
PROTECTED_PUBLIC = "RWR7xPlkAygi3+DuYz2P79Wh+DGwF7GG03/7rZE1SPGcweZ81x/EcrAG"
PLAIN = """\
untrusted comment: minisign encrypted secret key
RWQAAEIyAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA0nrRstUDNwe51k+Grlr29Xux4xj2hmeKgUB4Msbd1bI79lJ\
icbu/7MyiKW5rfp7p6krJ3hRhDZfKTBB3PTy8J1z26UidbD+PAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
"""
PUBLIC = """\
untrusted comment: minisign public key 73703D5B2D17AD2
RWTSetGy1QM3B8yiKW5rfp7p6krJ3hRhDZfKTBB3PTy8J1z26UidbD+P
"""
SIGNED = b"hello\n"
SIGNATURE = """\
untrusted comment: signature from minisign secret key
RUTSetGy1QM3B3X3IOGVPgnjIC6p+eqYFvus4RuRxF0JGm0K6v5YW1Q+lXEKIoAoxroobn5urxguQVIR+8AjG7m4xu5kWKx4ow4=
trusted comment: timestamp:1795563481\tfile:f\thashed
bNIaH5mqK5u8bBEQ2FTjNNgH27K05zUq7ddYluTyMJ+p0ovANp4T0Mf/csGB1UjR86n94p3rz5JtrGvnwYB9Cw==
"""
LEGACY = """\
untrusted comment: signature from minisign secret key
RWTSetGy1QM3B3P/x7CYghMCva64MkdV4lRITpN1ikxALwlIDsxCaT2SiOlpqzl/nq89PMuC9zFtA8E9ZzQOOnR6kg15/+wabAg=
trusted comment: timestamp:1795563481\tfile:f
s0kHk+0eonUNweuejz7mumVwWF7KS0zqBy0rR4/H+YzwpufhEJye/ZtFkW6fKhJZUififFGZ8Otw8GsqaV6aBg==
"""

needs_minisign = pytest.mark.skipif(shutil.which("minisign") is None, reason="minisign is not installed")


# minisign's files


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    file = tmp_path / "plain.key"
    file.write_text(PLAIN)
    return file


def test_what_minisign_signed_is_accepted() -> None:
    key = minisign.read_public_key(PUBLIC.splitlines()[1])
    assert minisign.key_name(key.id) == "73703D5B2D17AD2"
    assert minisign.check(SIGNED, SIGNATURE, key, what="f") == "timestamp:1795563481\tfile:f\thashed"


@pytest.mark.parametrize("given", ["", "nowhere.pub", "RW" + "?" * 54, PLAIN.splitlines()[1], "RW" + "A" * 54])
def test_a_public_key_that_is_none(given: str) -> None:
    with pytest.raises(UsageError, match="public key"):
        minisign.read_public_key(given)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is not a minisign signature"),
        (SIGNATURE.replace("untrusted comment: ", ""), "is not a minisign signature"),
        (SIGNATURE.replace("RUT", "RUQ?"), "is not a minisign signature"),
        (SIGNATURE.replace("RUTS", "RVTS"), "is not a minisign signature"),
        (SIGNATURE.replace("WKx4ow4=", "WKx4"), "is not a minisign signature"),
        (SIGNATURE[:-10], "is not a minisign signature"),
        (LEGACY, "is a legacy signature"),
        (SIGNATURE.replace("timestamp:1", "timestamp:2"), "the trusted comment"),
        (SIGNATURE.replace("X3IOG", "X3IOH"), "the signature does not fit"),
        (SIGNATURE.replace("bNIa", "bNIb"), "the trusted comment"),
    ],
)
def test_a_signature_that_does_not_hold(text: str, why: str) -> None:
    key = minisign.read_public_key(PUBLIC.splitlines()[1])
    with pytest.raises(Findings, match=why):
        minisign.check(SIGNED, text, key, what="f")


# minisign as the signer, which CI installs


def run_minisign(folder: Path, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["minisign", *words], cwd=folder, input=stdin, capture_output=True, text=True, check=False, timeout=100
    )


@needs_minisign
@pytest.mark.parametrize("words", [["-W"], []], ids=["plain", "protected"])
def test_a_new_key_of_minisigns_signs_wheels_that_both_verify(
    made: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    generated = run_minisign(tmp_path, "-G", *words, "-s", "key", "-p", "key.pub", stdin="sw0rd\nsw0rd\n")
    assert generated.returncode == 0, generated.stderr
    monkeypatch.setenv(minisign.PASSWORD, "sw0rd")
    assert made.run("wheels", SET, "--offline", "--sign", str(tmp_path / "key")) == 0
    sums = dist(made) / "SHA256SUMS"
    verified = run_minisign(tmp_path, "-V", "-p", "key.pub", "-m", str(sums))
    assert verified.returncode == 0, verified.stderr
    assert f"Trusted comment: tiny-ascend 9.9rc1+dp.1, set {SET}" in verified.stdout
    assert made.run("verify", "--dist", str(dist(made)), "--key", str(tmp_path / "key.pub")) == 0
    timed = run_minisign(tmp_path, "-S", "-s", "key", "-m", str(sums), stdin="sw0rd\n")  # by hand, with a time
    assert timed.returncode == 0, timed.stderr
    assert made.run("verify", "--dist", str(dist(made)), "--key", str(tmp_path / "key.pub")) == 0


@needs_minisign
def test_a_password_that_is_wrong_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text(PROTECTED)
    monkeypatch.setenv(minisign.PASSWORD, "wrong")
    with pytest.raises(UsageError, match="Wrong password for that key"):
        minisign.load(tmp_path / "key")
    monkeypatch.delenv(minisign.PASSWORD)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(UsageError, match="there is nobody to ask"):
        minisign.load(tmp_path / "key")


@needs_minisign
def test_a_password_that_is_asked_for(tmp_path: Path) -> None:
    """Signing at a terminal: a pseudo-terminal, and the same process on it that a user would have."""
    (tmp_path / "key").write_text(PROTECTED)
    program = (
        "import fcntl, sys, termios; from pathlib import Path; from patchset.wheels import minisign;"
        "fcntl.ioctl(0, termios.TIOCSCTTY, 0); print(minisign.load(Path(sys.argv[1])))"
    )
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", program, str(tmp_path / "key")]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as run:
        os.close(theirs)
        said = b""
        while not said.endswith(b"key: ") and (more := _read(ours)):
            said += more
        os.write(ours, b"sw0rd\n")
        while more := _read(ours):
            said += more
    os.close(ours)
    assert run.returncode == 0, said
    assert b"sw0rd" not in said, "neither what is typed nor what is printed shows it"


def _read(descriptor: int) -> bytes:
    """What a terminal shows next; nothing once its process has gone."""
    try:
        return os.read(descriptor, 1000)
    except OSError:
        return b""


@needs_minisign
@pytest.mark.parametrize(
    "text",
    ["", PUBLIC, PLAIN.splitlines()[1], PLAIN.replace("RWQA", "RWQB"), "untrusted comment: x\nno base64\n", None],
)
def test_a_secret_key_that_is_none(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "key").write_text(text)
    with pytest.raises(UsageError, match="minisign cannot sign with"):
        minisign.load(tmp_path / "key")


def test_without_minisign_signing_says_what_it_needs(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UsageError, match="minisign, which signs, is not on PATH"):
        minisign.load(plain)


# dist/<set>


def sign(folder: Path) -> None:
    """What minisign would write beside SHA256SUMS with the key of PLAIN."""
    data = base64.b64decode(PLAIN.splitlines()[1])[54:]
    key, public_id = Ed25519PrivateKey.from_private_bytes(data[8:40]), data[:8]
    made = key.sign(hashlib.blake2b((folder / "SHA256SUMS").read_bytes()).digest())
    first, second = (base64.b64encode(one).decode() for one in (b"ED" + public_id + made, key.sign(made + b"said")))
    lines = ["untrusted comment: x", first, "trusted comment: said", second]
    (folder / "SHA256SUMS.minisig").write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture
def signed(made: World) -> World:
    sign(dist(made))
    return made


@pytest.fixture
def why(made: World, capsys: Capture) -> Callable[..., str]:
    """Runs `patchset verify --dist`, which must end with 1; what it says."""

    def run(*words: str) -> str:
        capsys.readouterr()
        assert made.run("verify", "--dist", str(dist(made)), *words) == 1
        said = capsys.readouterr()
        return said.out + said.err

    return run


KEY = ("--key", PUBLIC.splitlines()[1])


@needs_minisign
def test_the_same_key_makes_the_same_signature(made: World, plain: Path) -> None:
    found = []
    for _ in range(2):
        assert made.run("wheels", SET, "--offline", "--sign", str(plain)) == 0
        found.append(tree(dist(made)))
    assert "SHA256SUMS.minisig" in found[0] and found[0] == found[1]
    assert made.run("verify", "--dist", str(dist(made)), *KEY) == 0


def test_another_key(signed: World, why) -> None:
    assert "is signed with another key\n  expected: DF22280364F9C47B\n" in why("--key", PROTECTED_PUBLIC)


def test_a_key_of_the_same_id(signed: World, why) -> None:
    """The id is only a name: whoever chooses it does not have the key."""
    data = bytearray(base64.b64decode(KEY[1]))
    data[10:] = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    assert "the signature does not fit" in why("--key", base64.b64encode(data).decode())


def test_no_signature(signed: World, why) -> None:
    (dist(signed) / "SHA256SUMS.minisig").unlink()
    assert "is not signed: it has no SHA256SUMS.minisig" in why(*KEY)
    assert signed.run("verify", "--dist", str(dist(signed))) == 0, "nobody asked for one"


def test_whose_signature_it_is_is_said_and_whether_anybody_checked(signed: World, capsys: Capture) -> None:
    capsys.readouterr()
    assert signed.run("verify", "--dist", str(dist(signed)), *KEY) == 0
    assert "the signature of 73703D5B2D17AD2 (said)" in capsys.readouterr().out.replace("\n", " ")
    assert signed.run("verify", "--dist", str(dist(signed))) == 0
    assert "SHA256SUMS (signed, but no --key was given to check that)" in capsys.readouterr().out


def test_a_wheel_and_its_sum_changed_together(signed: World, why) -> None:
    sums = dist(signed) / "SHA256SUMS"
    lines = sums.read_text().splitlines(keepends=True)
    sums.write_text("".join(line.replace(line[:8], "00000000", 1) if WHEEL in line else line for line in lines))
    assert "is not what was signed" in why(*KEY)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "has no SHA256SUMS"),
        ("", "lists nothing"),
        ("nonsense\n", "not a sha256sum line"),
        (f"{'0' * 64}  ../x\n", "leaves"),
    ],
)
def test_sums_that_are_none(signed: World, why, text: str | None, reason: str) -> None:
    sums = dist(signed) / "SHA256SUMS"
    sums.unlink() if text is None else sums.write_text(text)
    assert reason in why()


def test_files_that_the_sums_do_not_have_or_have_otherwise(signed: World, why) -> None:
    folder = dist(signed)
    (folder / "extra.whl").write_bytes(b"")
    (folder / "constraints.txt").write_text("torch\n")
    (folder / "manifest.json").unlink()
    said = why(*KEY)
    assert "  extra    extra.whl: SHA256SUMS does not list it\n" in said
    assert "  changed  constraints.txt: sha256 " in said
    assert "  missing  manifest.json: SHA256SUMS lists it\n" in said


def test_a_changed_wheel_is_not_looked_into(signed: World, why) -> None:
    with (dist(signed) / WHEEL).open("ab") as file:
        file.write(b"#")
    said = why(*KEY)
    assert f"  changed  {WHEEL}: sha256 " in said
    assert f": {dist(signed) / WHEEL}: " not in said


@pytest.mark.parametrize("words", [("--sign", "nowhere"), ("--sign", __file__)])
def test_a_bad_key_leaves_dist_as_it_was(made: World, words: tuple[str, ...]) -> None:
    before = tree(dist(made))
    assert made.run("wheels", SET, "--offline", *words) == 2
    assert tree(dist(made)) == before
