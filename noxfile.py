"""The supported releases of redis-py on the supported releases of Python: `make versions`.

Each session runs the counter's tests and the state machine's with the quick profile. `nox -s oldest
newest` runs the oldest and the newest pair alone. A Python that is not found is skipped, and nox
says so.
"""

from __future__ import annotations

import os
from pathlib import Path

import nox

PYTHONS = ("3.10", "3.11", "3.12", "3.13")
RELEASES = ("6.0.*", "6.4.*", "7.*", "8.*")
TESTS = (
    "tests/counter",
    "tests/equivalence/test_scenarios.py",
    "tests/equivalence/test_stateful.py",
)
NOT_HERE = "not test_pyright"  # it checks the types of the redis-py that is developed with

nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False
nox.options.stop_on_first_error = False

# Where pyenv keeps its Pythons, if it is used.
for folder in sorted((Path.home() / ".pyenv" / "versions").glob("3.*/bin")):
    os.environ["PATH"] += os.pathsep + str(folder)


def _run(session: nox.Session, release: str) -> None:
    session.install("--quiet", "--editable", ".[dev]", f"redis=={release}")
    session.run("python", "-c", "import redis; print('redis-py', redis.__version__)")
    session.run(
        *("python", "-m", "pytest", "-q", "-n", "auto", "--dist", "worksteal", "-k", NOT_HERE),
        *(session.posargs or TESTS),
        env={"HYPOTHESIS_PROFILE": "quick"},
    )


@nox.session(python=PYTHONS)
@nox.parametrize("release", RELEASES)
def versions(session: nox.Session, release: str) -> None:
    """One release of redis-py on one Python."""
    _run(session, release)


@nox.session(python=PYTHONS[0])
def oldest(session: nox.Session) -> None:
    """The oldest of both."""
    _run(session, RELEASES[0])


@nox.session(python=PYTHONS[-1])
def newest(session: nox.Session) -> None:
    """The newest of both."""
    _run(session, RELEASES[-1])
