"""Cells that are being run: a file each, which its owner touches as long as it lives."""

import json
from dataclasses import dataclass
from pathlib import Path

SILENT_AFTER = 60.0  # seconds without a heartbeat


@dataclass(frozen=True)
class Claim:
    """Who runs a cell; times in unix seconds."""

    identity: str
    host: str
    process: int
    started: float
    beat: float
    cell: str


def held(results: Path) -> list[Claim]:
    """All claims of a folder, in the order of their ids; files that are none are passed over."""
    found = []
    for path in sorted((results / "claims").glob("*.json")):
        try:
            content, beat = json.loads(path.read_text(encoding="utf-8")), path.stat().st_mtime
            host, cell = str(content["host"]), str(content["cell"])
            found.append(Claim(path.stem, host, int(content["process"]), float(content["started"]), beat, cell))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def is_alive(claim: Claim, now: float) -> bool:
    """Whether its owner has been heard of lately."""
    return now - claim.beat < SILENT_AFTER
