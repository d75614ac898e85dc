# SPDX-License-Identifier: Apache-2.0
"""defects: the table is what the results say, and nothing else."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchset.node.errors import UsageError
from patchset.proof.defects import DefectReport, table
from patchset.proof.testrun import Case, Result
from patchset.sets import facts

TITLES = {"D1": "it hangs", "D2": "it raises"}


def case(name: str, defect: str, tree: str, result: Result = Result.PASSED, **more: str) -> Case:
    return Case(f"f::{name}", name, result, 1.0, "", {"defect": defect, "tree": tree, **more})


def report(*cases: Case, resolved: tuple[str, ...] = ()) -> DefectReport:
    return DefectReport("v1", tuple(table(cases, TITLES, resolved)), 2.0, "defects.log")


SHOWN = case("test_hangs[a]", "D1", "pristine", seen="hang")
FIXED = case("test_answers", "D1", "patched", seen="answers")


def test_shown_and_fixed() -> None:
    found = report(SHOWN, FIXED, Case("f::other", "other", Result.FAILED, 1.0))
    (row,) = found.rows
    assert (row.name, row.title, row.shown, row.fixed, row.proven) == ("D1", "it hangs", "yes", "fixed", True)
    assert row.pristine.seen == ("hang",)
    assert row.pristine.tests == ("test_hangs",)
    assert found.ok


@pytest.mark.parametrize(
    "cases",
    [
        (SHOWN,),
        (FIXED,),
        (SHOWN, case("test_answers", "D1", "patched", Result.FAILED)),
        (SHOWN, case("test_answers", "D1", "patched", Result.SKIPPED)),
        (SHOWN, FIXED, case("test_more", "D1", "patched", Result.FAILED)),
        (SHOWN, FIXED, case("test_more", "D1", "pristine", Result.FAILED)),
        (),
    ],
    ids=["no patched", "no pristine", "failed", "skipped", "one of two", "one of two pristine", "nothing"],
)
def test_anything_less_is_not_proven(cases: tuple[Case, ...]) -> None:
    assert not report(*cases, resolved=("D1",)).ok


def test_a_test_of_two_defects_counts_for_both() -> None:
    assert [row.name for row in report(case("test_both", "D1 D2", "pristine")).rows] == ["D1", "D2"]


def test_a_resolved_defect_without_a_test_is_a_row() -> None:
    found = report(SHOWN, FIXED, resolved=("D1", "D2"))
    assert [(row.name, row.shown, row.fixed) for row in found.rows] == [("D1", "yes", "fixed"), ("D2", "no", "not")]
    assert not found.ok


def test_parts_cover_the_whole_and_stand_in_order() -> None:
    cases = [case("test_it", name, "pristine") for name in ("D10", "D6b", "D6a", "D2")]
    assert [row.name for row in report(*cases, resolved=("D6", "D10")).rows] == ["D2", "D6a", "D6b", "D10"]


def test_a_refuted_claim_needs_no_fix() -> None:
    found = report(case("test_no_defect", "D1", "pristine", refuted="yes", seen="equal counts"))
    assert (found.rows[0].shown, found.rows[0].fixed) == ("not a defect", "-")
    assert found.ok
    assert not report(case("test_no_defect", "D1", "pristine", Result.FAILED, refuted="yes")).ok


def test_what_a_failed_test_saw_is_not_in_the_table() -> None:
    (row,) = report(case("test_it[x]", "D1", "patched", Result.FAILED, seen="half of it")).rows
    assert row.patched.seen == ()
    assert row.patched.tests == ("test_it: failed",)


RESULTS = st.lists(
    st.tuples(st.sampled_from(["D1", "D2"]), st.sampled_from(["pristine", "patched"]), st.sampled_from(Result)),
    max_size=8,
)


@given(RESULTS)
def test_proven_is_exactly_all_passed_on_both_trees(results: list[tuple[str, str, Result]]) -> None:
    for row in report(*(case(f"t{i}", *one) for i, one in enumerate(results))).rows:
        mine = [(tree, result) for name, tree, result in results if name == row.name]
        assert row.proven == (
            {tree for tree, _ in mine} == {"pristine", "patched"} and {result for _, result in mine} == {Result.PASSED}
        )


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """tests/smoke/defects.toml of a repository without sets; not written yet."""
    monkeypatch.setenv("PATCHSET_ROOT", str(tmp_path))
    (tmp_path / "patches").mkdir()
    file = tmp_path / "tests" / "smoke" / "defects.toml"
    file.parent.mkdir(parents=True)
    return file


def test_titles(told: Path) -> None:
    with pytest.raises(UsageError):
        facts.absent("v1")
    told.write_text('[titles]\nD1 = "it hangs"\n')
    assert facts.titles() == {"D1": "it hangs"}
    for text in ("[titles", "D1 = 1\n", "titles = 3\n"):
        told.write_text(text)
        with pytest.raises(UsageError):
            facts.titles()


def test_a_defect_of_few_sets(told: Path) -> None:
    assert facts.titles() == {}
    of_two = told.parent / "v0.1+v0.2"
    of_two.mkdir()
    told.write_text('[titles]\nD1 = "it hangs"\n[absent."v0.3"]\nD1 = "fixed by #7"\n')
    own = '[titles]\nD2 = "it ends"\n[elsewhere]\nD2 = "not there yet"\n[open."v0.4"]\nD2 = "in other lines"\n'
    (of_two / "defects.toml").write_text(own)
    assert facts.titles() == {"D1": "it hangs", "D2": "it ends"}
    assert facts.absent("v0.1") == facts.absent("v0.2") == facts.left_open("v0.2") == {}
    assert facts.absent("v0.3") == {"D1": "fixed by #7", "D2": "not there yet"}
    assert facts.absent("v0.4") == {} and facts.left_open("v0.4") == {"D2": "in other lines"}


def test_what_a_set_leaves_open() -> None:
    """A row of its own, which proves nothing and is said."""
    (row,) = table([], {"D2": "it ends"}, (), {}, {"D2": "in other lines"})
    assert (row.shown, row.fixed, row.as_dict()["absent"], row.proven) == ("open", "-", "in other lines", True)


def test_every_defect_of_the_real_sets_has_a_title() -> None:
    from patchset.sets import series
    from patchset.system import paths

    titles = facts.titles()
    for folder in (paths.repo_root() / "patches").iterdir():
        for patch in series.load(folder):
            for name in patch.header.resolves:
                assert any(title.rstrip("abc") == name for title in titles), f"{patch.name}: {name}"


def test_what_a_release_does_not_have(told: Path) -> None:
    """Proven by the patched tree alone, and not a word about the pristine one."""
    told.write_text('[titles]\nD1 = "it hangs"\n[absent.v1]\nD1 = "fixed by #7"\ntest_of_a_part = "in part"\n')
    absent = facts.absent("v1")
    assert absent == {"D1": "fixed by #7"}
    assert facts.absent("v2") == {}
    (row,) = table([FIXED], TITLES, (), absent)
    assert (row.shown, row.fixed, row.absent, row.proven) == ("not in this release", "right", "fixed by #7", True)
    (row,) = table([case("test_answers", "D1", "patched", Result.FAILED)], TITLES, (), absent)
    assert not row.proven


def test_a_release_that_has_nothing_of_what_a_defect_is_about() -> None:
    (row,) = table([], TITLES, (), {"D1": "it has no graphs"})
    assert (row.shown, row.fixed, row.absent, row.proven) == ("not in this release", "-", "it has no graphs", True)


def test_what_the_real_sets_do_not_have_is_a_defect_or_a_test() -> None:
    import tomllib

    from patchset.proof import smoke
    from patchset.system import paths

    folder = smoke.tests_dir()
    tables = tomllib.loads((folder / "defects.toml").read_text())
    text = "".join(file.read_text() for file in folder.glob("test_*.py"))
    for name, absent in tables["absent"].items():
        assert name in paths.sets()
        for what in absent:
            assert what in tables["titles"] or f"def {what}(" in text, what
