from pathlib import Path


def write(folder: Path) -> list[Path]:
    return []
