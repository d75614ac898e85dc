# SPDX-License-Identifier: Apache-2.0
"""Fingerprints: what counts, what differs in words, and one verdict on every rank over a real store."""

from __future__ import annotations

import subprocess
import threading
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import LATEST
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed import HashStore, Store, TCPStore

import vllm_ascend
from vllm_ascend.data_parallel import agreement
from vllm_ascend.data_parallel.agreement import DisagreementError, Members, agree
from vllm_ascend.data_parallel.fingerprint import Fingerprint, build_digest, differences, digests, reference
from vllm_ascend.data_parallel.told import tell, tell_text, told, told_text

LIMIT = timedelta(seconds=10)
ONE = Fingerprint(0, "a", {"group": "device", "vllm": "0.10"}, {"p/x.py": "1", "p/y.py": "2"})


def test_the_digest_is_that_of_sha256sum_over_the_installed_package() -> None:
    package = Path(vllm_ascend.__file__).parent
    pipe = (
        "find vllm_ascend -name '*.py' ! -path vllm_ascend/_version.py ! -path vllm_ascend/_build_info.py "
        "! -path 'vllm_ascend/_cann_ops_custom/*' "
        "| LC_ALL=C sort | xargs sha256sum | sha256sum"
    )
    told = subprocess.run(["sh", "-c", pipe], cwd=package.parent, capture_output=True, text=True, check=True)
    assert build_digest(digests(package)) == told.stdout.split()[0]


def test_generated_files_count_for_nothing_and_links_are_no_files(tmp_path: Path) -> None:
    package = tmp_path / "p"
    for folder in ("sub/_cann_ops_custom", "_cann_ops_custom/vendors"):
        (package / folder).mkdir(parents=True)
    generated = ("_version.py", "_build_info.py", "_cann_ops_custom/vendors/x.py")
    for name in (*generated, "x.py", "x.pyc", "sub/_version.py", "sub/_cann_ops_custom/x.py"):
        (package / name).write_text(name)
    (package / "y.py").symlink_to("x.py")
    found = digests(package)
    assert list(found) == ["p/sub/_cann_ops_custom/x.py", "p/sub/_version.py", "p/x.py", "p/y.py"]
    assert found["p/y.py"] == "not a regular file"


def test_the_key_leaves_out_where_a_rank_runs() -> None:
    assert replace(ONE, rank=5, host="b").key == ONE.key
    assert replace(ONE, facts={"group": "cpu", "vllm": "0.10"}).key != ONE.key
    assert replace(ONE, files={"p/x.py": "1"}).key != ONE.key


def test_it_travels() -> None:
    assert Fingerprint.loads(ONE.dumps()) == ONE


def test_differences_name_settings_with_both_values_and_files() -> None:
    other = replace(ONE, facts={"group": "cpu", "extra": "1", "vllm": "0.10"}, files={"p/x.py": "3", "p/z.py": "4"})
    assert differences(ONE, other) == [
        "extra is 1 instead of absent",
        "group is cpu instead of device",
        "3 files of the build: p/x.py, p/y.py, p/z.py",
    ]


def test_many_files_are_counted() -> None:
    many = replace(ONE, files={f"p/{number:02}.py": "1" for number in range(30)})
    (told,) = differences(replace(ONE, files={}), many)
    assert told.startswith("30 files of the build: p/00.py, ") and told.endswith(", p/07.py and 22 more")


@pytest.mark.parametrize(
    ("keys", "common"), [(["a"], "a"), (["a", "b"], "a"), (["a", "b", "b"], "b"), (["b", "a", "a", "b"], "b")]
)
def test_the_reference_is_what_most_have_and_then_the_lowest_rank(keys: list[str], common: str) -> None:
    assert reference(keys) == common


Verdicts = dict[int, "str | None"]


def meet(fingerprints: list[Fingerprint | None], members: Members, limit: float, look: float | None = None) -> Verdicts:
    """What each rank that has a fingerprint is told, each with a connection of its own to one TCP store."""
    server = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    verdicts: Verdicts = {}

    def run(mine: Fingerprint) -> None:
        store = TCPStore("127.0.0.1", server.port, is_master=False, timeout=timedelta(seconds=30))
        try:
            agree(store, mine, members, look, limit)
            verdicts[mine.rank] = None
        except DisagreementError as error:
            verdicts[mine.rank] = str(error)

    threads = [threading.Thread(target=run, args=(one,)) for one in fingerprints if one is not None]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return verdicts


def test_equal_ranks_agree() -> None:
    ranks: list[Fingerprint | None] = [replace(ONE, rank=rank, host=f"h{rank}") for rank in range(4)]
    assert meet(ranks, Members(range(4)), 10.0) == dict.fromkeys(range(4))


def test_a_fingerprint_of_any_length_is_told() -> None:
    """The store of torch 2.7 closes a connection at requests of some lengths, 4096 bytes among them."""
    server = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=LIMIT)
    store = TCPStore("127.0.0.1", server.port, is_master=False, wait_for_workers=False, timeout=LIMIT)
    length = len(replace(ONE, facts={"fact": ""}).dumps())
    for rank in range(200):
        fact = "x" * (3950 + rank - length)
        agree(store, replace(ONE, rank=rank, facts={"fact": fact}), Members(range(rank, rank + 1)), 10.0, 10.0)


