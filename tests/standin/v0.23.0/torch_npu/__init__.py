# SPDX-License-Identifier: Apache-2.0
"""The stand-in for torch_npu 2.10: the shared one, with this folder's modules before its own.

PYTHONPATH names the folder above; the shared stand-in's folder follows at its end, for torchair and acl.
"""

from __future__ import annotations

import sys
from pathlib import Path

_shared = Path(__file__).resolve().parents[2]
sys.path.append(str(_shared))
__path__.append(str(_shared / "torch_npu"))
_source = _shared / "torch_npu" / "__init__.py"
exec(compile(_source.read_bytes(), str(_source), "exec"))  # noqa: S102 - the shared stand-in, in this package's name

from torch_npu import after_import  # of this folder, once the shared ones are there
from torch_npu.combine import npu_moe_distribute_combine

after_import.install()
