# SPDX-License-Identifier: Apache-2.0
"""One module per target; its name is the target's. Each has a function `target(data: bytes) -> None`."""
