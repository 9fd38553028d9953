"""Draws several animals, what mirrors and shades them and what hides them, into a painted scene.

Beside the picture it keeps a map of labels: what is drawn later takes the pixels of what it hides,
so that the truth is what can be seen, and no pixel belongs to two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from tailor_assets.compute.simulation.box import Box
from tailor_assets.compute.simulation.nest import Nest
from tailor_assets.compute.simulation.rodent import Rodent
from tailor_assets.compute.simulation.shading import (
    Shadow,
    blurred,
    cast_shadows,
    shifted,
    three,
)
from tailor_assets.compute.simulation.shelter import Shelter
from tailor_assets.compute.simulation.skeleton import Pose, spine_of
from tailor_assets.compute.simulation.view import View
from tailor_assets.compute.simulation.wide_ground import Ground
from tailor_assets.compute.simulation.wide_scenery import WideScenery

_YCC_TO_RGB = np.array(
    [[1.0, 0.0, 1.402], [1.0, -0.344136, -0.714136], [1.0, 1.772, 0.0]], dtype=np.float32
)
_TAIL_COVERAGE = 0.35  # a tail is so thin that half coverage would break it into pieces


@dataclass(frozen=True)
class Drawn:
    """One animal of one frame: where it is drawn, its blurred layers and its tail's coverage."""

    patch: Box
    layers: np.ndarray  # float32 [h, w, 4], as Rodent.draw_body
    tail: np.ndarray  # float32 [h, w]


class Labels:
    """The numbers of the label map: 0 nothing, then bodies, then tails, then the nest."""

    def __init__(self, animals: int) -> None:
        self.nest = 2 * animals + 1
        self._animals = animals

    def body(self, animal: int) -> int:
        """Body, head, ears and feet of an animal, counted from 0."""
        return 1 + animal

    def tail(self, animal: int) -> int:
        """Its tail."""
        return 1 + self._animals + animal


