"""R21: which partition a key belongs to, and what partitions are called."""

from __future__ import annotations

import re
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

import distkit
from distkit.core import partitions as ours
from oracle import InMemoryCounter, InMemoryServer, model

PAGE = (Path(__file__).parents[2] / "spec" / "PROTOCOL.md").read_text("utf-8")
SECTION = PAGE.split("\n## Partitions\n")[1]
NAMES = re.findall(r"^\| `(\S+)` \| (\d+) \| (\d+) \| `(\S+)` \| (\d+) \|$", SECTION, re.M)
KEYS = re.findall(r"^\| `(\S+)` \| `[0-9a-f]{8}` \| (\d+) \| (\d+) \| (\d+) \|$", SECTION, re.M)
text = st.text(st.characters(codec="utf-8", exclude_characters=":{}"), min_size=1)


def test_the_page_has_examples() -> None:
    assert len(NAMES) == 6
    assert len(KEYS) == 5


@pytest.mark.parametrize("row", NAMES, ids=str)
def test_r21_names_are_as_in_the_examples(row: tuple[str, ...]) -> None:
    prefix, number, partitions, name, slot = row
    for name_of in (ours.name_of, model.partition_name):
        assert name_of(prefix, int(number), int(partitions)) == name
    assert ours.slot_of(name) == model.slot_of(name) == int(slot)


@pytest.mark.parametrize("row", KEYS, ids=str)
def test_r21_keys_belong_where_the_examples_say(row: tuple[str, ...]) -> None:
    key, *numbers = row
    for partitions, number in zip((3, 12, 256), numbers, strict=True):
        assert ours.partition_of(key, partitions) == int(number)
        assert model.partition_of(key, partitions) == int(number)


@given(text, st.integers(1, 256))
def test_r21_production_and_oracle_agree_on_every_key(key: str, partitions: int) -> None:
    assert ours.partition_of(key, partitions) == model.partition_of(key, partitions)


@given(text, st.sampled_from([2, 3, 7, 12]), st.data())
def test_r21_production_and_oracle_agree_on_every_name(
    prefix: str, partitions: int, data: st.DataObject
) -> None:
    number = data.draw(st.integers(0, partitions - 1))
    name = ours.name_of(prefix, number, partitions)
    assert name == model.partition_name(prefix, number, partitions)


@pytest.mark.parametrize("partitions", [2, 3, 12, 256])
def test_r21_each_partition_has_its_share_of_the_slots(partitions: int) -> None:
    names = [ours.name_of("my_app", number, partitions) for number in range(partitions)]
    shares = [ours.slot_of(name) * partitions // 16_384 for name in names]
    assert shares == [*range(partitions)]


def test_r21_keys_spread_evenly() -> None:
    """What chance makes of 10,000 keys in 12 partitions: 833 ± 28 in each."""
    numbers = [ours.partition_of(f"user-{n}", 12) for n in range(10_000)]
    counts = [numbers.count(number) for number in range(12)]
    assert min(counts) > 700
    assert max(counts) < 970


def test_r21_the_counter_in_memory_is_divided_too() -> None:
    server = InMemoryServer()
    counter = InMemoryCounter(server, "p", partitions=3)
    assert counter.inc_all([("k", 1), ("connections", 2), ("ключ", 3)]) == [(1, 1), (2, 2), (3, 3)]
    for number, key in ((0, "ключ"), (1, "k"), (2, "connections")):
        name = model.partition_name("p", number, 3)
        assert server.existing(name) == {key}
    with pytest.raises(distkit.PartitionsError) as caught:
        InMemoryCounter(server, "p", partitions=2).get("k")
    assert (caught.value.there, caught.value.asked) == (3, 2)
    assert str(caught.value) == str(distkit.PartitionsError("p", 3, 2))
    with pytest.raises(distkit.PartitionsError):
        InMemoryCounter(server, "p").get("k")
