# SPDX-License-Identifier: Apache-2.0
"""Whole servers of the real code in one process, on virtual time and an in-memory network, reproducible by seed."""
