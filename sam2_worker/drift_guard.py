"""Judges every tracked mask: is it still its object, and may the tracker learn from it?

A tracker's own memory is how a drift lives on: one frame in which the mask took in the bedding
teaches it that the bedding is the mouse. Masks beyond belief are emptied and not remembered; masks
in doubt are marked. Nothing here looks at pixels: scores, areas, places and overlaps are enough, and
are cheap to have from the low-resolution logits.

Plain Python: imported by both environments. Everything is in shares of the frame and in seconds, so
that no threshold depends on resolution or frame rate.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

from sam2_worker.identity_watch import BODY_LENGTH, IdentityWatch, Place, in_frame_units
from sam2_worker.usual_area import UsualArea
from tailor_assets.compute.mask_state import MaskState
from tailor_assets.compute.prompts import ObjectKind


@dataclass(frozen=True)
class Measured:
    """One object in one frame. ``score``: probability that it is in the picture; ``area``: share of
    the frame; ``centroid`` (x, y) and ``box`` (x0, y0, x1, y1) in fractions of width and height,
    None for an empty mask; ``overlaps``: shared area with each other object, share of the frame."""

    score: float
    area: float
    centroid: tuple[float, float] | None
    box: tuple[float, float, float, float] | None
    overlaps: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """What to do with a mask. ``keep_mask`` False: write an empty one; ``keep_memory`` False: the
    tracker must not look back at this frame; ``wants_refind``: look for the animal by other means
    before the next frame; ``wants_check``: ask whether it is where the mask is; ``wants_parting``: see
    whether the animals that have merged lie apart by now."""

    state: MaskState
    keep_mask: bool
    keep_memory: bool
    wants_refind: bool = False
    wants_check: bool = False
    wants_parting: bool = False


@dataclass(frozen=True)
class GuardSettings:
    """Thresholds, each with its reason.

    Measured on the true bodies of a real recording (30 frames/s) and of twelve simulated ones (15
    frames/s, with nests), 13,130 frames: no alarm, but for remnants in 0.3% of the frames.
    """

    lost_score: float = 0.5
    """SAM2's own limit: below it the model says that the object is not in the picture."""
    doubtful_score: float = 0.8
    """Between this and ``lost_score`` the model itself wavers (a logit below 1.4). Not measured:
    that takes trained weights and footage with losses in it."""
    largest_animal: float = 0.35
    """Share of the frame. The animals of those recordings cover 0.02 at most, a rat in a small
    chamber a tenth of the picture; the background segmenter believes no more than this either."""
    largest_nest: float = 0.6
    """Share of the frame. Bedding over half of a small cage happens; more is the cage itself."""
    explosion: float = 3.0
    """Times the full size: no posture explains it, nor a first click on half of the animal."""
    doubtful_growth: float = 1.9
    """Times the full size: more than an animal grows by stretching (measured: 1.2 at most)."""
    remnant: float = 0.3
    """Times the full size. Less is a part of the object: a tail, a back between strands."""
    jump: float = 1.7
    """Factor of area within a tenth of a second. Bodies do not do that; masks do."""
    settled_s: float = 3.0
    """A new size that stays for so long with a good score is the object's after all, a person
    having clicked a part of it, say. It is doubted for the next ``proof_s``."""
    settled_spread: float = 1.5
    """Factor by which a size that stays may vary."""
    proof_s: float = 30.0
    young_s: float = 0.5
    """Nothing explodes so soon after its first mask: that one may have been of a part."""
    merged: float = 0.5
    """Share of an animal's mask that is another's too."""
    same: float = 0.6
    """IoU of two animals' masks from which on they are of one animal, which one of them has left for.
    Animals that lie in a heap share less: each mask leaves out what the other hides."""
    alone: float = 0.75
    """Share of two animals' full sizes up to which such a pair of masks is not of both together."""
    fastest: float = 12.0
    """Body lengths per second. A mouse of 9 cm at a metre per second, which none exceeds indoors."""
    crossing_s: float = 0.5
    """After a longer contact an animal's way says nothing about who comes out where."""
    swap_gain: float = 0.4
    """Exchanged, two animals must have gone less than this share of the way gone unexchanged."""
    refind_after_s: float = 0.2
    """Losses of a frame or two end by themselves, and the tracker's own mask fits better."""
    refind_every_s: float = 0.2
    """A look costs about as much as a frame of a fast tracker."""
    check_every_s: float = 0.15
    """A tracker that has taken a dark wall for its mouse is as sure of it as of the mouse."""
    check_after_s: float = 3.0
    """So soon after a click it knows its animal best; the scene is learnt meanwhile, by another
    core."""


