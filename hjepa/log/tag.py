"""What a TensorBoard tag is: its name, meaning and unit, and how it looks in a healthy and in a sick run."""

import re
from dataclasses import dataclass

_HOLE = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Tag:
    """A tag, or a family of tags with holes in its pattern."""

    pattern: str
    meaning: str
    unit: str
    healthy: str
    sick: str

    def __call__(self, *parts: int | str) -> str:
        """Fill the holes from left to right. Raises ValueError where parts and holes differ in number."""
        holes = _HOLE.findall(self.pattern)
        if len(parts) != len(holes):
            raise ValueError(f"{self.pattern} takes {len(holes)} parts, got {len(parts)}")
        return self.pattern.format(**{hole: str(part) for hole, part in zip(holes, parts, strict=True)})

    def matches(self, tag: str) -> bool:
        """Whether this is the family of a filled tag. A hole takes no slash."""
        pieces = [re.escape(piece) for piece in re.split(r"\{\w+\}", self.pattern)]
        return re.fullmatch(r"[^/]+".join(pieces), tag) is not None
