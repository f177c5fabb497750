# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the real server under real load, in a loop, with an independent client that remembers what was
acknowledged: `.venv/bin/python tools/kill_loop.py --rounds 200`. Exits 0 when nothing was lost, changed or too many.

Letters small and large come in by SMTP and by submission; a peer goes, comes back, refuses, and hangs up without a
word; POP3 reads and deletes; starts are killed too, and so are backups, of which the last is restored at the end.
A round takes some three seconds. The work is done by tests/system/killing.py, which the tests use too.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

if __name__ == "__main__":
    command = [sys.executable, "-m", "tests.system.kill_loop", *sys.argv[1:]]
    sys.exit(subprocess.run(command, cwd=ROOT, check=False).returncode)
