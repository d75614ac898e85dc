# SPDX-License-Identifier: Apache-2.0
"""What is shown of an applied tree: the runtime, the smoke tests, the defects, the evidence."""
