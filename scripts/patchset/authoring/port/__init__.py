# SPDX-License-Identifier: Apache-2.0
"""A set carried to another upstream release: its pins, its patches by `git rebase --onto`, its overlay modules.

release and its pins -> rebase (the patches) + symbols (each replaced piece) -> report: all of them one `study`
                   `work` leaves conflicts to git, in a work tree of git's own; then `newset` writes the set, whole
"""
