# SPDX-License-Identifier: Apache-2.0
"""The checks of a cluster without one: what is expected, what rows come of events, how the driver is watched.

tests/cluster has the same with Ray.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import wheel_world
from conftest import PACKAGE, SET, VERSION, Capture, World, sha256

from patchset import cli
from patchset.node import errors, fingerprint
from patchset.node import expected as carried
from patchset.node.cluster import main, report, watch
from patchset.node.cluster.report import ClusterReport, NodeRow, RankRow, Verdict
from patchset.node.cluster.schedule import Schedule, agreed
from patchset.node.cluster.survey import survey
from patchset.node.expected import Expected
from patchset.sets.setfile import load_set
from patchset.wheels import kit

UPSTREAM = {"vllm_ascend/a.py": "1" * 64, "vllm_ascend/b.py": "2" * 64}
PATCHED = {"vllm_ascend/a.py": "3" * 64, "vllm_ascend/b.py": "2" * 64, "vllm_ascend/c.py": "4" * 64}
RELEASE = "0.10.1rc1"
EXPECTED = Expected(
    *("v1", "vllm_ascend", RELEASE, RELEASE, "0.10.1.1", "2.7.1", "2.7.1.dev1", "8.2.RC1"), PATCHED, UPSTREAM
)
VERSIONS = {"vllm-ascend": "0.10.1rc1+dp.1", "vllm": "0.10.1.1+empty", "torch": "2.7.1+cpu", "torch-npu": "2.7.1.dev1"}
STATE: dict[str, Any] = {
    "python": "3.10.4",
    "arch": "aarch64",
    "versions": VERSIONS,
    "cann": "8.2.RC1",
    "root": "/site-packages",
    "files": PATCHED,
}


def introduced(*ids: str, **more: Any) -> dict[str, Any]:
    rows = [{"id": one, "host": "h", "address": "10.0.0.1", "name": one, "alive": True, "why": ""} for one in ids]
    return {"nodes": [{**row, **more} for row in rows]}


def judged(**state: Any) -> NodeRow:
    """The row of one node among three, of which the others are fine."""
    events = [introduced("n0", "n1", "n2"), *({"node": one, "survey": STATE} for one in ("n0", "n1"))]
    return report.nodes([*events, {"node": "n2", "survey": {**STATE, **state}}], EXPECTED, limit=5)[2]


def versions(**changed: str | None) -> dict[str, Any]:
    return {"versions": VERSIONS | {name.replace("_", "-"): version for name, version in changed.items()}}


# What nodes must have.


def test_a_set_expects_what_applying_it_gives(world: World) -> None:
    assert world.run("apply", SET, "--no-smoke", "--offline") == 0
    expected = kit.expect(load_set(SET))
    assert expected.fingerprint == fingerprint.of_folder(world.tree, PACKAGE)
    assert fingerprint.of(expected.pristine, PACKAGE) == fingerprint.of_folder(
        world.checkout(world.root / "x"), PACKAGE
    )
    assert expected.version == expected.release == VERSION


def test_wheels_expect_what_is_in_them_and_their_version(world: World) -> None:
    wheel_world.publish(world)
    assert world.run("wheels", SET, "--offline") == 0
    made = (wheel_world.dist(world) / kit.NAME).read_bytes()
    with zipfile.ZipFile(io.BytesIO(made)) as archive:
        expected = carried.parse(archive.read("patchset/node/expected.json"))
    assert expected.version == wheel_world.PATCHED
    assert replace(expected, version=VERSION, manifests={}) == kit.expect(load_set(SET))
    assert f"{sha256(made)}  {kit.NAME}\n" in (wheel_world.dist(world) / "SHA256SUMS").read_text()


# The kit.


def test_a_kit_has_the_same_bytes_each_time(world: World) -> None:
    expected = kit.expect(load_set(SET))
    assert kit.build(expected) == kit.build(kit.expect(load_set(SET)))
    assert carried.parse(expected.render()) == expected


def test_the_kit_says_that_there_is_no_ray_here(tmp_path: Path) -> None:
    (tmp_path / kit.NAME).write_bytes(kit.build(EXPECTED))
    command = [sys.executable, "-I", kit.NAME, "cluster", "verify", "--json"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 6
    error = json.loads(ended.stdout)["error"]
    assert error["message"].startswith(f"{sys.executable} cannot import Ray: ")
    assert error["hint"] == "run it with the Python that vLLM runs on, on a node"
    assert f"error: {error['message']}\nnext: {error['hint']}\n" in ended.stderr


# The command line.


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "required: COMMAND"),
        (["fly"], "invalid choice: 'fly'"),
        (["smoke", SET], "required: --dp"),
        (["smoke", SET, "--dp", "0"], "argument --dp: '0' is not a whole number of 1 or more"),
        (["smoke", SET, "--dp", "2", "--steps", "x"], "argument --steps: 'x' is not a whole number of 1 or more"),
        (["verify", SET, "--timeout", "nan"], "argument --timeout: 'nan' is not a number of seconds"),
        (["verify", SET, "--timeout=-1"], "argument --timeout: '-1' is not a number of seconds"),
        (["verify", "v0"], "no patch set 'v0'"),
        (["verify", SET, "--python", "/nowhere/python"], "--python /nowhere/python: no such program"),
    ],
)
def test_a_usage_error_is_one_message_and_exit_2(world: World, words: list[str], why: str, capsys: Capture) -> None:
    assert cli.main(["cluster", *words]) == 2
    out, err = capsys.readouterr()
    assert why in err and "\nnext: " in err and err.count("error:") == 1 and out == ""


def test_the_kit_gets_every_option_and_its_exit_code_is_ours(world: World, tmp_path: Path) -> None:
    python, heard = tmp_path / "python", tmp_path / "heard"
    python.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {heard}\nexit 6\n')
    python.chmod(0o755)
    options = ["--address=h:1", "--timeout=9.0", "--nodes=3", "--dp=4", "--steps=5", "--seed=6"]
    options += ["--group=cpu", "--device=npu"]
    assert world.run("cluster", "smoke", SET, "--python", str(python), *options, "--json") == 6
    file, *words = heard.read_text().splitlines()
    assert Path(file).name == kit.NAME and words == ["cluster", "smoke", *options, "--json"]
    assert not Path(file).exists()


# Rows.


@pytest.mark.parametrize(
    ("state", "verdict", "why"),
    [
        ({}, Verdict.FINE, ""),
        ({"files": UPSTREAM}, Verdict.UNPATCHED, "/site-packages is upstream's release, without the patches"),
        (
            {"files": {"vllm_ascend/a.py": "3" * 64, "vllm_ascend/b.py": "5" * 64, "vllm_ascend/d.py": "6" * 64}},
            Verdict.DIFFERS,
            "/site-packages: vllm_ascend/b.py changed, vllm_ascend/c.py missing, vllm_ascend/d.py unknown",
        ),
        ({"root": None, "files": {}}, Verdict.ABSENT, "an import finds no vllm_ascend"),
        (versions(vllm="0.10.2"), Verdict.VERSIONS, "vllm is 0.10.2, not 0.10.1.1"),
        (versions(vllm_ascend="0.10.2rc1"), Verdict.VERSIONS, "vllm-ascend is 0.10.2rc1, not 0.10.1rc1"),
        (versions(torch=None), Verdict.VERSIONS, "torch is not there, not 2.7.1"),
        (versions(torch_npu="2.7.1"), Verdict.VERSIONS, "torch-npu is 2.7.1, 2.7.1.dev1 on other nodes"),
        ({"cann": None}, Verdict.VERSIONS, "cann is not there, 8.2.RC1 on other nodes"),
        ({"python": "3.11.1"}, Verdict.VERSIONS, "python is 3.11, 3.10 on other nodes"),
        ({"python": "3.10.9"}, Verdict.FINE, ""),
    ],
)
def test_a_node_is_held_against_the_build_and_the_others(state: dict[str, Any], verdict: Verdict, why: str) -> None:
    row = judged(**state)
    assert (row.verdict, row.why) == (verdict, why)
    assert ClusterReport(EXPECTED, (row,)).exit_code == (verdict is not Verdict.FINE)


def test_many_files_that_differ_are_counted() -> None:
    row = judged(files={f"vllm_ascend/{number:02}.py": "0" * 64 for number in range(30)})
    assert row.why.count("unknown") == 8 and row.why.endswith(", and 25 more") and len(row.files) == 33


def test_wheels_want_their_local_version() -> None:
    expected = replace(EXPECTED, version="0.10.1rc1+dp.2")
    events = [introduced("n0"), {"node": "n0", "survey": STATE}]
    assert report.nodes(events, expected, limit=5)[0].why == "vllm-ascend is 0.10.1rc1+dp.1, not 0.10.1rc1+dp.2"


def test_what_gives_no_state() -> None:
    events = [introduced("n0", "n1", "n2"), introduced("n3", alive=False, why="its host is gone")]
    events += [{"node": "n0", "failed": "OSError: no"}, {"node": "n1", "lost": "the worker died"}]
    rows = report.nodes(events, EXPECTED, limit=5)
    assert [(row.verdict, row.why) for row in rows] == [
        (Verdict.FAILED, "OSError: no"),
        (Verdict.LOST, "the worker died"),
        (Verdict.SILENT, "no answer in 5 s"),
        (Verdict.LOST, "its host is gone"),
    ]


def test_a_rank_must_come_to_what_is_computed_directly() -> None:
    schedule = Schedule(seed=3, steps=4, ranks=5)
    right = {"digest": schedule.digest(), "wrong": ""}
    events = [
        {"ranks": ["n0", "n0", "n1", "n1", "gone"], "device": "npu"},
        {"rank": 0, "result": right},
        {"rank": 1, "result": {"digest": Schedule(4, 4, 5).digest(), "wrong": ""}},
        {"rank": 2, "failed": "RuntimeError: timed out"},
        {"rank": 3, "lost": "the actor died"},
    ]
    nodes = (NodeRow("n0", "host 0", Verdict.FINE), NodeRow("n1", "host 1", Verdict.FINE))
    rows = report.ranks(events, nodes, schedule, limit=9)
    assert rows == (
        RankRow(0, "host 0", Verdict.FINE, "", right),
        RankRow(1, "host 0", Verdict.WRONG, "other steps than were asked for", events[2]["result"]),
        RankRow(2, "host 1", Verdict.FAILED, "RuntimeError: timed out"),
        RankRow(3, "host 1", Verdict.LOST, "the actor died"),
        RankRow(4, "gone", Verdict.SILENT, "no answer in 9 s"),
    )


@pytest.mark.parametrize(
    ("nodes", "ranks", "missing", "code"),
    [
        ([Verdict.FINE], [Verdict.FINE], (), 0),
        ([Verdict.FINE], [Verdict.WRONG], (), 1),
        ([Verdict.UNPATCHED, Verdict.FINE], [], (), 1),
        ([Verdict.UNPATCHED, Verdict.LOST], [], (), 6),
        ([Verdict.FINE], [Verdict.FAILED, Verdict.SILENT], (), 6),
        ([Verdict.FINE], [Verdict.FINE], ("a node",), 6),
        ([], [], ("every node",), 6),
    ],
)
def test_one_exit_code(nodes: list[Verdict], ranks: list[Verdict], missing: tuple[str, ...], code: int) -> None:
    node_rows = tuple(NodeRow("id", "name", verdict) for verdict in nodes)
    rank_rows = tuple(RankRow(0, "name", verdict) for verdict in ranks)
    assert ClusterReport(EXPECTED, node_rows, rank_rows, missing).exit_code == code


def test_a_smoke_run_is_told_as_tables_or_as_a_document(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    times = {"device": "cpu, gloo", "joined": 1.0, "first": 2.0, "median": 3.0, "slowest": 4.0}

    def driver(task: dict[str, Any], limit: float) -> list[dict[str, Any]]:
        if task["do"] == "survey":
            return [introduced("n0"), {"node": "n0", "survey": STATE}]
        digest = Schedule(task["seed"], task["steps"], task["ranks"]).digest()
        came = [{"rank": rank, "result": {**times, "digest": digest, "wrong": ""}} for rank in range(task["ranks"])]
        return [{"ranks": ["n0", "n0"]}, *came]

    monkeypatch.setattr(watch, "run", driver)
    smoke = ["cluster", "smoke", "--dp=2", "--steps=5"]
    assert main.main(smoke, EXPECTED) == 0
    out, err = capsys.readouterr()
    assert "\n1     h 10.0.0.1 n0  cpu, gloo  1.0       2.0       3.0        4.0         ok\n" in out
    assert out.endswith("\n1 of 1 nodes ok, 2 of 2 ranks came to what was computed directly\n")
    assert err.endswith("* 2 ranks make 5 steps over the device group\n")
    assert main.main([*smoke, "--json"], EXPECTED) == 0
    assert [row["verdict"] for row in json.loads(capsys.readouterr().out)["ranks"]] == ["ok", "ok"]
    assert main.main(["cluster", "verify", "--nodes=2"], EXPECTED) == 6
    assert "\n1 of 2 nodes are in the cluster\n" in capsys.readouterr().out


# Steps.


def test_batches_come_from_the_seed_alone_and_leave_nothing_out() -> None:
    schedule = Schedule(seed=0, steps=300, ranks=4)
    steps = [schedule.batches(step) for step in range(schedule.steps)]
    assert steps == [Schedule(0, 300, 4).batches(step) for step in range(300)]
    assert schedule.digest() != Schedule(1, 300, 4).digest()
    for value in range(1, 4):  # each flag, and its opposite, comes out of some step
        assert {agreed(batches)[value] for batches in steps} == {True, False}
    assert any(1 in agreed(batches)[0] for batches in steps)


# What a node has.


def test_a_survey_of_this_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "made_up_package"
    (package / "sub").mkdir(parents=True)
    for path in ("__init__.py", "sub/a.py", "_version.py", "sub/b.so"):
        (package / path).write_text(path)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = survey("made_up_package")
    assert found["root"] == str(tmp_path)
    assert found["files"] == {f"made_up_package/{path}": sha256(path.encode()) for path in ("__init__.py", "sub/a.py")}
    assert "made_up_package" not in sys.modules
    assert survey("no_such_package")["root"] is None
    assert json.loads(json.dumps(found)) == found


def test_the_version_of_cann_is_in_the_toolkit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / f"{survey('x')['arch']}-linux" / "ascend_toolkit_install.info"
    info.parent.mkdir()
    info.write_text("package_name=Ascend-cann-toolkit\nversion=8.2.RC1\ninnerversion=V100\n")
    monkeypatch.setenv("ASCEND_TOOLKIT_HOME", str(tmp_path))
    assert survey("x")["cann"] == "8.2.RC1"


# The driver's process.


def drive(monkeypatch: pytest.MonkeyPatch, program: str, limit: float = 20.0) -> list[Any]:
    """Watches this program in the driver's place."""
    monkeypatch.setattr(watch, "_DRIVE", f"import json, os, sys, time\ntask = json.loads(sys.argv[-1])\n{program}")
    return watch.run({"do": "nothing"}, limit)


