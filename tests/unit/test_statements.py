# SPDX-License-Identifier: Apache-2.0
"""What wheels say of themselves: held to the formats' schemas, and to the truth."""

from __future__ import annotations

import json
import shutil
import zipfile
from datetime import UTC
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from conftest import COMMIT, PACKAGE, SET, UPSTREAM, VERSION, World, sha256
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from verify_world import WHEEL, made, once  # noqa: F401 - fixtures
from wheel_world import PATCHED, PATCHED_INFO, TAGS, dist, name, tree

from patchset import __version__
from patchset.node import fingerprint
from patchset.plan import plan
from patchset.sets import series, setfile
from patchset.wheels import statements
from patchset.wheels.wheel import Build, canonical

SCHEMA = json.loads((Path(__file__).parent / "provenance.schema.json").read_text())
SBOM, INSIDE, MANIFEST = "sboms/patchset.cdx.json", "sboms/patchset.intoto.json", "patchset.json"


def member(made: World, path: str, wheel: str = WHEEL) -> bytes:
    with zipfile.ZipFile(dist(made) / wheel) as archive:
        return archive.read(f"{PATCHED_INFO}/{path}")


def stated(made: World, path: str, wheel: str = WHEEL) -> Any:
    return json.loads(member(made, path, wheel))


def contents(made: World, wheel: str = WHEEL) -> dict[str, str]:
    """sha256 of each file of a wheel."""
    with zipfile.ZipFile(dist(made) / wheel) as archive:
        return {path: sha256(archive.read(path)) for path in archive.namelist() if not path.endswith("/")}


def check_provenance(document: Any) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker()).validate(document)


# The SBOM


@pytest.mark.parametrize("tag", TAGS)
def test_the_sbom_is_cyclonedx_1_6(made: World, tag: str) -> None:
    data = member(made, SBOM, name(tag, PATCHED)).decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(data) is None
    broken = data.replace('"type":"library"', '"type":"librarian"')
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(broken) is not None, "the validator looks"


def test_the_sbom_names_the_upstream_wheel_and_its_own(made: World) -> None:
    wheel = stated(made, SBOM)["metadata"]["component"]
    upstream = name(TAGS[1])
    (ancestor,) = wheel["pedigree"]["ancestors"]
    pinned = {pin.file: pin for pin in setfile.load_set(SET).ascend.wheels}[upstream]
    assert ancestor["hashes"] == [{"alg": "SHA-256", "content": pinned.sha256}]
    assert ancestor["purl"] == f"pkg:pypi/{pinned.project}@{VERSION}?file_name={upstream}"
    assert (wheel["version"], wheel["licenses"]) == (PATCHED, [{"license": {"id": "Apache-2.0"}}])
    assert wheel["purl"] == f"pkg:pypi/{pinned.project}@{VERSION}%2Bdp.1?file_name={WHEEL.replace('+', '%2B')}"
    assert [commit["uid"] for commit in wheel["pedigree"]["commits"]] == [COMMIT]
    properties = {row["name"]: row["value"] for row in wheel["properties"]}
    assert properties["patchset:tree"] == setfile.load_set(SET).tree
    assert properties["patchset:fingerprint"] == fingerprint.of(contents(made), PACKAGE)


def test_the_sbom_holds_every_patch_and_what_it_resolves(made: World) -> None:
    patches = stated(made, SBOM)["metadata"]["component"]["pedigree"]["patches"]
    expected = {
        f"patches/{SET}/{patch.name}#sha256={sha256((made.folder / patch.name).read_bytes())}": patch
        for patch in series.load(made.folder)
    }
    assert len(expected) == 3
    assert {row["diff"]["url"]: row["diff"]["text"]["content"].encode() for row in patches} == {
        url: patch.diff for url, patch in expected.items()
    }
    for row in patches:
        assert row["type"] == "unofficial"
        assert [(issue["type"], issue["id"]) for issue in row["resolves"]] == [("defect", "D1"), ("defect", "D3")]


def test_titles_come_from_the_table_of_defects(made: World) -> None:
    table = made.root / "tests" / "smoke" / "defects.toml"
    table.parent.mkdir(parents=True)
    table.write_text('[titles]\nD1 = "the first"\nD3a = "one part"\nD3b = "another"\n')
    patch = made.folder / "0001-steps.patch"
    header = "Related-PR: owner/project#12, owner/other#3\nUpstream-Status: Backport [#12]\n"
    patch.write_text(patch.read_text().replace("Upstream-Status: Pending\n", header))
    assert made.run("wheels", SET, "--offline") == 0
    patches = stated(made, SBOM)["metadata"]["component"]["pedigree"]["patches"]
    (row,) = [row for row in patches if "0001-steps" in row["diff"]["url"]]
    assert row["type"] == "backport"
    assert {issue["id"]: issue["name"] for issue in row["resolves"]} == {
        "D1": "the first",
        "D3a": "one part",
        "D3b": "another",
    }
    for issue in row["resolves"]:
        assert issue["references"] == [
            "https://github.com/owner/other/pull/3",
            "https://github.com/owner/project/pull/12",
        ]


def test_the_sbom_lists_the_overlay(made: World) -> None:
    files = contents(made)
    components = {row["name"]: row["hashes"][0]["content"] for row in stated(made, SBOM)["components"]}
    assert components == {path: sha for path, sha in files.items() if path.startswith(f"{PACKAGE}/data_parallel/")}
    assert len(components) == 2


