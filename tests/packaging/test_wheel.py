"""The built wheel works by itself: in an empty folder, with no checkout near, and where an extra is
missing it says which."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel installs, scripts too."""
    folder = tmp_path_factory.mktemp("wheel")
    for command in (
        ("-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)),
        ("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--find-links", str(folder),
         "--disable-pip-version-check", "--target", str(folder / "site"), "distkit-counter"),
    ):  # fmt: skip
        subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True)
    return folder / "site"


def _run(installed: Path, *command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run Python on the installed wheel alone: the checkout is not to be seen."""
    empty = cwd / "empty"
    empty.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, *command],
        cwd=empty,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_golden_trace_is_replayed_by_its_name(installed: Path, tmp_path: Path) -> None:
    where = _run(installed, "-c", "import oracle; print(oracle.__file__)", cwd=tmp_path)
    assert where.stdout.startswith(str(installed)), "the checkout is in the way"
    done = _run(installed, "-m", "oracle", "replay", "R05-death", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "all are the oracle's" in done.stdout


def test_the_script_is_the_command(installed: Path, tmp_path: Path) -> None:
    script = str(installed / "bin" / "distkit-oracle")
    done = _run(installed, script, "replay", "R05-death", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_wheel_has_what_a_port_is_written_from(installed: Path) -> None:
    spec = {
        path.relative_to(ROOT / "spec") for path in (ROOT / "spec").rglob("*") if path.is_file()
    }
    assert {path for path in spec if not (installed / "oracle" / "spec" / path).is_file()} == set()
    assert (installed / "distkit" / "redis" / "counter.lua").is_file()
    (wheel,) = installed.parent.glob("*.whl")
    top = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == {"distkit", "oracle"}


HIDE = "import sys, runpy; sys.modules[{!r}] = None; runpy.run_module({!r}, run_name='__main__')"
"""Runs a module as if a package were not installed."""


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [
        ("oracle", "click", "oracle"),
        ("oracle", "fastjsonschema", "oracle"),
        ("oracle", "numpy", "oracle"),
        ("oracle", "rich", "oracle"),
        ("distkit", "click", "cli"),
        ("distkit", "rich", "cli"),
        ("distkit.demo", "rich", "demo"),
        ("distkit.demo", "fakeredis", "demo"),
    ],
)
def test_a_missing_extra_is_named_in_one_line(
    installed: Path, tmp_path: Path, module: str, package: str, extra: str
) -> None:
    done = _run(installed, "-c", HIDE.format(package, module), cwd=tmp_path)
    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    assert f"needs {package}" in line
    assert f"'distkit-counter[{extra}]'" in line
