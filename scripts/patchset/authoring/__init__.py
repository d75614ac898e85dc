# SPDX-License-Identifier: Apache-2.0
"""Work on a set: its patches as commits to edit with git, and those commits as patch files again.

The repository is the build tree, its state is git's own (a rebase or a cherry-pick under way), and patches/<set> is
written only by `export` and `fmt`, whole or not at all.
"""