@dataclass
class _Object:
    """What is known of one object. Steps are those given to ``judge``."""

    kind: ObjectKind
    usual: UsualArea
    gone_since: float | None = None
    odd_since: float | None = None
    odd_area: float = 0.0
    proof_since: float | None = None
    clicked_at: float | None = None
    last: tuple[float, float] | None = None
    place: tuple[float, float] | None = None


_GONE = (MaskState.LOST, MaskState.EXPLODED)
_SETTLED = (MaskState.MERGED, MaskState.SWAPPED, MaskState.REFOUND)
_NOT_KEPT = {
    MaskState.LOST: Verdict(MaskState.LOST, keep_mask=False, keep_memory=False),
    MaskState.EXPLODED: Verdict(MaskState.EXPLODED, keep_mask=False, keep_memory=False),
}


class DriftGuard:
    """Fed once per tracked frame, in order (steps may fall: tracking backward). Bounded memory."""

    def __init__(
        self,
        objects: Sequence[tuple[str, ObjectKind]],
        settings: GuardSettings | None = None,
        *,
        seconds_per_step: float,
        aspect: float,
    ) -> None:
        """``seconds_per_step``: time between frames that follow each other (their median);
        ``aspect``: width over height of the picture."""
        if not (seconds_per_step > 0 and aspect > 0):
            raise ValueError(f"seconds_per_step {seconds_per_step} and aspect {aspect} must be > 0")
        self._settings = settings = settings or GuardSettings()
        self._dt = seconds_per_step
        self._aspect = aspect
        self._objects = {name: _Object(kind, UsualArea(seconds_per_step)) for name, kind in objects}
        self._identities = IdentityWatch(
            seconds_per_step, settings.fastest, settings.crossing_s, settings.swap_gain
        )

    def judge(
        self,
        step: float,
        seen: Mapping[str, Measured],
        *,
        clicked: Collection[str] = (),
        refound: Collection[str] = (),
    ) -> dict[str, Verdict]:
        """One verdict for each object in ``seen``; those that were not looked at are left out.

        ``clicked``: objects that a person's (or a template's) point is on in this frame: its size
        and place count from there. ``refound``: objects that the background model prompted in this
        frame. Raises KeyError for an object that is not guarded.
        """
        for name in clicked:
            # As if the object began here: so it can be tracked again from any click, and be judged
            # the same.
            self._objects[name] = _Object(self._objects[name].kind, UsualArea(self._dt))
        present = {n: m for n, m in seen.items() if not self._is_lost(m) and not self._fills(n, m)}
        prompted = {*clicked, *refound}
        strays = self._strays(present, prompted)
        present = {name: measured for name, measured in present.items() if name not in strays}
        partners = self._partners(present)
        leapt = self._leapt(step, present, prompted)
        exchanged = self._exchanged(step, present, partners, prompted)
        out = {}
        for name, measured in seen.items():
            own = self._objects[name]
            if name not in present:
                own.odd_since = None
                gone = name in strays or self._is_lost(measured)
                verdict = _NOT_KEPT[MaskState.LOST if gone else MaskState.EXPLODED]
            elif name in clicked:
                verdict = self._clicked(own, step, measured)
            elif name in refound:
                verdict = self._refound(own, step, measured, partners[name])
            else:
                verdict = self._tracked(
                    own, step, measured, partners[name], name in exchanged, name in leapt
                )
            # Where it was by itself: of two masks on one animal, one has come to the other.
            if verdict.keep_mask and verdict.state is not MaskState.MERGED:
                own.place = measured.centroid
            out[name] = self._with_refind(own, step, verdict)
        return out

    def full_size(self, name: str) -> float | None:
        """Of an object, as a share of the picture; None where it is not known yet."""
        usual = self._objects[name].usual
        return usual.full if usual.known else None

    def is_animal(self, name: str) -> bool:
        """Whether an object is one; False for a nest."""
        return self._objects[name].kind == "animal"

    def _strays(self, present: Mapping[str, Measured], prompted: Collection[str]) -> set[str]:
        """Animals whose mask is another's: of two on one animal, the one that came from farther."""
        strays: set[str] = set()
        animals = [name for name in present if self._objects[name].kind == "animal"]
        for first, second in combinations(animals, 2):
            one, two = present[first], present[second]
            shared = one.overlaps.get(second, 0.0)
            either = one.area + two.area - shared
            if shared < self._settings.same * either or either > self._settings.alone * (
                self._full(first, one) + self._full(second, two)
            ):
                continue
            came = {
                name: (name not in prompted, self._has_come(name, present[name]))
                for name in (first, second)
                if name not in strays
            }
            if len(came) == 2:
                strays.add(max(came, key=lambda name: came[name]))
        return strays

    def _full(self, name: str, measured: Measured) -> float:
        size = self.full_size(name)
        return measured.area if size is None else size

    def _has_come(self, name: str, measured: Measured) -> float:
        """How far its mask is from where it was last believed, in widths of the picture."""
        before = self._objects[name].place
        if before is None or measured.centroid is None:
            return math.inf
        (x0, y0), (x1, y1) = before, measured.centroid
        return math.hypot(x1 - x0, (y1 - y0) / self._aspect)

    def _is_lost(self, measured: Measured) -> bool:
        # Written so that a score or area that is not a number is lost too.
        return not (measured.score >= self._settings.lost_score and measured.area > 0)

    def _fills(self, name: str, measured: Measured) -> bool:
        """Above the absolute limit of its kind: no history makes that an animal."""
        nest = self._objects[name].kind == "nest"
        s = self._settings
        return measured.area > (s.largest_nest if nest else s.largest_animal)

    def _clicked(self, own: _Object, step: float, measured: Measured) -> Verdict:
        own.usual.restart(step, measured.area)
        own.last, own.clicked_at = (step, measured.area), step
        return self._marked(measured.score < self._settings.doubtful_score)

    def _refound(
        self, own: _Object, step: float, measured: Measured, partners: Collection[str]
    ) -> Verdict:
        own.odd_since = None
        if partners:
            return Verdict(MaskState.MERGED, keep_mask=True, keep_memory=False)
        # The background model's point is a guess: it may not teach a new size.
        if own.usual.known and measured.area > self._settings.doubtful_growth * own.usual.full:
            return _NOT_KEPT[MaskState.EXPLODED]
        own.last = (step, measured.area)
        own.usual.believe(step, measured.area)
        return Verdict(MaskState.REFOUND, keep_mask=True, keep_memory=True)

    def _tracked(
        self,
        own: _Object,
        step: float,
        measured: Measured,
        partners: Collection[str],
        exchanged: bool,
        leapt: bool,
    ) -> Verdict:
        s, area = self._settings, measured.area
        sure = measured.score >= s.doubtful_score
        jumped = self._jumped(own, step, area)
        if not own.usual.known:
            own.usual.restart(step, area)
        full = own.usual.full
        if partners:
            own.odd_since = None
            together = full + sum(self._objects[name].usual.full for name in partners)
            if area > max(s.explosion * full, s.doubtful_growth * together):
                return _NOT_KEPT[MaskState.EXPLODED]
            own.last = (step, area)
            return Verdict(MaskState.MERGED, keep_mask=True, keep_memory=False)
        if area > s.doubtful_growth * full:
            if not self._has_settled(own, step, area, sure):
                if area > s.explosion * full:
                    return _NOT_KEPT[MaskState.EXPLODED]
                own.last = (step, area)
                state = MaskState.SWAPPED if exchanged else MaskState.UNCERTAIN
                return Verdict(state, keep_mask=True, keep_memory=False)
            own.usual.restart(step, area)
            own.proof_since = step
        own.odd_since = None
        own.last = (step, area)
        if exchanged:
            return Verdict(MaskState.SWAPPED, keep_mask=True, keep_memory=False)
        if leapt:
            return Verdict(MaskState.UNCERTAIN, keep_mask=True, keep_memory=False)
        is_part = area < s.remnant * full
        if sure:
            own.usual.believe(step, area, slowly=is_part)
        unproven = self._unproven(own, step)
        # A part of an animal, or a faint one, must still be followed: it is remembered.
        return self._marked(not sure or jumped or unproven or is_part)

    def _marked(self, doubtful: bool) -> Verdict:
        state = MaskState.UNCERTAIN if doubtful else MaskState.TRACKED
        return Verdict(state, keep_mask=True, keep_memory=True)

    def _jumped(self, own: _Object, step: float, area: float) -> bool:
        if own.last is None or abs(step - own.last[0]) > max(1, round(0.1 / self._dt)):
            return False
        # At a few frames per second a body may well do in one step what it does in a second.
        if self._dt > 0.1:
            return False
        return abs(math.log(area / own.last[1])) > math.log(self._settings.jump)

    def _has_settled(self, own: _Object, step: float, area: float, sure: bool) -> bool:
        """Whether an unbelievable size has stayed for long enough to be believed."""
        s = self._settings
        if not sure:
            own.odd_since = None
            return False
        spread = math.log(s.settled_spread)
        if own.odd_since is None or abs(math.log(area / own.odd_area)) > spread:
            own.odd_since, own.odd_area = step, area
        young = abs(step - own.usual.since) <= max(2, round(s.young_s / self._dt))
        return young or abs(step - own.odd_since) * self._dt >= s.settled_s

    def _unproven(self, own: _Object, step: float) -> bool:
        if own.proof_since is None:
            return False
        if abs(step - own.proof_since) * self._dt < self._settings.proof_s:
            return True
        own.proof_since = None
        return False

    def _with_refind(self, own: _Object, step: float, verdict: Verdict) -> Verdict:
        every = max(1, round(self._settings.refind_every_s / self._dt))
        if verdict.state not in _GONE:
            # One doubtful mask in between does not end a loss.
            if verdict.state is not MaskState.UNCERTAIN:
                own.gone_since = None
            if verdict.state is MaskState.MERGED:
                return replace(verdict, wants_parting=step % every == 0)
            return self._with_check(own, step, verdict)
        if own.gone_since is None:
            own.gone_since = step
        if own.kind != "animal":
            return verdict
        # A loss may begin between two frames that are written, at a click.
        gone = int(abs(step - own.gone_since))
        first = math.ceil(self._settings.refind_after_s / self._dt - 1e-9)
        wants = gone >= first and (gone - first) % every == 0
        return Verdict(verdict.state, verdict.keep_mask, verdict.keep_memory, wants)

    def _with_check(self, own: _Object, step: float, verdict: Verdict) -> Verdict:
        """Not of animals that touch: which of them is where, the background model does not know."""
        every = max(1, math.floor(self._settings.check_every_s / self._dt + 1e-9))
        if own.kind != "animal" or verdict.state in _SETTLED or step % every:
            return verdict
        clicked = own.clicked_at
        if clicked is not None and abs(step - clicked) * self._dt < self._settings.check_after_s:
            return verdict
        return replace(verdict, wants_check=True)

    def _partners(self, present: Mapping[str, Measured]) -> dict[str, list[str]]:
        """For each object, the animals that it has merged with. An animal on a nest is no merger."""
        s = self._settings
        out: dict[str, list[str]] = {name: [] for name in present}
        animals = [name for name in present if self._objects[name].kind == "animal"]
        for name in animals:
            own, usual = present[name], self._objects[name].usual
            for other in animals:
                shared = own.overlaps.get(other, 0.0)
                if other == name or not shared:
                    continue
                # It lies in the other's mask; or it has grown and taken the other's in.
                inside = shared >= s.merged * own.area
                swallows = (
                    usual.known
                    and own.area > 1.3 * usual.full
                    and shared >= s.merged * present[other].area
                )
                if inside or swallows:
                    out[name].append(other)
        return out

    def _places(self, present: Mapping[str, Measured]) -> dict[str, Place]:
        """Where the animals are; the middle of a mask beyond belief says nothing of that."""
        out = {}
        for name, measured in present.items():
            own = self._objects[name]
            limit = self._settings.explosion * own.usual.full if own.usual.known else math.inf
            if measured.centroid and own.kind == "animal" and measured.area <= limit:
                out[name] = in_frame_units(measured.centroid, self._aspect)
        return out

    def _body(self, name: str, measured: Measured) -> float:
        return BODY_LENGTH * math.sqrt(self._full(name, measured))

    def _leapt(
        self, step: float, present: Mapping[str, Measured], prompted: Collection[str]
    ) -> set[str]:
        return {
            name
            for name, place in self._places(present).items()
            if name not in prompted
            and self._identities.leapt(step, name, place, self._body(name, present[name]))
        }

    def _exchanged(
        self,
        step: float,
        present: Mapping[str, Measured],
        partners: Mapping[str, Collection[str]],
        prompted: Collection[str],
    ) -> set[str]:
        return self._identities.exchanged(
            step,
            self._places(present),
            {name: self._body(name, measured) for name, measured in present.items()},
            {(min(a, b), max(a, b)) for a, others in partners.items() for b in others},
            prompted,
        )

    def state_dict(self) -> dict[str, Any]:
        """All that the next verdicts depend on, as plain values. Settings are not part of it."""
        return {
            "objects": {
                name: {
                    "usual": own.usual.state_dict(),
                    "gone_since": own.gone_since,
                    "odd_since": own.odd_since,
                    "odd_area": own.odd_area,
                    "proof_since": own.proof_since,
                    "clicked_at": own.clicked_at,
                    "last": own.last,
                    "place": own.place,
                }
                for name, own in self._objects.items()
            },
            "identities": self._identities.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state_dict`` was taken. Raises ValueError for a state of other objects."""
        if set(state["objects"]) != set(self._objects):
            raise ValueError(
                f"the state is of {sorted(state['objects'])}, not of {sorted(self._objects)}"
            )
        for name, values in state["objects"].items():
            last, place = values["last"], values["place"]
            self._objects[name] = _Object(
                kind=self._objects[name].kind,
                **{
                    **values,
                    "usual": UsualArea.from_state_dict(values["usual"]),
                    "last": None if last is None else (last[0], last[1]),
                    "place": None if place is None else (place[0], place[1]),
                },
            )
        self._identities.load_state_dict(state["identities"])
