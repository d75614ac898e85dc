# SPDX-License-Identifier: Apache-2.0
"""A set for a reviewer, as a page and as Markdown: plan -> commits in a scratch repository -> `Review` -> both."""
