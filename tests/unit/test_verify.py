# SPDX-License-Identifier: Apache-2.0
"""verify: what it accepts, and that it sees each way in which a wheel, an installation or a tree can be another."""

from __future__ import annotations

import compileall
import json
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import PACKAGE, SET, VERSION, Capture, World, sha256, write_tree
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from verify_world import WHEEL, edit_manifest, install_wheel, made, once, repack, site  # noqa: F401 - fixtures
from wheel_world import PATCHED, PATCHED_INFO, TAGS, dist, members, name, pack

from patchset.node import fingerprint, manifest
from patchset.node.verify import build

RUNNER = f"{PACKAGE}/runner.py"
MANIFEST = f"{PATCHED_INFO}/patchset.json"
RECORD = f"{PATCHED_INFO}/RECORD"
TEXTS = ("set", "project", "package", "version", "fingerprint")
FIRST = f"{PACKAGE}/__init__.py"  # the first row of RECORD


@pytest.fixture
def verify(made: World, capsys: Capture) -> Callable[..., tuple[int, list[dict[str, str]]]]:
    """Runs `patchset verify --json`; its exit code and findings, or the error as one."""

    def run(*words: object) -> tuple[int, list[dict[str, str]]]:
        capsys.readouterr()
        code = made.run("verify", *map(str, words), "--json")
        document = json.loads(capsys.readouterr().out)
        if "error" in document:
            return code, [{"path": "", "kind": "error", "detail": document["error"]["message"]}]
        assert document["ok"] is (code == 0)
        return code, [finding for verdict in document["verdicts"] for finding in verdict["findings"]]

    return run


def one(found: tuple[int, list[dict[str, str]]]) -> tuple[str, str]:
    """The only finding, of a run that ended with 1."""
    code, findings = found
    assert code == 1 and len(findings) == 1, found
    return findings[0]["path"], findings[0]["kind"]


def append(path: str, data: bytes) -> Callable[[dict[str, bytes]], None]:
    return lambda files: files.update({path: files.get(path, b"") + data})


# What is as it should be


def test_what_make_wheels_made_is_accepted(made: World, verify, site: Path) -> None:
    wheels = [dist(made) / name(tag, PATCHED) for tag in TAGS]
    assert verify("--dist", dist(made)) == (0, [])
    assert verify("--wheel", *wheels) == (0, [])
    assert verify("--wheel", wheels[0], "--set", SET) == (0, [])
    assert verify("--installed", "--path", site) == (0, [])
    assert (site / PACKAGE / "__pycache__").is_dir()


def test_a_wheel_an_installation_and_a_tree_have_one_fingerprint(made: World, site: Path, capsys: Capture) -> None:
    assert made.run("apply", SET, "--offline", "--no-smoke") == 0
    seals = set()
    for words in (("--dist", dist(made)), ("--installed", "--path", site), ("--tree", made.tree)):
        capsys.readouterr()
        assert made.run("verify", *map(str, words), "--json") == 0
        seals |= {verdict["fingerprint"] for verdict in json.loads(capsys.readouterr().out)["verdicts"]} - {""}
    assert seals == {fingerprint.of_folder(made.tree, PACKAGE)}


def test_pip_installs_what_verify_accepts_and_uninstalls_all_of_it(made: World, verify, tmp_path: Path) -> None:
    """The real installer in a real environment; the wheel's tags are the world's own, so pip is told not to look."""
    home = tmp_path / "node"
    venv.create(home, symlinks=True, with_pip=False)
    python = home / "bin" / "python"
    any_tag = dist(made) / f"{PACKAGE}-{PATCHED}-py3-none-any.whl"
    shutil.copyfile(dist(made) / WHEEL, any_tag)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
    before = manifest.walk(home, skip=())
    subprocess.run([*pip, "install", "-q", "--no-deps", "--no-index", str(any_tag)], check=True, capture_output=True)
    assert verify("--installed", "--python", python) == (0, [])
    (package,) = home.glob(f"lib/*/site-packages/{PACKAGE}")
    assert (package / "__pycache__").is_dir()
    subprocess.run([*pip, "uninstall", "-q", "-y", "tiny-ascend"], check=True, capture_output=True)
    assert manifest.walk(home, skip=()) == before
    code, findings = verify("--installed", "--python", python)
    assert code == 1 and f"{PACKAGE} is not installed" in findings[0]["detail"]


