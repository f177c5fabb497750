# SPDX-License-Identifier: Apache-2.0
"""The web for strangers: policies, settings for mail programs, challenges of certificate authorities."""
