"""A recording from any laboratory, decided by a seed: one to four animals, any floor, any camera."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np

from tailor_assets.compute.simulation.arena import Arena
from tailor_assets.compute.simulation.company import CompanionBehavior
from tailor_assets.compute.simulation.individuals import (
    choose_coat,
    coat_color,
    make_individual,
    wear_implant,
)
from tailor_assets.compute.simulation.nest import MATERIALS, Nest, NestSite, choose_nest_site
from tailor_assets.compute.simulation.overhead import Cable, Hand
from tailor_assets.compute.simulation.presence import Presence
from tailor_assets.compute.simulation.sensor import Sensor
from tailor_assets.compute.simulation.shading import choose_shadows
from tailor_assets.compute.simulation.shelter import SHELTERS, Shelter
from tailor_assets.compute.simulation.skeleton import Pose, spine_of
from tailor_assets.compute.simulation.view import View
from tailor_assets.compute.simulation.wide_ground import Ground, choose_ground
from tailor_assets.compute.simulation.wide_render import Labels, WideRenderer
from tailor_assets.compute.simulation.wide_scenery import choose_floor_color, paint_wide_scenery

_HAND_CM = 8.5  # breadth
_STRIPS = 0.3  # of a demonstration's nest: strips are what takes long to paint


def body_name(animal: int) -> str:
    """The object of an animal's body, counted from 0: mouse, mouse_2, mouse_3."""
    return f"mouse_{animal + 1}" if animal else "mouse"


def tail_name(animal: int) -> str:
    """The object of its tail: tail, tail_2, tail_3."""
    return f"tail_{animal + 1}" if animal else "tail"


@dataclass
class WideScene:
    """Everything of one simulation: ``render`` a frame, ``advance`` time, and so on.

    ``animals`` counts those that belong to the recording, whether they are there or not.
    """

    ground: Ground
    behaviors: list[CompanionBehavior]
    presence: Presence
    renderer: WideRenderer
    sensor: Sensor
    has_nest: bool
    species: str
    coat: str
    lighting: str
    floor: str
    order: list[int]
    cable: Cable | None
    hand: Hand | None
    _rng: np.random.Generator

    @property
    def objects(self) -> tuple[str, ...]:
        """Names of the masks that ``frame`` returns."""
        names = [*map(body_name, range(self.animals)), *map(tail_name, range(self.animals))]
        return tuple(sorted([*names, "nest"] if self.has_nest else names))

    @property
    def animals(self) -> int:
        """How many animals the masks are for."""
        return len(self.behaviors)

    @property
    def arena(self) -> Arena:
        """The floor, in the floor's own coordinates."""
        return self.ground.arena

    @property
    def px_per_cm(self) -> float:
        """The floor's scale in the middle of the picture, as near as an oblique view has one."""
        return self.ground.px_per_cm

    @property
    def body_length(self) -> float:
        """Nose to tail root, of an animal of middling size in the middle of the picture, px."""
        return self.ground.body_length

    @property
    def labels(self) -> Labels:
        """What the numbers of the label map mean."""
        return self.renderer.labels

    def frame(self, time_s: float) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The frame as uint8 ``[H * 3 / 2, W]`` yuv420p, and bool ``[H, W]`` masks by object."""
        picture, seen = self.render(time_s)
        numbers = {"nest": self.labels.nest} if self.has_nest else {}
        for animal in range(self.animals):
            numbers[body_name(animal)] = self.labels.body(animal)
            numbers[tail_name(animal)] = self.labels.tail(animal)
        masks = {name: seen == numbers[name] for name in self.objects}
        return cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420), masks

    def doing(self, animal: int, time_s: float) -> str:
        """What an animal does at this moment, as ``RodentBehavior.behavior``, or "absent"."""
        there = self.presence.is_there(animal, time_s)
        return self.behaviors[animal].behavior if there else "absent"

    def render(self, time_s: float) -> tuple[np.ndarray, np.ndarray]:
        """The frame of this moment, uint8 ``[H, W, 3]`` RGB, and its labels, uint8 ``[H, W]``."""
        poses: list[Pose | None] = [
            behavior.seen_pose if self.presence.is_there(index, time_s) else None
            for index, behavior in enumerate(self.behaviors)
        ]
        visit = self.presence.hand(time_s) if self.hand is not None else None
        away, target = 0.0, np.zeros(2)
        if visit is not None and self.hand is not None:
            away = visit.away(time_s) or 0.0
            aim = visit.target
            if visit.carries is not None and visit.takes:
                pose = self.behaviors[visit.carries].pose
                aim = (pose.x, pose.y)
            target = self.ground.view.to_picture(np.array([aim]))[0]
            if visit.carries is not None and visit.holds(time_s):
                poses[visit.carries] = self._carried(visit.carries, target, away)
        picture, labels = self.renderer.render(poses, self.order)
        first = poses[0]
        if self.cable is not None and first is not None:
            spine = spine_of(first, self.behaviors[0].body_length)
            x, y, _ = spine.place(0.78, 0.0)
            self.cable.draw(picture, labels, self.ground.view.to_picture(np.array([[x, y]]))[0])
        if visit is not None and self.hand is not None:
            self.hand.draw(picture, labels, target, away)
        return self.sensor.expose(picture, labels, time_s)

    def _carried(self, animal: int, target: np.ndarray, away: float) -> Pose:
        """The animal's pose where the hand holds it."""
        assert self.hand is not None
        pose = self.behaviors[animal].seen_pose
        at = target + away * self.hand.entry()
        x, y = (float(v) for v in self.ground.view.to_floor(at[0], at[1]))
        shift = np.array([x - pose.x, y - pose.y])
        return replace(pose, x=x, y=y, velocity_x=0.0, velocity_y=0.0, tail=pose.tail + shift)

    def advance(self, time_s: float, seconds: float) -> None:
        """Let ``seconds`` pass after ``time_s``."""
        for index, behavior in enumerate(self.behaviors):
            behavior.advance(seconds)
            place = self.presence.returns(index, time_s, time_s + seconds)
            if place is not None:
                anywhere = self.ground.arena_of(index).random_point(self._rng, behavior.margin)
                behavior.leave_for(*(anywhere if math.isnan(place[0]) else place))
        self._climb()

    def _climb(self) -> None:
        """Who lies on whom changes only between animals that are apart."""
        if len(self.order) < 2 or self._rng.random() > 0.2:
            return
        place = int(self._rng.integers(len(self.order) - 1))
        low, high = (self.behaviors[i].pose for i in self.order[place : place + 2])
        apart = np.hypot(low.x - high.x, low.y - high.y)
        if apart > 2.0 * self.ground.body_length:
            self.order[place], self.order[place + 1] = self.order[place + 1], self.order[place]