def test_an_installation_patched_in_place_is_accepted_for_what_it_is(made: World, verify, tmp_path: Path) -> None:
    upstream = tmp_path / name(TAGS[0])
    upstream.write_bytes(pack(members(TAGS[0])))
    place = install_wheel(upstream, tmp_path / "in-place")
    assert made.run("apply", SET, "--offline", "--target", str(place)) == 0
    assert verify("--installed", "--path", place) == (0, [])
    (place / PACKAGE / "comm.py").write_text("")
    code, findings = verify("--installed", "--path", place)
    assert code == 1 and "1 changed" in findings[0]["detail"]


# Tampering with a wheel


def requires_evil(files: dict[str, bytes]) -> None:
    path = f"{PATCHED_INFO}/METADATA"
    files[path] = files[path].replace(b"Requires-Python", b"Requires-Dist: evil\nRequires-Python")


@pytest.mark.parametrize("true_record", [False, True], ids=["RECORD as it was", "RECORD made right"])
@pytest.mark.parametrize(
    ("edit", "path", "kind"),
    [
        (append(RUNNER, b"#"), RUNNER, "changed"),
        (append(f"{PACKAGE}/_C.so", b"#"), f"{PACKAGE}/_C.so", "changed"),
        (append(f"{PACKAGE}/_build_info.py", b"#"), f"{PACKAGE}/_build_info.py", "changed"),
        (append(f"{PACKAGE}/evil.py", b"#"), f"{PACKAGE}/evil.py", "extra"),
        (append("evil.pth", b"import evil"), "evil.pth", "extra"),
        (append(f"{PATCHED_INFO}/entry_points.txt", b"#"), f"{PATCHED_INFO}/entry_points.txt", "changed"),
        (append(f"{PATCHED_INFO}/INSTALLER", b"pip"), f"{PATCHED_INFO}/INSTALLER", "extra"),
        (lambda files: files.pop(f"{PACKAGE}/comm.py"), f"{PACKAGE}/comm.py", "missing"),
        (lambda files: files.pop(f"{PACKAGE}/_C.so"), f"{PACKAGE}/_C.so", "missing"),
    ],
)
def test_a_wheel_with_another_file_is_seen(made: World, verify, edit, path: str, kind: str, true_record: bool) -> None:
    wheel = repack(dist(made) / WHEEL, edit, true_record=true_record)
    assert one(verify("--wheel", wheel)) == (path, kind)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda record: record.replace(b"=", b"=A", 1), FIRST),
        (lambda record: record.replace(b",0\n", b",1\n", 1), FIRST),
        (lambda record: b"\n".join(record.split(b"\n")[1:]), FIRST),
        (lambda record: record + record.split(b"\n")[0] + b"\n", FIRST),
        (lambda record: record.replace(b"sha256=", b"md5=", 1), FIRST),
        (lambda record: record + f"{PACKAGE}/ghost.py,,\n".encode(), f"{PACKAGE}/ghost.py"),
        (lambda record: record + b"one,two\n", "RECORD:18"),
        (
            lambda record: record.replace(record.split(b"\n")[0], f"{PACKAGE}/__init__.py,,".encode()),
            f"{PACKAGE}/__init__.py",
        ),
    ],
    ids=["digest", "size", "no row", "twice", "algorithm", "no file", "no row at all", "no digest"],
)
def test_an_edited_record_is_seen(made: World, verify, change, path: str) -> None:
    def edit(files: dict[str, bytes]) -> None:
        files[RECORD] = change(files[RECORD])

    found, kind = one(verify("--wheel", repack(dist(made) / WHEEL, edit)))
    assert found == path and kind in ("RECORD", "missing")


@pytest.mark.parametrize(
    ("record", "path"),
    [(b"\xff", "RECORD"), (b"a" * 200_000, "RECORD"), (f"{FIRST},sha256=A,0\n".encode(), FIRST)],
    ids=["not UTF-8", "a field without end", "no base64"],
)
def test_a_record_that_cannot_be_read(made: World, verify, record: bytes, path: str) -> None:
    wheel = repack(dist(made) / WHEEL, lambda files: files.update({RECORD: record}))
    code, findings = verify("--wheel", wheel)
    assert code == 1 and path in [row["path"] for row in findings if row["kind"] == "RECORD"]
    assert one(verify("--wheel", repack(wheel, lambda files: files.pop(RECORD)))) == (RECORD, "missing")


