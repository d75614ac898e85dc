# SPDX-License-Identifier: Apache-2.0
"""Signatures: Ed25519 against `cryptography`, minisign's files in both directions, dist/<set> from key to wheel."""

from __future__ import annotations

import base64
import io
import json
import os
import pty
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SET, World
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from verify_world import WHEEL, made, once  # noqa: F401 - fixtures
from wheel_world import dist, tree

from patchset.errors import Findings, UsageError
from patchset.verify import ed25519, minisign
from patchset.wheels import signing

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

ORDER = 2**252 + 27742317777372353535851937790883648493
FIELD = 2**255 - 19
# RFC 8032, section 7.1: TEST 1 and TEST 3.
VECTORS = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        (
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24"
            "655141438e7a100b"
        ),
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        (
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28d"
            "c027beceea1ec40a"
        ),
    ),
]


# Ed25519


@pytest.mark.parametrize(("key", "message", "signature"), VECTORS)
def test_the_vectors_of_rfc_8032(key: str, message: str, signature: str) -> None:
    assert ed25519.verify(bytes.fromhex(key), bytes.fromhex(message), bytes.fromhex(signature))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.binary(min_size=32, max_size=32), message=st.binary(max_size=200), bit=st.integers(0, 511), data=st.data()
)
def test_it_accepts_what_cryptography_signs_and_nothing_near_it(
    seed: bytes, message: bytes, bit: int, data: st.DataObject
) -> None:
    private = Ed25519PrivateKey.from_private_bytes(seed)
    key, signature = private.public_key().public_bytes_raw(), private.sign(message)
    assert ed25519.verify(key, message, signature)
    flipped = bytearray(signature)
    flipped[bit // 8] ^= 1 << bit % 8
    assert not ed25519.verify(key, message, bytes(flipped))
    assert not ed25519.verify(key, message + b"\0", signature)
    other = bytearray(key)
    other[data.draw(st.integers(0, 31))] ^= 1 << data.draw(st.integers(0, 7))
    assert not ed25519.verify(bytes(other), message, signature)


def test_a_signature_has_one_form() -> None:
    """With the group order added, the response is congruent: without the check of RFC 8032 it would verify too."""
    private = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    key, signature = private.public_key().public_bytes_raw(), private.sign(b"m")
    response = int.from_bytes(signature[32:], "little") + ORDER
    assert not ed25519.verify(key, b"m", signature[:32] + response.to_bytes(32, "little"))


@pytest.mark.parametrize(
    "point",
    [1, FIELD - 1, 0, FIELD, FIELD + 1, 1 | 1 << 255, 2, (1 << 255) - 1],
    ids=["neutral", "order 2", "order 4", "0 again", "1 again", "minus zero", "off the curve", "too large"],
)
def test_a_key_that_is_no_point_of_the_group_signs_nothing(point: int) -> None:
    """With a key of small order, R = B * s fits any message; with the neutral one for certain."""
    key = point.to_bytes(32, "little")
    base = bytes.fromhex("5866666666666666666666666666666666666666666666666666666666666666")
    for response in (0, 1):
        for commitment in (base, (1).to_bytes(32, "little"), key):
            assert not ed25519.verify(key, b"m", commitment + response.to_bytes(32, "little"))


def test_lengths_are_checked() -> None:
    assert not ed25519.verify(b"short", b"", bytes(64))
    assert not ed25519.verify(bytes(32), b"", bytes(63))


# minisign's files


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    file = tmp_path / "plain.key"
    file.write_text(PLAIN)
    return file


def test_what_minisign_signed_is_accepted() -> None:
    key = minisign.read_public_key(PUBLIC.splitlines()[1])
    assert key.name == "73703D5B2D17AD2" and key.render() == PUBLIC
    signature = minisign.parse_signature(SIGNATURE, "f.minisig")
    minisign.check(SIGNED, signature, key, what="f")
    assert signature.render() == SIGNATURE
    assert signature.trusted_comment == "timestamp:1795563481\tfile:f\thashed"


def test_minisigns_keys_sign_as_minisign_does(plain: Path) -> None:
    key = signing.load(plain)
    assert key.public.render() == PUBLIC
    theirs = minisign.parse_signature(SIGNATURE, "f.minisig")
    ours = key.sign(SIGNED, theirs.trusted_comment)
    assert (ours.signature, ours.global_signature) == (theirs.signature, theirs.global_signature)


def test_minisigns_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "protected.key"
    file.write_text(PROTECTED)
    monkeypatch.setenv(signing.PASSWORD, "sw0rd")
    assert signing.load(file).public.text == PROTECTED_PUBLIC


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords at a thousandth of minisign's cost."""
    monkeypatch.setattr(signing, "_OPERATIONS", 1 << 15)
    monkeypatch.setattr(signing, "_MEMORY", 1 << 20)


def test_a_password_that_is_wrong_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cheap: None) -> None:
    monkeypatch.setenv(signing.PASSWORD, "right")
    public = signing.generate(tmp_path / "key", protected=True)
    assert signing.load(tmp_path / "key").public == public
    monkeypatch.setenv(signing.PASSWORD, "wrong")
    with pytest.raises(UsageError, match="the password is wrong"):
        signing.load(tmp_path / "key")
    monkeypatch.delenv(signing.PASSWORD)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(UsageError, match="there is nobody to ask"):
        signing.load(tmp_path / "key")