@pytest.mark.parametrize("ranks", [130, 1024])
def test_what_many_ranks_have_told_is_read_of_any_store(ranks: int) -> None:
    server = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=LIMIT)
    store = TCPStore("127.0.0.1", server.port, is_master=False, wait_for_workers=False, timeout=LIMIT)
    for size in range(60):
        keys = {rank: f"{'k' * size}{rank}" for rank in range(ranks)}
        for where in keys.values():
            tell(server, where, "v")
        assert told(store, keys) == dict.fromkeys(keys, b"v")


@given(text=st.text(max_size=20_000), again=st.text(min_size=1))
def test_a_text_of_any_kind_is_told(text: str, again: str) -> None:
    store = HashStore()
    tell_text(store, "text", text)
    assert told_text(store, "text") == text
    tell(store, "value", "before")
    tell(store, "value", again)
    tell(store, "value", "after", again)
    assert store.get("value") == b"after"


def test_every_rank_names_the_one_that_differs() -> None:
    ranks: list[Fingerprint | None] = [replace(ONE, rank=rank, host=f"h{rank}") for rank in range(3)]
    ranks[1] = replace(ONE, rank=1, host="h1", facts={"group": "cpu", "vllm": "0.10"})
    verdicts = meet(ranks, Members(range(3)), 10.0)
    assert len(verdicts) == 3 and len(set(verdicts.values())) == 1
    assert "\n  DP rank 1 on host h1 differs from DP rank 0: group is cpu instead of device\n" in str(verdicts[0])


def test_every_rank_names_the_one_that_is_missing() -> None:
    ranks = [ONE, None, replace(ONE, rank=2)]
    began = time.monotonic()
    verdicts = meet(ranks, Members(range(3)), 0.5)
    assert time.monotonic() - began < 60.0
    assert sorted(verdicts) == [0, 2] and verdicts[0] == verdicts[2]
    assert "DP rank 1 on host unknown gave no fingerprint within 0.5 s" in str(verdicts[0])


def test_a_rank_that_comes_late_is_named_and_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    named = threading.Event()

    def warning(text: str, *values: object) -> None:
        said.append(text % values)
        named.set()

    monkeypatch.setattr(agreement.logger, "warning", warning)
    store = HashStore()

    def late() -> None:
        assert named.wait(LATEST)
        agree(store, replace(ONE, rank=1), Members(range(2)), 0.1, LATEST)

    thread = threading.Thread(target=late)
    thread.start()
    agree(store, ONE, Members(range(2)), 0.1, LATEST)
    thread.join()
    assert len(said) == 1 and said[0].startswith("DP rank 1 gave no fingerprint within 0.1 s: not started yet")


def test_ranks_that_differ_are_told_though_another_is_missing() -> None:
    verdicts = meet([ONE, replace(ONE, rank=1, facts={"group": "cpu"}), None], Members(range(3)), LATEST, 1.0)
    assert sorted(verdicts) == [0, 1]
    assert "differs from DP rank 0" in str(verdicts[0]) and "DP rank 2 on host unknown gave no" in str(verdicts[0])


def test_a_late_rank_takes_the_verdict_that_was_reached_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or it would go on alone into the first collective."""
    monkeypatch.setattr(agreement, "_LEAVE_LIMIT_S", 0.1)
    store = HashStore()
    for rank in (0, 1):
        with pytest.raises(DisagreementError, match="DP rank 1 on host unknown gave no fingerprint"):
            agree(store, replace(ONE, rank=rank), Members(range(2)), None, 0.2)


class Counting(HashStore):
    """Counts what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def check(self, keys: list[str]) -> bool:
        self.asked += 1
        return super().check(keys)

    def multi_get(self, keys: list[str]) -> list[bytes]:
        self.asked += 1
        return super().multi_get(keys)


@pytest.mark.parametrize("missing", [set(), {0}, {5, 700}])
def test_many_values_cost_few_requests(missing: set[int]) -> None:
    store, keys = Counting(), {rank: f"k{rank}" for rank in range(1024)}
    for rank in keys.keys() - missing:
        store.set(f"k{rank}", str(rank))
    found = told(store, keys)
    assert found == {rank: str(rank).encode() for rank in range(1024) if rank not in missing}
    assert store.asked <= 2 * 43 + 16 * len(missing)


def test_ranks_of_more_than_one_process_are_named_by_both_numbers() -> None:
    members = Members(range(8, 16), ranks_per_dp_rank=2)
    assert members.name(8) == "DP rank 0 (world rank 8)"
    assert members.name(13) == "DP rank 2 (world rank 13)"
    assert [members.after(rank) for rank in (8, 15)] == [9, 8]
    assert [members.place_in_dp_rank(rank) for rank in (8, 13)] == [0, 1]


@pytest.mark.parametrize(
    ("value", "host"),
    [
        (b"\x04" + bytes(7) + b"node\x88\x00", "node"),
        (b"\xff" * 8 + b"node", "unknown"),
        (b"", "unknown"),
        (b"\x02" + bytes(7) + b"\xff\xfe", "unknown"),
    ],
)
def test_the_host_that_gloo_knows(value: bytes, host: str) -> None:
    store: Store = HashStore()
    store.set("cpu//0/3", value)  # type: ignore[arg-type]
    assert agreement.gloo_host(store, 3) == host