class WideRenderer:
    """Draws one frame after another; only what is near the animals is composed anew."""

    def __init__(
        self,
        ground: Ground,
        scenery: WideScenery,
        rodents: list[Rodent],
        nest: Nest | Shelter | None,
        shadows: list[Shadow],
        focus_sigma: float,
        exposure_s: float,
    ) -> None:
        self._view: View = ground.view
        self._ground, self._scenery, self._rodents = ground, scenery, rodents
        self._nest, self._shadows = nest, shadows
        self._shadow_reach = max((max(abs(s[0]), abs(s[1])) for s in shadows), default=0.0)
        self._focus, self._exposure = focus_sigma, exposure_s
        self._height, self._width = scenery.light.shape
        self.labels = Labels(len(rodents))
        self._map = np.zeros((self._height, self._width), np.uint8)
        self._still_map = self._map.copy()
        self._empty = scenery.lit  # without a nest
        self._base = scenery.lit  # with what lies under an animal in the nest
        self._still = scenery.lit.copy()
        self._nest_patch: Box | None = None
        if nest is not None:
            self._nest_patch = self._patch(
                nest.left, nest.top, nest.left + nest.size, nest.top + nest.size
            )
            self._empty = scenery.lit.copy()
            self._base = scenery.lit.copy()
            if self._nest_patch is not None:
                self._shade_under_nest(nest, self._nest_patch)
                self._bake_nest(nest, self._nest_patch)
        self._map[...] = self._still_map
        self._work = self._still.copy()
        self._picture = np.zeros((self._height, self._width, 3), np.uint8)
        self._finish(Box(0, 0, self._width, self._height))
        self._still_picture = self._picture.copy()

    def render(self, poses: list[Pose | None], order: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """The clean picture uint8 ``[H, W, 3]`` RGB and the label map uint8 ``[H, W]``, both reused.

        ``poses`` of all animals, None where one is not there; ``order`` their indices, the one
        that lies lowest first.
        """
        drawn = {
            index: self._draw(index, pose) for index, pose in enumerate(poses) if pose is not None
        }
        there: dict[int, Drawn] = {i: d for i, d in drawn.items() if d is not None}
        nest, nest_patch = self._nest, self._nest_patch
        at_nest = nest_patch is not None and any(d.patch.meets(nest_patch) for d in there.values())
        dirty = [d.patch for d in there.values()]
        if nest is not None and nest_patch is not None and at_nest:
            self._push_nest(nest, nest_patch, poses)
            dirty.append(nest_patch)
            rows, columns = nest_patch.slices
            self._work[rows, columns] = self._base[rows, columns]
            self._map[rows, columns] = 0
        for index in order:
            if index in there:
                self._put(index, there[index])
        if nest is not None and nest_patch is not None and at_nest:
            self._cover_with_nest(nest, nest_patch)
        for patch in dirty:
            self._finish(patch)
        picture, labels = self._picture.copy(), self._map.copy()
        for patch in dirty:
            where = patch.slices
            self._work[where] = self._still[where]
            self._map[where] = self._still_map[where]
            self._picture[where] = self._still_picture[where]
        return picture, labels

    # --- animals ----------------------------------------------------------------------------

    def _draw(self, index: int, pose: Pose) -> Drawn | None:
        rodent = self._rodents[index]
        spine = spine_of(pose, rodent.length)
        seen, tail_seen = self._view.to_picture(spine.points), self._view.to_picture(pose.tail)
        _, _, _, scale = self._view.local(pose.x, pose.y, pose.heading)
        reach = 0.33 * rodent.length * pose.girth * scale + 3
        low, high = seen.min(axis=0) - reach, seen.max(axis=0) + reach
        body = self._patch(low[0], low[1], high[0] + 1, high[1] + 1)
        pad = 0.2 * rodent.length * scale + 4 + self._shadow_reach
        low = np.minimum(
            tail_seen.min(axis=0) - pad, low - 0.1 * rodent.length - self._shadow_reach
        )
        high = np.maximum(
            tail_seen.max(axis=0) + pad, high + 0.1 * rodent.length + self._shadow_reach
        )
        patch = self._patch(low[0], low[1], high[0] + 1, high[1] + 1)
        if patch is None:
            return None
        layers = rodent.draw_tail(
            pose, patch.left, patch.top, patch.right - patch.left, patch.bottom - patch.top
        )
        tail = layers[..., 3].copy()
        layers[..., 3] = 0
        if body is not None:
            part = layers[
                body.top - patch.top : body.bottom - patch.top,
                body.left - patch.left : body.right - patch.left,
            ]
            fur = rodent.draw_body(
                pose, spine, body.left, body.top, body.right - body.left, body.bottom - body.top
            )
            clear = 1 - fur[..., 3]
            part *= cv2.merge([clear, clear, clear, clear])
            part += fur
            tail *= 1 - layers[..., 3]
        ahead = self._view.to_picture(
            np.array(
                [
                    [pose.x, pose.y],
                    [
                        pose.x + pose.velocity_x * self._exposure,
                        pose.y + pose.velocity_y * self._exposure,
                    ],
                ]
            )
        )
        travel_x, travel_y = (float(v) for v in ahead[1] - ahead[0])
        layers = blurred(layers, travel_x, travel_y, self._focus)
        return Drawn(patch, layers, blurred(tail, travel_x, travel_y, self._focus))

    def _put(self, index: int, drawn: Drawn) -> None:
        """Shadow, mirror images and body of one animal, over whatever lies lower."""
        where = drawn.patch.slices
        crop, light = self._work[where], self._scenery.light[where]
        body = np.ascontiguousarray(drawn.layers[..., 3])
        cast_shadows(crop, body + 0.8 * drawn.tail, self._shadows)
        if self._scenery.floor_reflection:
            self._mirror_in_floor(crop, drawn, light)
        if self._scenery.wall_reflection:
            self._mirror_in_wall(crop, drawn, light)
        crop *= three(1 - body - drawn.tail)
        crop += np.ascontiguousarray(drawn.layers[..., :3]) * three(light)
        labels = self._map[where]
        labels[drawn.tail > _TAIL_COVERAGE] = self.labels.tail(index)
        labels[body > 0.5] = self.labels.body(index)

    def _mirror_in_floor(self, crop: np.ndarray, drawn: Drawn, light: np.ndarray) -> None:
        """The belly's mirror image in a polished floor, seen beside the animal away from the lens."""
        patch = drawn.patch
        middle_x = (patch.left + patch.right) / 2 - self._width / 2
        middle_y = (patch.top + patch.bottom) / 2 - self._height / 2
        part = 0.16 * self._rodents[0].length / (0.5 * self._width)
        image = cv2.GaussianBlur(drawn.layers, (0, 0), 0.02 * self._rodents[0].length + 0.4)
        image = shifted(image, -part * middle_x, -part * middle_y + 0.03 * self._rodents[0].length)
        self._mix(crop, image, light, self._scenery.floor_reflection)

    def _mirror_in_wall(self, crop: np.ndarray, drawn: Drawn, light: np.ndarray) -> None:
        """A dim mirror image beyond the nearest wall, where it shows the wall."""
        wall = self._scenery.wall[drawn.patch.slices]
        if float(wall.max(initial=0.0)) < 0.5:
            return
        solid = drawn.layers[..., 3] > 0.5
        if not solid.any():
            return
        rows, columns = np.nonzero(solid)
        x, y = float(columns.mean()) + drawn.patch.left, float(rows.mean()) + drawn.patch.top
        floor_x, floor_y = (float(v) for v in self._view.to_floor(np.array(x), np.array(y)))
        arena = self._ground.arena_near(floor_x, floor_y)
        gap = arena.wall_distance(floor_x, floor_y)
        if not 0 < gap < 1.2 * self._rodents[0].length:
            return
        inward_x, inward_y = arena.inward(floor_x, floor_y)
        foot = np.array(
            [
                [floor_x, floor_y],
                [floor_x - inward_x * gap, floor_y - inward_y * gap],
                [floor_x - inward_x * gap - inward_y, floor_y - inward_y * gap + inward_x],
            ]
        )
        _, at, beside = self._view.to_picture(foot)
        along = (beside - at) / max(float(np.hypot(*(beside - at))), 1e-6)
        turn = np.array(
            [
                [2 * along[0] ** 2 - 1, 2 * along[0] * along[1]],
                [2 * along[0] * along[1], 2 * along[1] ** 2 - 1],
            ]
        )
        local = at - np.array([drawn.patch.left, drawn.patch.top])
        matrix = np.hstack([turn, (local - turn @ local)[:, None]])
        image = cv2.warpAffine(drawn.layers, matrix, drawn.layers.shape[1::-1])
        image = cv2.GaussianBlur(image, (0, 0), 0.035 * self._rodents[0].length + 0.4)
        fade = self._scenery.wall_reflection * math.exp(-gap / (0.8 * self._rodents[0].length))
        self._mix(crop, image, light, wall * np.float32(fade))

    @staticmethod
    def _mix(
        crop: np.ndarray, image: np.ndarray, light: np.ndarray, strength: np.ndarray | float
    ) -> None:
        part = np.broadcast_to(np.float32(strength), light.shape)
        crop *= three(1 - image[..., 3] * part)
        crop += np.ascontiguousarray(image[..., :3]) * three(light * part)

    # --- nest -------------------------------------------------------------------------------

    def _push_nest(self, nest: Nest | Shelter, patch: Box, poses: list[Pose | None]) -> None:
        pushed = False
        for pose in poses:
            if pose is None:
                continue
            x, y = (float(v) for v in self._view.to_picture(np.array([[pose.x, pose.y]]))[0])
            if nest.site.contains(x, y) and math.hypot(pose.velocity_x, pose.velocity_y) > 1:
                ends = np.array([[pose.x, pose.y], [pose.x, pose.y]])
                ends[1] += np.array([pose.velocity_x, pose.velocity_y]) / 15
                start, end = self._view.to_picture(ends)
                nest.push(x, y, float(end[0] - start[0]), float(end[1] - start[1]))
                pushed = True
        if pushed:
            self._bake_nest(nest, patch)
            where = patch.slices
            self._still_picture[where] = self._to_rgb(self._behind_things(self._still, patch))

    def _nest_part(self, nest: Nest | Shelter, patch: Box) -> tuple[slice, slice]:
        return (
            slice(patch.top - nest.top, patch.bottom - nest.top),
            slice(patch.left - nest.left, patch.right - nest.left),
        )

    def _shade_under_nest(self, nest: Nest | Shelter, patch: Box) -> None:
        heap = np.ascontiguousarray(nest.under[1][self._nest_part(nest, patch)])
        cast_shadows(self._empty[patch.slices], heap, self._shadows)

    def _bake_nest(self, nest: Nest | Shelter, patch: Box) -> None:
        """What the nest has become, as part of the still picture and of its labels."""
        where, part = patch.slices, self._nest_part(nest, patch)
        light = three(self._scenery.light[where])
        under, over = nest.under, nest.over
        base = self._empty[where] * three(1 - under[1][part]) + under[0][part] * light
        self._base[where] = base
        self._still[where] = base * three(1 - over[1][part]) + over[0][part] * light
        self._still_map[where] = nest.outline[part].astype(np.uint8) * self.labels.nest
        self._unlabel_behind_things(self._still_map, patch)

    def _cover_with_nest(self, nest: Nest | Shelter, patch: Box) -> None:
        """Lay the nest's upper strips over the animals; what is left of its outline is its label."""
        where, part = patch.slices, self._nest_part(nest, patch)
        crop, cover = self._work[where], nest.over[1][part]
        crop *= three(1 - cover)
        crop += nest.over[0][part] * three(self._scenery.light[where])
        labels = self._map[where]
        own = nest.outline[part] & ((labels == 0) | (cover > 0.5))
        labels[own] = self.labels.nest

    # --- picture ----------------------------------------------------------------------------

    def _patch(self, left: float, top: float, right: float, bottom: float) -> Box | None:
        """Clipped to the picture; None where nothing of it is in there."""
        low_x, low_y = max(math.floor(left), 0), max(math.floor(top), 0)
        high_x, high_y = min(math.ceil(right), self._width), min(math.ceil(bottom), self._height)
        if high_x - low_x < 4 or high_y - low_y < 4:
            return None
        return Box(low_x, low_y, high_x, high_y)

    def _finish(self, patch: Box) -> None:
        """Put the things over the floor in front of ``patch``, and turn it into RGB."""
        where = patch.slices
        self._picture[where] = self._to_rgb(self._behind_things(self._work, patch))
        self._unlabel_behind_things(self._map, patch)

    def _unlabel_behind_things(self, labels: np.ndarray, patch: Box) -> None:
        if self._scenery.front is not None:
            where = patch.slices
            labels[where][self._scenery.front[1][where] > 0.5] = 0

    def _behind_things(self, scene: np.ndarray, patch: Box) -> np.ndarray:
        crop = scene[patch.slices]
        if self._scenery.front is None:
            return crop
        color, cover = (layer[patch.slices] for layer in self._scenery.front)
        return crop * three(1 - cover) + color

    @staticmethod
    def _to_rgb(crop: np.ndarray) -> np.ndarray:
        return cv2.convertScaleAbs(
            np.maximum(cv2.transform(np.ascontiguousarray(crop), _YCC_TO_RGB), 0)
        )