@pytest.mark.parametrize(
    ("typed", "made_key"),
    [("sw0rd\nsw0rd\n", True), ("sw0rd\nother\n", False), ("\n", False)],
    ids=["", "differ", "none"],
)
def test_a_password_that_is_asked_for(tmp_path: Path, typed: str, made_key: bool) -> None:
    """keygen and signing at a terminal: a pseudo-terminal, and the same process on it that a user would have."""
    program = (
        "import fcntl, sys, termios; from pathlib import Path; from patchset.wheels import signing;"
        "fcntl.ioctl(0, termios.TIOCSCTTY, 0); signing._OPERATIONS, signing._MEMORY = 1 << 15, 1 << 20;"
        "file = Path(sys.argv[1]); signing.generate(file, protected=True); signing.load(file)"
    )
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", program, str(tmp_path / "key")]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as run:
        os.close(theirs)
        said = b""
        for line in [*typed.splitlines(keepends=True), *(["sw0rd\n"] if made_key else [])]:
            while not said.endswith((b"key: ", b"again: ")) and (more := _read(ours)):
                said += more
            os.write(ours, line.encode())
            said += b"\n"
        while more := _read(ours):
            said += more
    os.close(ours)
    assert (run.returncode == 0) is made_key, said
    assert (tmp_path / "key").exists() is made_key
    assert b"sw0rd" not in said, "what is typed is not shown"


def _read(descriptor: int) -> bytes:
    """What a terminal shows next; nothing once its process has gone."""
    try:
        return os.read(descriptor, 1000)
    except OSError:
        return b""


def test_a_key_that_asks_for_all_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cheap: None) -> None:
    monkeypatch.setenv(signing.PASSWORD, "sw0rd")
    (tmp_path / "key").write_text(PROTECTED)
    with pytest.raises(UsageError, match="asks for more work"):
        signing.load(tmp_path / "key")


