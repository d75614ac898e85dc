# SPDX-License-Identifier: Apache-2.0
"""The simulator on the import path, and its ranks without a log line for each refused deployment."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
logging.disable(logging.WARNING)
