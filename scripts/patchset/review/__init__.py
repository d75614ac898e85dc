# SPDX-License-Identifier: Apache-2.0
"""What a set changes, for a reviewer: one page that opens anywhere, and the same in Markdown for a pull request.

Data flows one way: plan -> commits in a scratch repository -> diffs and facts (`Review`) -> page, Markdown.
"""
