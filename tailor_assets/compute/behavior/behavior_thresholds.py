"""The published thresholds of the behaviour rules, each with its unit and its source."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

from tailor_assets.compute.errors import PermanentProblem

SET_BY_USER = "set by the user"
SPECIES = ("mouse", "rat")


@dataclass(frozen=True)
class Threshold:
    """One number, what it is measured in, and who published it."""

    value: float
    unit: str
    source: str


_BEHAVIORDEPOT = (
    "BehaviorDEPOT, released parameters of its velocity-based freezing heuristic "
    "(Gabriel et al. 2022, eLife 11:e74314)"
)
_ETHOVISION_MOVEMENT = "EthoVision XT (Noldus), default of the variable Movement"
_ETHOVISION_MOBILITY = (
    "EthoVision XT, Mobility state: immobile below 4% changed body area, highly mobile above 10% "
    "(Noldus knowledge base, 'Activity, Mobility, and Movement')"
)


@dataclass(frozen=True)
class RuleThresholds:
    """Every number the rules use. ``with_values`` makes a changed copy."""

    moving_start: Threshold = Threshold(2.0, "cm/s", _ETHOVISION_MOVEMENT + ": start velocity")
    moving_stop: Threshold = Threshold(1.75, "cm/s", _ETHOVISION_MOVEMENT + ": stop velocity")
    immobile_speed: Threshold = Threshold(0.52, "cm/s", _BEHAVIORDEPOT + ": velocityThreshold")
    immobile_speed_limit: Threshold = Threshold(
        1.0,
        "cm/s",
        "BehaviorDEPOT, minSpeed of its 'moving' heuristic (Gabriel et al. 2022): measurement "
        "noise may raise immobile_speed up to here and no further",
    )
    immobile_turning: Threshold = Threshold(
        12.0, "deg/s", _BEHAVIORDEPOT + ": angleThreshold, there of the head, here of the body"
    )
    immobile_mask_motion: Threshold = Threshold(
        0.04,
        "1 - IoU per speed_time_base",
        _ETHOVISION_MOBILITY + "; held over speed_time_base and counted beyond the jitter",
    )
    immobile_mask_motion_limit: Threshold = Threshold(
        0.10,
        "1 - IoU per step",
        _ETHOVISION_MOBILITY + ": the jitter of the outline may raise immobile_mask_motion up to "
        "here and no further",
    )
    freezing_min_duration: Threshold = Threshold(0.9, "s", _BEHAVIORDEPOT + ": minDuration")
    freezing_smoothing_window: Threshold = Threshold(
        0.64, "s", _BEHAVIORDEPOT + ": windowWidth, 32 frames at 50 frames per second"
    )
    freezing_smoothing_share: Threshold = Threshold(
        10 / 32, "share of the window", _BEHAVIORDEPOT + ": countThreshold 10 of windowWidth 32"
    )
    speed_time_base: Threshold = Threshold(
        0.3,
        "s",
        "Actimetrics FreezeFrame, 'Optimal frame rates for fear conditioning': motion is best "
        "measured over 250-300 ms, whatever the frame rate",
    )
    in_nest_share: Threshold = Threshold(
        0.5,
        "share of the animal's area",
        "the convention of zones is that the centre point lies inside (EthoVision XT, In zone); "
        "an animal more than half on the nest counts too, as a curled-up outline can have its "
        "centre beside it (tailor)",
    )
    body_length_mouse: Threshold = Threshold(
        8.0,
        "cm",
        "middle of the head and body length of adult Mus musculus, 6.5-9.5 cm (Ballenger 1999, "
        "Animal Diversity Web); used only where px_per_cm is not known",
    )
    body_length_rat: Threshold = Threshold(
        20.0,
        "cm",
        "head and body length of adult Rattus norvegicus, 20-25 cm, lower end for laboratory "
        "rats; used only where px_per_cm is not known",
    )

    def __post_init__(self) -> None:
        for field in fields(self):
            threshold = getattr(self, field.name)
            if not math.isfinite(threshold.value) or threshold.value < 0:
                raise PermanentProblem(
                    f"The behaviour threshold {field.name} is {threshold.value}; "
                    f"give a number of {threshold.unit} that is 0 or more."
                )
        order = (self.immobile_speed, self.moving_stop, self.moving_start)
        if list(order) != sorted(order, key=lambda threshold: threshold.value):
            raise PermanentProblem(
                "The behaviour thresholds must keep the order immobile_speed <= moving_stop <= "
                f"moving_start, and are {', '.join(f'{t.value:g}' for t in order)} cm/s."
            )

    def with_values(self, **values: float) -> RuleThresholds:
        """A copy with other numbers; a changed threshold says it was set by the user.

        Raises PermanentProblem for a name that is no threshold or a number that cannot be one.
        """
        unknown = sorted(set(values) - {field.name for field in fields(self)})
        if unknown:
            raise PermanentProblem(
                f"There is no behaviour threshold named {unknown[0]}; the names are "
                f"{', '.join(field.name for field in fields(self))}."
            )
        return replace(
            self,
            **{
                name: replace(getattr(self, name), value=float(value), source=SET_BY_USER)
                for name, value in values.items()
            },
        )

    def table(self) -> list[dict[str, str | float]]:
        """Rows of name, value, unit, source: for metadata, the documentation and the hash."""
        return [
            {"name": field.name, **{k: getattr(getattr(self, field.name), k)
                                    for k in ("value", "unit", "source")}}
            for field in fields(self)
        ]  # fmt: skip

    def body_length_cm(self, species: str) -> float:
        """Length of the animal without its tail, in cm."""
        if species not in SPECIES:
            raise PermanentProblem(
                f"The behaviour rules know no species {species}; use one of {', '.join(SPECIES)}."
            )
        return (self.body_length_mouse if species == "mouse" else self.body_length_rat).value
