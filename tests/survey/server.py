# SPDX-License-Identifier: Apache-2.0
"""`vllm serve` of a deployment, forked by the fork server; its engines report as tests/smoke/kv_probe.py says."""

import json
from pathlib import Path
from typing import Any

from survey import pictures, pool, profiled, slowed


def main(job_file: str) -> None:
    job = json.loads(Path(job_file).read_text())
    import server  # of tests/smoke
    from kv_probe import KvProbe
    from vllm_ascend.utils import enable_custom_op

    progress = Path(job["progress"]).open("a", buffering=1)  # noqa: SIM115 - engines inherit it

    def report(**line: Any) -> None:
        progress.write(json.dumps(line) + "\n")

    enable_custom_op()  # as in survey.rank
    if job["sleeps"]:
        pool.install()
    pictures.install()
    KvProbe(report).install()
    if job["slowed"]:
        slowed.install()
    if job["profiled"]:
        for name, value in profiled.arguments("profile").items():
            job["arguments"].append(f"--{name.replace('_', '-')}={json.dumps(value)}")
        Path(job_file).write_text(json.dumps(job))
    server.main(job_file)