def test_no_clock_and_no_chance(made: World) -> None:
    before = tree(dist(made))
    shutil.rmtree(dist(made))
    assert made.run("wheels", SET, "--offline") == 0
    assert tree(dist(made)) == before
    dates = [patch.header.date for patch in series.load(made.folder)]
    assert stated(made, SBOM)["metadata"]["timestamp"] == max(dates).astimezone(UTC).isoformat()
    serials = {stated(made, SBOM, name(tag, PATCHED))["serialNumber"] for tag in TAGS}
    assert len(serials) == len(TAGS), "one for each wheel"
    assert made.run("wheels", SET, "--offline", "--local", "dp.2") == 0
    with zipfile.ZipFile(dist(made) / WHEEL.replace("dp.1", "dp.2")) as archive:
        (path,) = [path for path in archive.namelist() if path.endswith("cdx.json")]
        assert json.loads(archive.read(path))["serialNumber"] not in serials, "another build, another number"


# Provenance


def dependencies(made: World, upstream: list[str]) -> dict[str, dict[str, str]]:
    pins = {pin.file: pin for pin in setfile.load_set(SET).ascend.wheels}
    overlay = made.root / "overlay" / "shared"
    return {
        **{file: {"sha256": pins[file].sha256} for file in upstream},
        "vllm-ascend": {"gitCommit": COMMIT},
        **{f"patches/{SET}/{one}": {"sha256": sha256((made.folder / one).read_bytes())} for one in made.names},
        **{
            f"overlay:{file.relative_to(overlay).as_posix()}": {"sha256": sha256(file.read_bytes())}
            for file in sorted(overlay.rglob("*.py"))
        },
    }


@pytest.mark.parametrize("tag", TAGS)
def test_the_provenance_in_a_wheel(made: World, tag: str) -> None:
    wheel = name(tag, PATCHED)
    document = stated(made, INSIDE, wheel)
    check_provenance(document)
    files = {path: sha for path, sha in contents(made, wheel).items() if path.startswith(f"{PACKAGE}/")}
    subjects = {row["name"]: row["digest"] for row in document["subject"]}
    assert subjects.pop(f"{PACKAGE}, by its fingerprint") == {"dirHash": fingerprint.of(files, PACKAGE)}
    assert subjects == {path: {"sha256": sha} for path, sha in files.items()}
    definition = document["predicate"]["buildDefinition"]
    assert definition["externalParameters"] == {"set": SET, "version": PATCHED, "from": "wheels"}
    found = {row["name"]: row["digest"] for row in definition["resolvedDependencies"]}
    assert found == dependencies(made, [name(tag)])
    assert document["predicate"]["runDetails"]["builder"]["version"] == {"patchset": __version__}


def test_the_provenance_beside_the_wheels(made: World) -> None:
    document = json.loads((dist(made) / "provenance.intoto.json").read_bytes())
    check_provenance(document)
    wheels = {file.name: sha256(file.read_bytes()) for file in dist(made).glob("*.whl")}
    assert {row["name"]: row["digest"]["sha256"] for row in document["subject"]} == wheels
    found = {row["name"]: row["digest"] for row in document["predicate"]["buildDefinition"]["resolvedDependencies"]}
    assert found == dependencies(made, [name(tag) for tag in TAGS])


@pytest.mark.parametrize(
    "edit",
    [
        lambda document: document["subject"][0]["digest"].update(sha256="ABC"),
        lambda document: document["predicate"]["runDetails"]["builder"].pop("id"),
        lambda document: document["predicate"]["buildDefinition"]["resolvedDependencies"].append({"name": "bare"}),
    ],
)
def test_the_schema_refuses_what_the_specifications_refuse(made: World, edit: Any) -> None:
    document = json.loads((dist(made) / "provenance.intoto.json").read_bytes())
    edit(document)
    with pytest.raises(jsonschema.ValidationError):
        check_provenance(document)


# patchset.json


def test_the_manifest_lists_every_other_file(made: World) -> None:
    document, files = stated(made, MANIFEST), contents(made)
    own = {f"{PATCHED_INFO}/{path}" for path in (MANIFEST, "RECORD")}
    assert document["files"] == {path: sha for path, sha in files.items() if path not in own}
    patch_set = setfile.load_set(SET)
    patched = plan.patched_manifest(patch_set.sources(), patch_set.touched)
    assert document["fingerprint"] == fingerprint.of(patched, PACKAGE)
    assert (document["set"], document["package"], document["version"]) == (SET, PACKAGE, PATCHED)


@pytest.mark.parametrize("path", [SBOM, INSIDE, MANIFEST])
def test_statements_have_one_form(made: World, path: str) -> None:
    data = member(made, path)
    assert canonical(json.loads(data)) == data


def test_no_host_or_folder_of_the_maker_is_told(made: World) -> None:
    for data in [member(made, path) for path in (SBOM, INSIDE, MANIFEST)] + [
        (dist(made) / file).read_bytes() for file in ("provenance.intoto.json", "patchset-node.pyz")
    ]:
        assert str(made.root).encode() not in data
        assert str(Path(__file__).parents[2]).encode() not in data


def test_the_provenance_of_a_build_from_source(made: World) -> None:
    patch_set = setfile.load_set(SET)
    worked_out = plan.make(patch_set, lambda path: UPSTREAM[path].encode())
    files = {f"{PACKAGE}/a.py": "0" * 64}
    document = json.loads(statements.provenance(Build(worked_out, patch_set.ascend.sdist, PATCHED, "a.whl", files)))
    check_provenance(document)
    definition = document["predicate"]["buildDefinition"]
    assert definition["externalParameters"]["from"] == "source"
    assert definition["resolvedDependencies"][0]["digest"] == {"sha256": sha256(made.sdist)}
