"""Size of the mission's vocabulary: environments number its words, modules embed them."""

MISSION_WORDS = 32
"""Q: word numbers of a mission; longer ones are cut, shorter ones padded with 0."""

MISSION_VOCABULARY = 512
"""Word numbers are below this; 0 is padding."""
