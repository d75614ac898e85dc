# SPDX-License-Identifier: Apache-2.0
"""``vllm serve`` in this process: ``python server.py <job.json>``, or forked by the nursery.

The job's ``arguments`` are those of the command line.
"""

import json
import sys
from pathlib import Path


def main(job_file: str) -> None:
    from vllm.entrypoints.cli.main import main as vllm

    sys.argv = ["vllm", "serve", *json.loads(Path(job_file).read_text())["arguments"]]
    vllm()


if __name__ == "__main__":
    main(sys.argv[1])
