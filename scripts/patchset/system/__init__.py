# SPDX-License-Identifier: Apache-2.0
"""The machine: files that are replaced whole, locks, journals, git, the terminal, and where things lie."""
