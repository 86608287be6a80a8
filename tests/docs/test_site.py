"""The documentation site is built, complete, and true as far as a program can tell."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from sphinx.errors import ExtensionError

import distkit
import oracle
from distkit.core.pulse import Pulse, promise_ms
from distkit.redis.settings import deadline_s
from docs.extension import BORROWED, DOCS, ROOT, with_links_of_the_site
from docs.measure import result
from docs.measure.__main__ import NAMES
from oracle.check.broken import BROKEN

PAGES = {
    str(path.relative_to(DOCS)): path.read_text("utf-8")
    for path in sorted(DOCS.rglob("*.md"))
    if str(path.relative_to(DOCS).with_suffix("")) not in BORROWED
}
"""The pages that are written here, by name."""


def build(source: Path, to: Path) -> subprocess.CompletedProcess[str]:
    """What `make docs` does."""
    words = ("--quiet", "--fail-on-warning", "--keep-going", "--fresh-env")
    return subprocess.run(
        [sys.executable, "-m", "sphinx", *words, str(source), str(to)],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("site")
    built = build(DOCS, to)
    assert built.returncode == 0, built.stderr
    return to


class _Page(HTMLParser):
    """What a page refers to, and the anchors that it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag in ("script", "img", "iframe", "source") and "src" in given:
            self.loaded.append(given["src"])
        elif tag == "link" and given.get("rel") in ("stylesheet", "preload", "icon", "preconnect"):
            self.loaded.append(given["href"])


def _pages(site: Path) -> Iterator[tuple[Path, _Page]]:
    for path in sorted(site.rglob("*.html")):
        yield path, _Page(path.read_text("utf-8"))


def test_every_link_leads_somewhere(site: Path) -> None:
    pages = dict(_pages(site))
    missing = []
    for path, page in pages.items():
        for link in page.links:
            target, _, anchor = link.partition("#")
            if re.match(r"\w+:", target):
                continue
            file = (path.parent / unquote(target)).resolve() if target else path
            known = pages.get(file)
            if not file.exists() or (anchor and known and unquote(anchor) not in known.anchors):
                missing.append(f"{path.name}: {link}")
    assert not missing


def test_nothing_is_loaded_from_the_network(site: Path) -> None:
    for path, page in _pages(site):
        away = [word for word in page.loaded if re.match(r"(\w+:)?//", word)]
        assert not away, path.name
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", sheet.read_text("utf-8"))


def test_every_golden_trace_of_a_rule_is_drawn(site: Path) -> None:
    page = (site / "guarantees.html").read_text("utf-8")
    histories = 0
    for path in (ROOT / "spec" / "vectors").glob("R*.jsonl"):
        histories += sum('"op":"reset"' in line for line in path.read_text("utf-8").splitlines())
    assert histories
    assert page.count('<details class="history"') == histories


def test_every_broken_protocol_is_drawn(site: Path) -> None:
    page = (site / "how-we-know.html").read_text("utf-8")
    assert page.count('<details class="history"') == len(BROKEN)


def test_the_pages_of_the_tree_are_on_the_site(site: Path) -> None:
    for page, file in BORROWED.items():
        heading = re.search(r"^# (.*)$", (ROOT / file).read_text("utf-8"), re.M)
        assert heading
        shown = (site / f"{page}.html").read_text("utf-8")
        assert re.sub(r"<.*?>", "", shown).count(heading[1].replace("`", "")), page


def test_a_link_to_a_file_that_is_gone_is_an_error() -> None:
    with pytest.raises(ExtensionError, match=r"no Gone\.md"):
        with_links_of_the_site("see [there](Gone.md)", ROOT / "spec", DOCS / "spec/rules")


def test_a_page_that_names_what_does_not_exist_is_not_built(tmp_path: Path) -> None:
    """Links and pictures alike."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "conf.py").write_text((DOCS / "conf.py").read_text("utf-8").replace(
        "Path(__file__).parent.parent", f"Path({str(ROOT)!r})"
    ).replace('html_static_path = ["static"]', ""), "utf-8")  # fmt: skip
    for wrong in ("[a](b.md)", "[a](#b)", "```{picture} nothing\n```", "```{measured} x\n```"):
        (source / "index.md").write_text(f"# Title\n\n{wrong}\n", "utf-8")
        assert build(source, tmp_path / "site").returncode, wrong


# --- Names and numbers ---------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_named_exist(page: str) -> None:
    rooms = "|".join(("spec", "oracle", "distkit", "tests", "examples", "benchmarks", "docs"))
    for name in re.findall(rf"`((?:{rooms})/[\w./*-]*)`", PAGES[page]):
        assert list(ROOT.glob(name.rstrip("/"))), name


@pytest.mark.parametrize("page", PAGES)
def test_names_of_the_packages_exist(page: str) -> None:
    for package in (distkit, oracle):
        for dotted in re.findall(rf"`{package.__name__}((?:\.\w+)+)\b[^`]*`", PAGES[page]):
            assert _exists(package.__name__, dotted.split(".")[1:]), dotted


def _exists(module: str, names: list[str]) -> bool:
    code = f"import pkgutil; pkgutil.resolve_name({'.'.join([module, *names])!r})"
    return subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


@pytest.mark.parametrize("page", PAGES)
def test_commands_that_are_named_exist(page: str) -> None:
    from distkit.cli.main import main as distkit_command
    from oracle.cli.main import main as oracle_command

    for name in re.findall(r"distkit ([a-z]+) (?:URL|redis://|--)", PAGES[page]):
        assert name in distkit_command.commands, name
    for name in re.findall(r"python -m oracle ([a-z]+)", PAGES[page]):
        assert name in oracle_command.commands, name
    for name in re.findall(r"distkit-counter\[(\w+)\]", PAGES[page]):
        assert re.search(rf"^{name} = \[", (ROOT / "pyproject.toml").read_text("utf-8"), re.M)


def test_the_times_of_the_threshold_page_are_those_of_the_code() -> None:
    pulse, page = Pulse(30_000), PAGES["threshold.md"]
    for number in (
        pulse.interval_s, pulse.retry_s, promise_ms(30_000) / 1000, deadline_s(None, 30_000),
    ):  # fmt: skip
        assert f"| {number:g} s |" in page


# --- Runs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_run_was_taken(name: str) -> None:
    assert result(name)["taken_on"]["redis"]


def test_the_histories_are_those_of_the_broken_protocols_of_today() -> None:
    found = result("broken")["protocols"]
    assert list(found) == list(BROKEN)
    for name, broken in BROKEN.items():
        assert found[name]["breaks"] == broken.breaks
        assert json.loads(found[name]["trace"][0])["violation"] == found[name]["violation"]


def test_the_permissions_are_those_of_today() -> None:
    from docs.measure.permissions import RULE

    found = result("permissions")
    assert found["rule"] == RULE
    needed = {command for commands in found["calls"].values() for command in commands}
    assert needed == set(found["commands"]), "nothing in the rule can be left out"


def test_the_crashes_show_what_the_page_says() -> None:
    """The plain counter ends with what the killed servers had too much; the slices do not."""
    run = result("crashes")
    gone = sum(kill["had"] for kill in run["kills"])
    _, counts, plain, ours = run["samples"][-1]
    true = sum(count or 0 for count in counts)
    assert abs(plain - true - gone) <= len(counts)
    assert abs(ours - true) <= len(counts), "calls were under way"


def test_no_path_of_a_machine_is_in_what_was_measured() -> None:
    for name in NAMES:
        text = json.dumps(result(name))
        assert not re.search(r"/(tmp|home|root|work|Users)/", text)
