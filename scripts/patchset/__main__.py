# SPDX-License-Identifier: Apache-2.0
"""`python -m patchset`."""

import sys

from patchset.cli import main

sys.exit(main())
