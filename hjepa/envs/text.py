"""Missions as word numbers: a stable hash, so that no vocabulary has to be built, saved or agreed on."""

import re
import zlib

import numpy as np

from hjepa.vocabulary import MISSION_VOCABULARY, MISSION_WORDS

__all__ = ["MISSION_VOCABULARY", "MISSION_WORDS", "encode_mission"]


def encode_mission(text: str) -> np.ndarray:
    """Word numbers of a mission, int64 [MISSION_WORDS], padded with 0.

    Words are runs of letters and digits, in lower case, each numbered by its CRC-32: the same in every run
    and on every machine. Different words may share a number (a pair does with chance 1 in 511).
    """
    words = re.findall(r"[a-z0-9]+", text.lower())[:MISSION_WORDS]
    numbers = np.zeros(MISSION_WORDS, np.int64)
    numbers[: len(words)] = [zlib.crc32(word.encode()) % (MISSION_VOCABULARY - 1) + 1 for word in words]
    return numbers