def test_a_manifest_that_agrees_with_a_changed_file_is_seen_by_the_set(made: World, verify) -> None:
    """Whoever can change a file can change manifest, fingerprint and RECORD too, but not the set.toml here."""

    def edit(files: dict[str, bytes]) -> None:
        files[RUNNER] += b"import evil\n"
        shas = {path: sha256(data) for path, data in files.items()}

        def adapt(document: dict[str, object]) -> None:
            document["files"][RUNNER] = shas[RUNNER]  # type: ignore[index]
            document["fingerprint"] = fingerprint.of(shas, PACKAGE)

        edit_manifest(files, adapt)

    wheel = repack(dist(made) / WHEEL, edit, true_record=True)
    assert one(verify("--wheel", wheel)) == (RUNNER, "changed")
    assert one(verify("--wheel", wheel, "--set", SET)) == (RUNNER, "changed")


def test_a_manifest_that_names_another_set_is_seen_where_the_set_is_named(made: World, verify) -> None:
    def rename(document: dict[str, object]) -> None:
        document["set"] = "v1.2.3"

    wheel = repack(dist(made) / WHEEL, lambda files: edit_manifest(files, rename), true_record=True)
    assert verify("--wheel", wheel) == (0, []), "nothing here knows that set"
    assert one(verify("--wheel", wheel, "--set", SET)) == (MANIFEST, "manifest")


@pytest.mark.parametrize(
    "says",
    [
        {"fingerprint": "0" * 64},
        {"version": VERSION},
        {"upstream": {"file": name(TAGS[0]), "sha256": "0" * 64}},
        {"package": "other"},  # else its author could have every check look elsewhere
    ],
    ids=lambda says: next(iter(says)),
)
def test_a_manifest_that_says_otherwise_is_seen(made: World, verify, says: dict[str, object]) -> None:
    wheel = repack(
        dist(made) / WHEEL, lambda files: edit_manifest(files, lambda own: own.update(says)), true_record=True
    )
    code, findings = verify("--wheel", wheel)
    assert code == 1 and (MANIFEST, "manifest") in [(row["path"], row["kind"]) for row in findings]
    assert len(findings) == 1 or "package" in says  # every file of the other package is missing, too


def test_a_wheel_under_another_version_is_seen(made: World, verify) -> None:
    wheel = dist(made) / WHEEL
    assert one(verify("--wheel", wheel.rename(wheel.with_name(wheel.name.replace("dp.1", "dp.2")))))[1] == "name"


@pytest.mark.parametrize(
    ("edit", "path", "kind"),
    [
        (append(f"{PACKAGE}/_C.so", b"#"), f"{PACKAGE}/_C.so", "changed"),
        (append(f"{PACKAGE}/evil.so", b"#"), f"{PACKAGE}/evil.so", "extra"),
        (lambda files: files.pop(f"{PACKAGE}/_build_info.py"), f"{PACKAGE}/_build_info.py", "missing"),
        (append("evil.pth", b"import evil\n"), "evil.pth", "extra"),
        (append(f"{PACKAGE}-{PATCHED}.data/scripts/evil", b"#"), f"{PACKAGE}-{PATCHED}.data/scripts/evil", "extra"),
        (append(f"{PATCHED_INFO}/entry_points.txt", b"#"), f"{PATCHED_INFO}/entry_points.txt", "changed"),
        (requires_evil, f"{PATCHED_INFO}/METADATA", "changed"),
        (append(f"{PATCHED_INFO}/evil.txt", b"#"), f"{PATCHED_INFO}/evil.txt", "extra"),
    ],
)
def test_what_the_set_has_no_say_in_is_as_in_upstreams_wheel(made: World, verify, edit, path: str, kind: str) -> None:
    """Manifest and RECORD agree with the change; the upstream wheel in the cache does not."""

    def forge(files: dict[str, bytes]) -> None:
        edit(files)
        kept = [path for path in files if path not in (MANIFEST, RECORD)]
        edit_manifest(files, lambda document: document.update(files={path: sha256(files[path]) for path in kept}))

    assert one(verify("--wheel", repack(dist(made) / WHEEL, forge, true_record=True))) == (path, kind)


# What is no patched wheel at all


def refused(found: tuple[int, list[dict[str, str]]], code: int = 1) -> str:
    assert found[0] == code and found[1][0]["kind"] == "error", found
    return found[1][0]["detail"]


def test_upstreams_wheel_is_told_from_ours(made: World, verify, tmp_path: Path) -> None:
    wheel = tmp_path / name(TAGS[0])
    wheel.write_bytes(pack(members(TAGS[0])))
    why = refused(verify("--wheel", wheel))
    assert f"{PACKAGE}-{VERSION} is not a patched build" in why and f"every Python file is upstream's {VERSION}" in why
    shutil.rmtree(made.root / "patches" / SET)
    assert "upstream's wheels have none" in refused(verify("--wheel", wheel))


