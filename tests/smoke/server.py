# SPDX-License-Identifier: Apache-2.0
"""``vllm serve`` in this process: ``python server.py <job.json>``, or forked by the nursery.

The job's ``arguments`` are those of the command line.
"""

import json
import os
import sys
from pathlib import Path

from nursery import die_with_parent


def main(job_file: str) -> None:
    os.register_at_fork(after_in_child=die_with_parent)
    from vllm.entrypoints.cli.main import main as vllm

    sys.argv = ["vllm", "serve", *json.loads(Path(job_file).read_text())["arguments"]]
    vllm()


if __name__ == "__main__":
    main(sys.argv[1])
