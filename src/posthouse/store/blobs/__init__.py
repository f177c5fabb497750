# SPDX-License-Identifier: Apache-2.0
"""Content: append-only packs."""
