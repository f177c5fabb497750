# SPDX-License-Identifier: Apache-2.0
"""posthouse: a complete mail server."""

__version__ = "0.1.0"