def build_wide_scene(
    seed: int,
    *,
    width: int,
    height: int,
    duration_s: float,
    animals: int | None = None,
) -> WideScene:
    """Choose and paint everything that the seed decides.

    ``duration_s`` is how long the recording will be, for what is to happen in it. ``animals`` is
    the number of animals, 0 to 4; None leaves it to the seed (one in most recordings, now and then
    none: then there is one animal that never comes).
    """
    choices, floor, looks, fur, heap, mind, optics, shades, fate = (
        np.random.default_rng(child) for child in np.random.SeedSequence([seed, 2]).spawn(9)
    )
    count = animals
    if count is None:
        count = int(choices.choice([0, 1, 2, 3, 4], p=[0.03, 0.57, 0.24, 0.10, 0.06]))
    infrared = bool(choices.random() < 0.3)
    ground = choose_ground(floor, width, height)
    if animals is None and count and choices.random() < 0.7:
        count = max(count, len(ground.spots))  # one in each arena
    coat = choose_coat(choices, ground.species)
    color = coat_color(choices, coat, infrared)
    floor_color, contrast = choose_floor_color(looks, float(color[0]), infrared)
    scenery = paint_wide_scenery(looks, ground, width, height, floor_color, contrast, infrared)
    luma = scenery.lit[::4, ::4, 0]
    sensor = Sensor(
        optics,
        height,
        width,
        infrared=infrared,
        contrast=contrast,
        level=float(luma.mean()),
        brightest=float(np.percentile(luma, 97)),
    )
    rodents, implanted = [], choices.random() < 0.06
    for index in range(max(count, 1)):
        own_coat, own_color = coat, color
        if index and choices.random() < 0.3:
            own_coat = choose_coat(choices, ground.species)
            own_color = coat_color(choices, own_coat, infrared)
        rodent = make_individual(
            fur,
            species=ground.species,
            coat=own_coat,
            color=own_color,
            body_length=ground.body_length * float(fur.uniform(0.92, 1.08)),
            infrared=infrared,
            view=ground.view,
        )
        if implanted:
            wear_implant(fur, rodent)
        rodents.append(rodent)
    site: NestSite | None = None
    pile: Nest | Shelter | None = None
    if choices.random() < 0.45 and ground.arena.kind != "plus":
        site = choose_nest_site(heap, ground.arena_of(0), ground.body_length)
        seen = _seen_site(site, ground.view)
        if heap.random() < 0.35:
            pile = Shelter(heap, seen, str(heap.choice(SHELTERS)), infrared)
        else:
            pile = Nest(heap, seen, str(heap.choice(MATERIALS)), infrared, strips=_STRIPS)
    rooms = len(ground.spots)
    closeness = float(mind.uniform(0.1, 1.0))
    behaviors = [
        CompanionBehavior(
            mind,
            ground.arena_of(index),
            rodent.length,
            site if index % rooms == 0 else None,
            closeness,
        )
        for index, rodent in enumerate(rodents)
    ]
    for index, behavior in enumerate(behaviors):
        together = behaviors[index % rooms :: rooms]
        behavior.company = [other for other in together if other is not behavior]
        behavior.obstacles = scenery.obstacles
    shadows = choose_shadows(shades, ground.body_length)
    if shades.random() < 0.18:  # a lamp that stands low
        long = shades.uniform(1.5, 2.8)
        shadows = [(x * long, y * long, soft, dark) for x, y, soft, dark in shadows]
    order = list(range(len(rodents)))
    shades.shuffle(order)
    presence = Presence(fate, len(rodents), duration_s, ground, empty=count == 0)
    hand, cable = None, None
    if presence.visits:
        hand = Hand(fate, height, width, _HAND_CM * ground.px_per_cm, infrared)
    if count and (shades.random() < (0.5 if implanted else 0.04)):
        cable = Cable(shades, height, width, ground.body_length)
    return WideScene(
        ground=ground,
        behaviors=behaviors,
        presence=presence,
        renderer=WideRenderer(
            ground,
            scenery,
            rodents,
            pile,
            shadows,
            sensor.focus_sigma,
            sensor.exposure_s,
        ),
        sensor=sensor,
        has_nest=site is not None,
        species=ground.species,
        coat=coat,
        lighting="infrared" if infrared else "visible",
        floor=scenery.surface,
        order=order,
        cable=cable,
        hand=hand,
        _rng=fate,
    )


def _seen_site(site: NestSite, view: View) -> NestSite:
    """The nest's ellipse as it lies in the picture."""
    x, y, angle, scale = view.local(site.x, site.y, site.angle)
    return NestSite(
        x, y, site.radius * scale, site.half_long * scale, site.half_short * scale, angle
    )
