"""Which tracked part is the nose, the middle of the back, ...: by its usual names, or as told.

Features and rules speak of roles, so that a model trained on one laboratory's ``Mid-Back`` is good
for another's ``center_spine``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from tailor_assets.compute.errors import PermanentProblem

# Role -> names of it, best first, without capitals and without what is no letter or digit. From the
# demonstration projects and published models of BehaviorDEPOT, DeepLabCut (SuperAnimal top view,
# open field, three chamber), SLEAP, DeepOF, MARS, JABS and SimBA.
ROLE_NAMES: dict[str, tuple[str, ...]] = {
    "nose": ("nose", "snout", "nosetip", "snouttip", "nosepoint", "tipofnose"),
    "left_ear": ("leftear", "earleft", "earl", "learbase", "lear", "leftearbase", "lefteartip"),
    "right_ear": ("rightear", "earright", "earr", "rear", "rearbase", "rightearbase", "righteartip"),
    "head": (
        "head", "headcenter", "headcentre", "headmidpoint", "headmid", "midhead", "betwears",
        "betweenears", "earsmid", "headbase",
    ),
    "neck": ("neck", "baseneck", "neckbase", "nape"),
    "mid_back": (
        "midback", "back", "centerspine", "midspine", "spinemid", "spinecenter", "bodycenter",
        "bodycentre", "bodymid", "midbody", "bodymiddle", "mousecenter", "ratcenter", "center",
        "centre", "centroid", "torso", "trunk", "body", "spine", "spine1",
    ),
    "left_hip": (
        "lefthip", "hipleft", "hipl", "leftleg", "legleft", "lefthindleg", "leftbhip", "lefthindpaw",
        "leftrearpaw", "latleft", "lhip", "lhindpaw", "leftmidside",
    ),
    "right_hip": (
        "righthip", "hipright", "hipr", "rightleg", "legright", "righthindleg", "rightbhip",
        "righthindpaw", "rightrearpaw", "latright", "rhip", "rhindpaw", "rightmidside",
    ),
    "tail_base": (
        "tailbase", "basetail", "baseoftail", "tailroot", "tailstart", "tailhead", "tti", "tailset",
        "tail1",
    ),
    "tail_tip": ("tailtip", "tiptail", "tailend", "endtail", "tipoftail"),
}  # fmt: skip
# What a part called just "tail" is: the base where no other part is one.
_PLAIN_TAIL = "tail"


def plain_name(part: str) -> str:
    """A part's name for comparing: ``Mid-Back`` -> ``midback``."""
    return re.sub(r"[^a-z0-9]", "", part.lower())


def column_name(part: str) -> str:
    """A part's name for a column: ``Left Fore-Paw`` -> ``left_fore_paw``."""
    return re.sub(r"[^a-z0-9]+", "_", part.lower()).strip("_") or "part"


def find_roles(parts: Sequence[str], given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Role -> tracked part, for each role that a part was found for.

    given: role -> part, as a person says it; what is given is not looked for. An empty part name
    says that no part has this role. Raises PermanentProblem for a role or a part that is not there.
    """
    roles: dict[str, str] = {}
    given = dict(given or {})
    for role, part in given.items():
        if role not in ROLE_NAMES:
            raise PermanentProblem(
                f"There is no role {role!r} of a body part; the roles are {', '.join(ROLE_NAMES)}."
            )
        if part and part not in parts:
            raise PermanentProblem(
                f"No part {part!r} was tracked that could be the {role}; the parts are "
                f"{', '.join(parts)}."
            )
        if part:
            roles[role] = part
    taken = set(roles.values())
    plain = _without_common_prefix([plain_name(part) for part in parts])
    free = {name: part for name, part in zip(plain, parts, strict=True) if part not in taken}
    for role, names in ROLE_NAMES.items():
        if role in given:
            continue
        found = next((free[name] for name in names if name in free), None)
        if found is not None:
            roles[role] = found
    if _PLAIN_TAIL in free:
        role = "tail_base" if "tail_base" not in roles else "tail_tip"
        if role not in given and role not in roles:
            roles[role] = free[_PLAIN_TAIL]
    return {role: roles[role] for role in ROLE_NAMES if role in roles}


def _without_common_prefix(names: list[str]) -> list[str]:
    """``mouse1nose``, ``mouse1tail`` -> ``nose``, ``tail``: some programs put the animal in front.

    Only where what is left are names that are known: ``leftear`` and ``lefthip`` keep their side.
    """
    known = {name for names_of in ROLE_NAMES.values() for name in names_of}
    if len(names) < 2 or known & set(names):
        return names
    shortest = min(names, key=len)
    for length in range(len(shortest) - 1, 0, -1):
        if all(name.startswith(shortest[:length]) for name in names):
            cut = [name[length:] for name in names]
            if known & set(cut):
                return cut
    return names
