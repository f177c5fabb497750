# SPDX-License-Identifier: Apache-2.0
"""Sans-IO engines: bytes to events, replies to bytes. They never await, log or read a clock."""
