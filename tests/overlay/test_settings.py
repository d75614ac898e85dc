# SPDX-License-Identifier: Apache-2.0
"""The settings: defaults, values, and what is refused with the allowed values."""

from __future__ import annotations

import os
import re
import tempfile
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from vllm_ascend.data_parallel.settings import TABLE, MetadataGroup, Settings, gloo_seconds, not_settings


def test_defaults() -> None:
    assert Settings.read({}) == Settings(
        metadata_group=MetadataGroup.DEVICE,
        timeout=60.0,
        start_timeout=1896.0,
        end_timeout=1896.0,
        agreement=True,
        trace_steps=256,
        trace_dir=Path(tempfile.gettempdir()),
    )


def test_without_a_folder_to_write_to_there_is_no_trace_and_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    assert Settings.read({}).trace_dir == Path(os.curdir)


def test_a_limit_of_many_years_is_one_that_a_store_can_wait_for() -> None:
    settings = Settings.read({"VLLM_ASCEND_DP_START_TIMEOUT": "1e300"})
    assert settings.start_timeout is not None and timedelta(seconds=settings.start_timeout) > timedelta(days=9999)


def test_every_setting_is_read(tmp_path: Path) -> None:
    environ = {
        "VLLM_ASCEND_DP_METADATA_GROUP": "cpu",
        "VLLM_ASCEND_DP_TIMEOUT": "2.5",
        "VLLM_ASCEND_DP_START_TIMEOUT": "off",
        "VLLM_ASCEND_DP_END_TIMEOUT": "90",
        "VLLM_ASCEND_DP_AGREEMENT": "off",
        "VLLM_ASCEND_DP_TRACE_STEPS": "off",
        "VLLM_ASCEND_DP_TRACE_DIR": str(tmp_path),
        "VLLM_ASCEND_DP_MC2_ROWS": "512",
        "PATH": "/usr/bin",
    }
    assert {setting.name for setting in TABLE} == environ.keys() - {"PATH"}
    settings = Settings.read(environ)
    assert settings == Settings(MetadataGroup.CPU, 2.5, None, 90.0, False, 0, tmp_path, 512)
    assert str(settings) == (
        "metadata_group=cpu, timeout=2.5, start_timeout=off, end_timeout=90, agreement=off, trace_steps=0, "
        f"trace_dir={tmp_path}, mc2_rows=512"
    )
    assert str(Settings.read({})).endswith(", mc2_rows=auto")


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"HCCL_EXEC_TIMEOUT": "3600"}, 3660.0),
        ({"HCCL_EXEC_TIMEOUT": "204"}, 1860.0),
        ({"HCCL_EXEC_TIMEOUT": "204", "VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS": "7200"}, 7260.0),
        ({"HCCL_EXEC_TIMEOUT": "0"}, None),
        ({"HCCL_EXEC_TIMEOUT": "soon"}, 1896.0),
        ({"VLLM_ASCEND_DP_TIMEOUT": "off"}, None),
        ({"VLLM_ASCEND_DP_TIMEOUT": "off", "VLLM_ASCEND_DP_END_TIMEOUT": "10"}, 10.0),
        ({"VLLM_ASCEND_DP_END_TIMEOUT": "off"}, None),
    ],
)
def test_the_last_limit_comes_after_hccls_gloos_and_vllms_own(environ: dict[str, str], seconds: float | None) -> None:
    assert Settings.read(environ).end_timeout == seconds


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"HCCL_CONNECT_TIMEOUT": "7200"}, 7260.0),
        ({"HCCL_CONNECT_TIMEOUT": "300"}, 1896.0),
        ({"HCCL_CONNECT_TIMEOUT": "300", "HCCL_EXEC_TIMEOUT": "204"}, 1800.0),
        ({"HCCL_EXEC_TIMEOUT": "5400"}, 5460.0),
        ({"HCCL_EXEC_TIMEOUT": "inf"}, 1e9 + 60),
        ({"HCCL_EXEC_TIMEOUT": "0"}, None),
        ({"HCCL_CONNECT_TIMEOUT": "7200", "VLLM_ASCEND_DP_START_TIMEOUT": "600"}, 600.0),
        ({"HCCL_CONNECT_TIMEOUT": "7200", "VLLM_ASCEND_DP_START_TIMEOUT": "off"}, None),
    ],
)
def test_the_start_may_last_as_long_as_hccl_lets_it(environ: dict[str, str], seconds: float | None) -> None:
    assert Settings.read(environ).start_timeout == seconds


def test_the_last_limit_comes_after_what_vllm_gives_gloo() -> None:
    for told, seconds in ((None, 1896.0), (600, 1896.0), (7200, 7260.0)):
        gloo = gloo_seconds(SimpleNamespace(cpu_distributed_timeout_seconds=told))
        assert Settings.read({}, gloo_s=gloo).end_timeout == seconds
    assert gloo_seconds(SimpleNamespace()) == 1800.0  # before 0.23


SECONDS = "a number of seconds above 0, off"
STEPS = "a whole number from 1 to 1048576, off"
ROWS = "a whole number from 1 to 512, auto"
FOLDER = "a folder that exists and can be written to"


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("METADATA_GROUP", "gloo", "device, cpu"),
        ("METADATA_GROUP", "", "device, cpu"),
        ("TIMEOUT", "0", SECONDS),
        ("TIMEOUT", "-1", SECONDS),
        ("TIMEOUT", "inf", SECONDS),
        ("TIMEOUT", "nan", SECONDS),
        ("TIMEOUT", "1m", SECONDS),
        ("START_TIMEOUT", "0", f"{SECONDS}, auto"),
        ("END_TIMEOUT", "0", f"{SECONDS}, auto"),
        ("AGREEMENT", "0", "on, off"),
        ("TRACE_STEPS", "0", STEPS),
        ("TRACE_STEPS", "1.5", STEPS),
        ("TRACE_STEPS", "1048577", STEPS),
        ("MC2_ROWS", "0", ROWS),
        ("MC2_ROWS", "513", ROWS),
        ("MC2_ROWS", "off", ROWS),
        ("TRACE_DIR", "/no/such/folder", FOLDER),
        ("TRACE_DIR", "/etc/hostname", FOLDER),
    ],
)
def test_another_value_is_refused_with_the_allowed_ones(name: str, value: str, allowed: str) -> None:
    variable = f"VLLM_ASCEND_DP_{name}"
    with pytest.raises(ValueError, match=re.escape(f"{variable}={value!r} is not one of: {allowed}")):
        Settings.read({variable: value})


def test_names_that_are_no_settings_are_found_and_refuse_no_start() -> None:
    """A launch script's own, one of Kubernetes', one that is misspelt; upstream's are known."""
    others = ["VLLM_ASCEND_DP_HEAD_SERVICE_HOST", "VLLM_ASCEND_DP_SIZE", "VLLM_ASCEND_DP_TIMOUT"]
    environ = dict.fromkeys(others, "3") | {"VLLM_ASCEND_DP_UPSTREAMS": "3", "VLLM_ASCEND_DP_TIMEOUT": "5", "HOME": "/"}
    assert not_settings(environ, ["VLLM_ASCEND_DP_UPSTREAMS"]) == others
    assert Settings.read(environ).timeout == 5.0
