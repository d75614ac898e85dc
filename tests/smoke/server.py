# SPDX-License-Identifier: Apache-2.0
"""``vllm serve`` in this process: ``python server.py <job.json>``, or forked by the fork server.

The job's ``arguments`` are those of the command line. The server logs its requests.
"""

import json
import os
import sys
from pathlib import Path

from fork_server import die_with_parent


def main(job_file: str) -> None:
    os.register_at_fork(after_in_child=die_with_parent)
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.cli.main import main as vllm

    # vLLM 0.10.0 does so unless it is told not to.
    logs = ["--enable-log-requests"] * hasattr(AsyncEngineArgs, "enable_log_requests")
    sys.argv = ["vllm", "serve", *json.loads(Path(job_file).read_text())["arguments"], *logs]
    vllm()


if __name__ == "__main__":
    main(sys.argv[1])