def test_the_set_of_a_build_without_a_manifest_is_found_by_its_version(made: World, verify, tmp_path: Path) -> None:
    other = made.folder.with_name("v9.9.10")
    shutil.copytree(made.folder, other)
    text = (other / "set.toml").read_text()
    (other / "set.toml").write_text(text.replace(f'version = "{VERSION}"', 'version = "9.9rc2"'))
    place = made.site_packages(tmp_path / "site")
    assert f"every Python file is upstream's {VERSION}" in refused(verify("--installed", "--path", place, "--set", SET))
    wheel = tmp_path / name(TAGS[0])
    wheel.write_bytes(pack(members(TAGS[0])))
    assert f"every Python file is upstream's {VERSION}" in refused(verify("--wheel", wheel))


def test_an_archive_that_no_honest_wheel_is(made: World, verify) -> None:
    """test_wheel_entry has what is refused."""
    wheel = dist(made) / WHEEL
    whole = wheel.read_bytes()
    wheel.write_bytes(whole[:5000])
    assert "is not a readable zip archive" in refused(verify("--wheel", wheel))
    wheel.write_bytes(whole.replace(b"step_6 = answer", b"step_7 = answer"))
    assert "is damaged (its CRC-32 is another)" in refused(verify("--wheel", wheel))
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("../evil.py", "import evil\n")
    assert "leaves the tree" in refused(verify("--wheel", wheel))