def test_a_driver_that_hangs_is_ended_with_what_it_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    begun = time.monotonic()
    program = f"print(json.dumps(task), flush=True); open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))"
    events = drive(monkeypatch, f"{program}\ntime.sleep(60)", limit=2.0)
    assert events == [{"do": "nothing", "limit": 1.8}]
    assert time.monotonic() - begun < 20
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text()}").exists()


def test_a_driver_runs_in_an_empty_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    program = "print(json.dumps([os.listdir(), os.getcwd()])); print(json.dumps({'end': True}))"
    [(listed, folder)] = drive(monkeypatch, program)
    assert listed == ["log"] and not Path(folder).exists()


def test_a_drivers_error_is_raised_here(monkeypatch: pytest.MonkeyPatch) -> None:
    error = {"kind": "UsageError", "message": "too many", "hint": "ask for less"}
    with pytest.raises(errors.UsageError, match="too many") as raised:
        drive(monkeypatch, f"print(json.dumps({{'error': {error}}}))")
    assert raised.value.hint == "ask for less"


def test_a_driver_that_aborts_is_named_with_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(errors.Unavailable, match="the Ray driver ended with 3\n  the GCS is gone"):
        drive(monkeypatch, "print('the GCS is gone', file=sys.stderr); sys.exit(3)")


def test_a_silent_cluster_is_a_finding_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_DRIVE", "import time; time.sleep(60)")
    steps: list[str] = []
    arguments = main.parser().parse_args(["cluster", "verify", "--address=auto", "--timeout=1"])
    found = main.check(EXPECTED, arguments, steps.append)
    assert found.exit_code == 6 and found.missing == ("Ray named no nodes in 1 s",)
    assert steps == ["asking the nodes of the Ray cluster of this machine"]
