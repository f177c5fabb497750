# SPDX-License-Identifier: Apache-2.0
"""Every RFC that the code cites stands in docs/rfc-index.toml with its status, and every "yes" there is cited.

Also writes docs/reference/rfcs.md (with --write) and fails when that page is out of date.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/reference/rfcs.md"
CITED = re.compile(r"RFC\s?(\d{3,5})")


def citations() -> Counter[int]:
    texts = (path.read_text("utf-8") for path in sorted((ROOT / "src").rglob("*")) if path.suffix in (".py", ".sql"))
    return Counter(int(number) for text in texts for number in CITED.findall(text))


def page(index: dict[str, dict[str, str]]) -> str:
    lines = [
        "# Standards",
        "",
        "Generated from `docs/rfc-index.toml` by `make reference`; do not edit.",
        "",
        "| RFC | title | status | remarks |",
        "| --- | --- | --- | --- |",
    ]
    for number, entry in sorted(index.items(), key=lambda item: int(item[0])):
        remarks = entry.get("remarks", "")
        lines.append(f"| {number} | {entry['title']} | {entry['status']} | {remarks} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    index = tomllib.loads((ROOT / "docs/rfc-index.toml").read_text("utf-8"))
    cited = citations()
    unknown = [number for number in sorted(cited) if str(number) not in index]
    wrong = [f"RFC {number} is cited but not in docs/rfc-index.toml" for number in unknown]
    wrong += [
        f"RFC {number} is marked {entry['status']} but no code cites it"
        for number, entry in index.items()
        if entry["status"] in ("yes", "partial") and not cited[int(number)]
    ]
    text = page(index)
    if "--write" in sys.argv:
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(text, "utf-8")
    elif not PAGE.exists() or PAGE.read_text("utf-8") != text:
        wrong.append("docs/reference/rfcs.md is out of date: make reference")
    print("\n".join(wrong) or f"rfcs: {len(cited)} cited, all in the index")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
