# SPDX-License-Identifier: Apache-2.0
"""Make .venv and install the locked dependencies into it, with nothing but Python and pip.

Runs on the system's interpreter, so it uses the standard library only. Debian's python3 comes without
ensurepip (and some without venv altogether): each way of making the environment is tried in turn.
Usage: bootstrap.py [--dev]
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
MINIMUM = (3, 11)


def run(*command: str | Path) -> bool:
    """Run a command; its output is shown only when it fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(f"  ({' '.join(str(word) for word in command)}: {done.stderr.strip()[-400:]})\n")
    return done.returncode == 0


def environment_works() -> bool:
    python = VENV / "bin" / "python"
    return python.exists() and run(python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))")


def make_environment() -> None:
    """Try venv, venv without pip, then virtualenv fetched by pip; stop with a clear word otherwise."""
    if environment_works():
        return
    shutil.rmtree(VENV, ignore_errors=True)
    here = sys.executable
    if run(here, "-m", "venv", VENV) and environment_works():
        return
    shutil.rmtree(VENV, ignore_errors=True)
    print("python3 -m venv does not work here; trying without ensurepip")
    if run(here, "-m", "venv", "--without-pip", VENV) and environment_works():
        return
    shutil.rmtree(VENV, ignore_errors=True)
    print("no venv module; fetching virtualenv with pip")
    aside = ROOT / ".bootstrap"
    if run(here, "-m", "pip", "install", "-q", "--target", aside, "virtualenv"):
        os.environ["PYTHONPATH"] = str(aside)
        made = run(here, "-m", "virtualenv", VENV)
        del os.environ["PYTHONPATH"]
        if made and environment_works():
            return
    sys.exit("could not make .venv: this machine needs Python 3.11 or newer with pip")


def pip(*arguments: str | Path) -> None:
    python = VENV / "bin" / "python"
    quiet = ("--disable-pip-version-check", "--quiet", "--no-input")
    has_pip = run(python, "-c", "import pip")
    # Without a pip inside, the outer one installs into the environment (pip 22.3 and newer).
    start = [python, "-m", "pip"] if has_pip else [sys.executable, "-m", "pip", "--python", python]
    command = [*start, "install", *quiet, *arguments]
    if subprocess.run([str(word) for word in command], check=False).returncode:
        sys.exit("pip could not install the dependencies; its message is above")


def main() -> None:
    if sys.version_info < MINIMUM:
        sys.exit(f"posthouse needs Python 3.11 or newer; this is {sys.version.split()[0]}")
    dev = "--dev" in sys.argv
    lock = ROOT / ("requirements-dev.lock" if dev else "requirements.lock")
    wanted = hashlib.sha256(lock.read_bytes() + (ROOT / "pyproject.toml").read_bytes()).hexdigest()
    stamp = VENV / (".installed-dev" if dev else ".installed")
    if environment_works() and stamp.exists() and stamp.read_text() == wanted:
        return
    print("setting up .venv (once; a minute or two)")
    make_environment()
    pip("--require-hashes", "-r", lock)
    pip("hatchling", "editables")
    pip("--no-deps", "--no-build-isolation", "-e", ROOT)
    stamp.write_text(wanted)


if __name__ == "__main__":
    main()