def test_something_that_is_no_wheel(made: World, verify, tmp_path: Path) -> None:
    text = tmp_path / "notes.whl"
    text.write_text("not a zip file")
    assert "is not a readable zip archive" in refused(verify("--wheel", text))
    with zipfile.ZipFile(text, "w") as archive:
        archive.writestr("a.txt", "a")
    assert "has 0 .dist-info folders" in refused(verify("--wheel", text))
    assert "no such file" in refused(verify("--wheel", tmp_path / "nowhere.whl"), 2)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_flipped_bit_is_seen_unless_no_content_changes(made: World, verify, data: st.DataObject) -> None:
    """Of one wheel, dates and modes may change; of dist/<set>, nothing."""
    wheel = dist(made) / WHEEL
    before = wheel.read_bytes()
    flipped = bytearray(before)
    flipped[data.draw(st.integers(0, len(before) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        wheel.write_bytes(flipped)
        assert verify("--dist", dist(made))[0] == 1
        if verify("--wheel", wheel)[0] == 0:
            assert content(wheel) == contents_of(before, wheel)
    finally:
        wheel.write_bytes(before)


def contents_of(data: bytes, wheel: Path) -> dict[str, str]:
    wheel.write_bytes(data)
    return content(wheel)


def content(wheel: Path) -> dict[str, str]:
    return build.read_wheel(wheel).digests


@pytest.mark.parametrize(
    ("data", "code", "why"),
    [
        (b'{"format": 1, "set": ', 1, "is damaged: not JSON"),
        (b"\xff", 1, "is damaged: not JSON"),
        (b"[" * 100_000, 1, "is damaged: not JSON"),
        (b"[]", 1, "names no format"),
        (b'{"format": 2}', 2, "is of format 2; this program reads 1"),
        (b'{"format": 1}', 1, "set is missing"),
        (json.dumps(dict.fromkeys(TEXTS, "") | {"format": 1}).encode(), 1, "made from"),
        (json.dumps(dict.fromkeys(TEXTS, "") | {"format": 1, "upstream": {"sha256": ""}}).encode(), 1, "no files"),
    ],
)
def test_a_manifest_that_cannot_be_read(made: World, verify, data: bytes, code: int, why: str) -> None:
    wheel = repack(dist(made) / WHEEL, lambda files: files.update({MANIFEST: data}), true_record=True)
    assert why in refused(verify("--wheel", wheel), code)


@pytest.mark.parametrize(("path", "sha"), [("../evil.py", "0" * 64), (RUNNER, "0" * 63), (RUNNER, 7)])
def test_a_manifest_with_a_row_that_is_none(made: World, verify, path: str, sha: object) -> None:
    def edit(document: dict[str, object]) -> None:
        document["files"] = {path: sha}

    wheel = repack(dist(made) / WHEEL, lambda files: edit_manifest(files, edit), true_record=True)
    assert "is damaged" in refused(verify("--wheel", wheel))


def test_one_bad_wheel_of_many_does_not_hide_the_others(made: World, verify) -> None:
    first, second = (dist(made) / name(tag, PATCHED) for tag in TAGS)
    first.write_bytes(b"PK")
    repack(second, append(RUNNER, b"#"))
    code, findings = verify("--wheel", first, second)
    assert code == 1 and [row["kind"] for row in findings] == ["refused", "changed"]


# Installations


@pytest.mark.parametrize(
    ("path", "data", "kind"),
    [
        (RUNNER, b"#", "changed"),
        (f"{PACKAGE}/_C.so", b"#", "changed"),
        (f"{PACKAGE}/evil.py", b"#", "extra"),
        (f"{PACKAGE}/comm.pyc", b"#", "extra"),
        (f"{PACKAGE}/sub/evil.so", b"#", "extra"),
        (f"{PATCHED_INFO}/entry_points.txt", b"#", "changed"),
        (f"{PATCHED_INFO}/evil.txt", b"#", "extra"),
    ],
)
def test_an_installation_with_another_file_is_seen(verify, site: Path, path: str, data: bytes, kind: str) -> None:
    (site / path).parent.mkdir(exist_ok=True)
    with (site / path).open("ab") as file:
        file.write(data)
    assert one(verify("--installed", "--path", site)) == (path, kind)


def test_an_installation_with_a_file_gone_or_linked_is_seen(verify, site: Path) -> None:
    file = site / PACKAGE / "comm.py"
    file.rename(site / "elsewhere.py")
    assert one(verify("--installed", "--path", site)) == (f"{PACKAGE}/comm.py", "missing")
    file.symlink_to(site / "elsewhere.py")
    assert one(verify("--installed", "--path", site)) == (f"{PACKAGE}/comm.py", "changed")


def test_an_installation_whose_record_was_edited_is_seen(verify, site: Path) -> None:
    record = site / RECORD
    kept = [row for row in record.read_text().splitlines() if not row.startswith(f"{PACKAGE}/comm.py,")]
    record.write_text("\n".join(kept) + "\n")
    assert one(verify("--installed", "--path", site)) == (f"{PACKAGE}/comm.py", "RECORD")
    record.unlink()
    assert one(verify("--installed", "--path", site)) == (RECORD, "missing")


def test_a_file_that_an_installation_has_elsewhere_is_seen(verify, site: Path) -> None:
    """What a wheel with a .pth leaves behind."""
    (site / "evil.pth").write_text("import evil\n")
    with (site / RECORD).open("a") as record:
        record.write("evil.pth,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0\n")
    assert one(verify("--installed", "--path", site)) == ("evil.pth", "extra")


def test_what_others_install_beside_it_is_not_its_business(verify, site: Path) -> None:
    write_tree(site, {"torch/__init__.py": "", "torch-2.7.1.dist-info/RECORD": "nonsense"})
    compileall.compile_dir(site, quiet=2, optimize=2)
    (site / PATCHED_INFO / "direct_url.json").write_text("{}")
    assert verify("--installed", "--path", site) == (0, [])


def test_no_installation(verify, tmp_path: Path) -> None:
    assert f"{PACKAGE} is not installed" in refused(verify("--installed", "--path", tmp_path))
    assert "no such folder" in refused(verify("--installed", "--path", tmp_path / "none"), 2)
    write_tree(tmp_path / "checkout", {f"{PACKAGE}/__init__.py": ""})
    why = refused(verify("--installed", "--path", tmp_path / "checkout"))
    assert f"its code lies in {tmp_path / 'checkout'}, uninstalled" in why


def test_several_installations(made: World, verify, site: Path) -> None:
    leftover = site / f"{PACKAGE}-{VERSION}.dist-info"
    leftover.mkdir()
    why = refused(verify("--installed", "--path", site))
    assert "is installed 2 times" in why and str(leftover) in why


def fake_python(folder: Path, *entries: Path) -> Path:
    """An interpreter that searches these folders first."""
    script = folder / "python"
    script.write_text(f'#!/bin/sh\nPYTHONPATH={":".join(map(str, entries))} exec {sys.executable} -S "$@"\n')
    script.chmod(0o755)
    return script


def test_code_that_hides_the_installation(verify, site: Path, tmp_path: Path) -> None:
    hiding = tmp_path / "hiding"
    write_tree(hiding, {f"{PACKAGE}/__init__.py": ""})
    assert verify("--installed", "--python", fake_python(tmp_path, site, hiding)) == (0, [])
    why = refused(verify("--installed", "--python", fake_python(tmp_path, hiding, site)))
    assert f"Python imports {hiding / PACKAGE}, not the installation in {site}" in why


def test_an_editable_installation(made: World, verify, tmp_path: Path) -> None:
    info = tmp_path / f"{PACKAGE}-{VERSION}.dist-info"
    write_tree(tmp_path, {f"{info.name}/direct_url.json": json.dumps({"url": made.tree.as_uri(), "dir_info": {}})})
    assert f"is editable: its code lies in {made.tree}" in refused(verify("--installed", "--path", tmp_path))


def test_the_python_that_runs_it(made: World, verify) -> None:
    """The tool's own environment, which has no vllm-ascend."""
    assert f"{PACKAGE} is not installed" in refused(verify("--installed"))


@pytest.mark.parametrize("url", ["{", json.dumps({"url": "https://example.invalid/x.whl"}), "[]"])
def test_an_installation_whose_package_is_gone(verify, site: Path, url: str) -> None:
    shutil.rmtree(site / PACKAGE)
    (site / PATCHED_INFO / "direct_url.json").write_text(url)
    code, findings = verify("--installed", "--path", site)
    assert code == 1 and {row["kind"] for row in findings} == {"missing"} and len(findings) > 5


@pytest.mark.parametrize("python", ["/nowhere/python", "/bin/false", "/bin/echo"])
def test_a_python_that_does_not_answer(verify, python: str) -> None:
    assert "is no Python that runs" in refused(verify("--installed", "--python", python), 2)


# Trees


def test_a_tree_is_held_to_set_toml(made: World, verify) -> None:
    assert made.run("apply", SET, "--offline", "--no-smoke") == 0
    assert verify("--tree", made.tree, "--set", SET) == (0, [])
    (made.tree / PACKAGE / "evil.py").write_text("")
    assert one(verify("--tree", made.tree)) == (f"{PACKAGE}/evil.py", "extra")
    (made.tree / PACKAGE / "evil.py").unlink()
    (made.tree / "setup.py").write_text("import evil\n")
    assert one(verify("--tree", made.tree)) == ("setup.py", "changed")
    (made.tree / "setup.py").unlink()
    assert one(verify("--tree", made.tree)) == ("setup.py", "missing")


def test_an_unpatched_tree_is_named_file_by_file(made: World, verify, tmp_path: Path) -> None:
    code, findings = verify("--tree", made.checkout(tmp_path / "checkout"))
    assert code == 1
    assert {(row["path"], row["kind"]) for row in findings} == {
        (RUNNER, "changed"),
        (f"{PACKAGE}/old.py", "extra"),
        (f"{PACKAGE}/new.py", "missing"),
        (f"{PACKAGE}/data_parallel/__init__.py", "missing"),
        (f"{PACKAGE}/data_parallel/plan.py", "missing"),
    }
    assert {row["detail"] for row in findings if row["path"] == RUNNER} == {"is upstream's, not patched"}


def test_a_folder_that_holds_no_package(verify, tmp_path: Path) -> None:
    assert f"holds no {PACKAGE}/" in refused(verify("--tree", tmp_path), 2)


# Options


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), "one of the arguments"),
        (("--installed", "--dist", "d"), "not allowed with"),
        (("--dist", "d", "--path", "p"), "--path goes with --installed"),
        (("--wheel", "w", "--key", "k"), "--key goes with --dist"),
        (("--installed", "--path", "p", "--python", "q"), "the same thing twice"),
        (("--dist", "nowhere"), "no such folder"),
        (("--wheel", "nowhere"), "no such file"),
        (("--tree", ".", "--set", "v0"), "no patch set 'v0'"),
    ],
)
def test_options_that_make_no_sense(verify, words: tuple[str, ...], why: str) -> None:
    assert why in refused(verify(*words), 2)


def test_a_tree_of_one_of_several_sets(made: World, verify) -> None:
    shutil.copytree(made.folder, made.folder.with_name("v9.9.10"))
    assert "nothing says which set" in refused(verify("--tree", made.root), 2)


def test_the_words_for_people(made: World, capsys: Capture) -> None:
    wheel = repack(dist(made) / WHEEL, append(RUNNER, b"#"))
    capsys.readouterr()
    assert made.run("verify", "--wheel", str(wheel)) == 1
    out = capsys.readouterr().out
    assert out.startswith(f"differs: {wheel}: ")
    assert f"\n  changed  {RUNNER}: sha256 " in out