def test_keygen(made: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "key"
    assert made.run("keygen", str(file), "--no-password", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert minisign.read_public_key(f"{file}.pub").text == document["public"] == signing.load(file).public.text
    before = file.read_bytes()
    assert made.run("keygen", str(file), "--no-password") == 2
    file.unlink()
    assert made.run("keygen", str(file), "--no-password") == 2, "the public half of another key is there"
    assert not file.exists() and before


def edited(key: str, position: int) -> str:
    head, line = key.splitlines()
    data = bytearray(base64.b64decode(line))
    data[position] ^= 1
    return f"{head}\n{base64.b64encode(data).decode()}\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is not a minisign secret key"),
        (PUBLIC, "is not a minisign secret key"),
        (PLAIN.splitlines()[1], "is not a minisign secret key"),
        (edited(PLAIN, 0), "is not a minisign secret key"),
        (edited(PLAIN, 2), "not known here"),
        (edited(PLAIN, 70), "is damaged"),
        (edited(PLAIN, 100), "is damaged"),
    ],
)
def test_a_secret_key_that_is_none(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "key").write_text(text)
    with pytest.raises(UsageError, match=why):
        signing.load(tmp_path / "key")


def test_a_secret_key_in_a_way_that_we_write_it(plain: Path) -> None:
    assert minisign.encode(signing.seal(signing.load(plain), "")) == PLAIN.splitlines()[1]


def test_a_secret_key_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        signing.load(tmp_path / "key")
    (tmp_path / "key").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="codec"):
        signing.load(tmp_path / "key")


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
        minisign.check(SIGNED, minisign.parse_signature(text, "f.minisig"), key, what="f")


# The real minisign, which CI installs


needs_minisign = pytest.mark.skipif(shutil.which("minisign") is None, reason="minisign is not installed")


def run_minisign(folder: Path, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["minisign", *words], cwd=folder, input=stdin, capture_output=True, text=True, check=False, timeout=100
    )


@needs_minisign
def test_minisign_verifies_and_uses_our_key(made: World, tmp_path: Path) -> None:
    assert made.run("keygen", str(tmp_path / "key"), "--no-password") == 0
    assert made.run("wheels", SET, "--offline", "--sign", str(tmp_path / "key")) == 0
    sums = dist(made) / "SHA256SUMS"
    verified = run_minisign(tmp_path, "-V", "-p", "key.pub", "-m", str(sums))
    assert verified.returncode == 0, verified.stderr
    assert f"Trusted comment: tiny-ascend 9.9rc1+dp.1, set {SET}" in verified.stdout
    assert run_minisign(tmp_path, "-S", "-s", "key", "-m", str(sums)).returncode == 0
    assert made.run("verify", "--dist", str(dist(made)), "--key", str(tmp_path / "key.pub")) == 0


@needs_minisign
def test_our_key_with_a_password_opens_in_minisign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cheap: None
) -> None:
    monkeypatch.setenv(signing.PASSWORD, "sw0rd")
    public = signing.generate(tmp_path / "key", protected=True)
    (tmp_path / "f").write_bytes(SIGNED)
    signed = run_minisign(tmp_path, "-S", "-s", "key", "-m", "f", stdin="sw0rd\n")
    assert signed.returncode == 0, signed.stderr
    minisign.check(SIGNED, minisign.parse_signature((tmp_path / "f.minisig").read_text(), "f"), public, what="f")


# dist/<set>


@pytest.fixture
def signed(made: World, plain: Path) -> World:
    assert made.run("wheels", SET, "--offline", "--sign", str(plain)) == 0
    return made


@pytest.fixture
def why(made: World, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs `patchset verify --dist`, which must end with 1; what it says."""

    def run(*words: str) -> str:
        capsys.readouterr()
        assert made.run("verify", "--dist", str(dist(made)), *words) == 1
        said = capsys.readouterr()
        return said.out + said.err

    return run


KEY = ("--key", PUBLIC.splitlines()[1])


def test_the_same_key_makes_the_same_signature(signed: World, plain: Path) -> None:
    before = tree(dist(signed))
    assert "SHA256SUMS.minisig" in before
    assert signed.run("wheels", SET, "--offline", "--sign", str(plain)) == 0
    assert tree(dist(signed)) == before
    assert signed.run("verify", "--dist", str(dist(signed)), *KEY) == 0


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


def test_a_signature_that_nobody_checks_is_named(signed: World, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
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
