# SPDX-License-Identifier: Apache-2.0
"""The composition root, room by room: each module builds one floor of the house on the ground below it."""
