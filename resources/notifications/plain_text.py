"""Names and reasons made fit for a message: what somebody else wrote is text and nothing more."""

import unicodedata

from resources.database import storable

# Cc: control characters, line ends among them; Zl, Zp: Unicode's own line ends; Cs: half characters.
_NOT_IN_A_LINE = {"Cc", "Cs", "Zl", "Zp"}
# They turn round what follows, and a name could rewrite the sentence it is in.
_DIRECTIONS = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def one_line(text: str, longest: int) -> str:
    """The text on one line, without what cannot be seen, of at most ``longest`` characters."""
    line = "".join(
        " " if unicodedata.category(char) in _NOT_IN_A_LINE else char
        for char in str(storable(text))
        if char not in _DIRECTIONS
    )
    line = " ".join(line.split())
    return line if len(line) <= longest else f"{line[: longest - 3]}..."
