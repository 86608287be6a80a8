"""R21: which partition a key belongs to, and what a partition is called in Redis.

Partitions do not touch each other: each is a server of this model, with instances of its own.
"""

from __future__ import annotations

from itertools import count

MOST_PARTITIONS = 256
SLOTS = 2**14
_CRC16 = 0x1021
_CRC32 = 0xEDB88320


def partition_of(key: str, partitions: int) -> int:
    """The number of the partition to which a key belongs, from 0."""
    return crc32(key.encode()) % partitions


def partition_name(prefix: str, number: int, partitions: int) -> str:
    """What a partition is called in the place of a prefix: its slot is in the partition's share."""
    names = (f"{prefix}:{number}/{partitions}:{k}" for k in count())
    return next(name for name in names if slot_of(name) * partitions // SLOTS == number)


def slot_of(tag: str) -> int:
    """The slot of a cluster to which a hash tag belongs."""
    return crc16(tag.encode()) % SLOTS


def crc16(octets: bytes) -> int:
    """CRC-16/XMODEM, bit by bit, the highest first."""
    crc = 0
    for octet in octets:
        crc ^= octet << 8
        for _ in range(8):
            crc = (crc << 1) & 0xFFFF ^ (_CRC16 if crc & 0x8000 else 0)
    return crc


def crc32(octets: bytes) -> int:
    """CRC-32/ISO-HDLC, bit by bit, the lowest first."""
    crc = 0xFFFFFFFF
    for octet in octets:
        crc ^= octet
        for _ in range(8):
            crc = crc >> 1 ^ (_CRC32 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
