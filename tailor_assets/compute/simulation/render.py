"""Puts the animal, its shadow and the nest into the painted scene, and knows what is visible."""

from __future__ import annotations

import cv2
import numpy as np

from tailor_assets.compute.simulation.arena import Arena
from tailor_assets.compute.simulation.box import Box
from tailor_assets.compute.simulation.camera import Camera
from tailor_assets.compute.simulation.nest import Nest
from tailor_assets.compute.simulation.rodent import Rodent
from tailor_assets.compute.simulation.scenery import Scenery
from tailor_assets.compute.simulation.shading import (
    blurred,
    cast_shadows,
    choose_shadows,
    shifted,
    three,
)
from tailor_assets.compute.simulation.skeleton import Pose, Spine, spine_of


class Renderer:
    """Draws one frame after another. Memory does not grow with their number.

    The empty scene with the nest is kept ready; per frame only the crop around the animal (and the
    nest, while the animal is at it) is composed anew.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        arena: Arena,
        scenery: Scenery,
        rodent: Rodent,
        nest: Nest | None,
        camera: Camera,
    ) -> None:
        self._arena, self._scenery, self._rodent = arena, scenery, rodent
        self._nest, self._camera = nest, camera
        self._height, self._width = scenery.light.shape
        self._color = not camera.monochrome
        self._shadows = choose_shadows(rng, rodent.length)
        self._empty = scenery.lit.copy()  # the scene without nest, where the nest is drawn afresh
        self._still = scenery.lit.copy()  # the scene with the nest as it was left
        self._nest_box: Box | None = None
        self._nest_mask = np.zeros((self._height, self._width), bool)
        if nest is not None:
            self._nest_box = self._box(
                nest.left, nest.top, nest.left + nest.size, nest.top + nest.size
            )
            self._shade_under_nest(nest)
            self._bake_nest(nest)
        self._luma = np.ascontiguousarray(self._still[..., 0])
        self._chroma = _half(self._still[..., 1:])
        self._at_nest = False

    def render(self, pose: Pose, time_s: float) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """One frame and what is visible in it.

        Returns uint8 ``[H * 3 / 2, W]`` yuv420p (reused by the next call) and bool ``[H, W]``
        masks: ``mouse`` (body, head, ears and feet), ``tail`` and, with a nest, ``nest``.
        """
        rodent, nest = self._rodent, self._nest
        spine = spine_of(pose, rodent.length)
        body_box, animal_box = self._animal_boxes(pose, spine.points)
        box = self._with_mirrors(animal_box, pose)
        at_nest = self._nest_box is not None and box.meets(self._nest_box)
        if nest is not None and self._nest_box is not None:
            if at_nest:
                if nest.site.contains(pose.x, pose.y):
                    share = 1 / 30
                    nest.push(pose.x, pose.y, pose.velocity_x * share, pose.velocity_y * share)
                box = box.join(self._nest_box)
            elif self._at_nest:
                # The animal has left; what it changed becomes part of the still picture.
                self._bake_nest(nest)
                rows, columns = self._nest_box.slices
                self._luma[rows, columns] = self._still[rows, columns, 0]
                self._store_chroma(self._nest_box, self._still[rows, columns])
            self._at_nest = at_nest
        rows, columns = box.slices
        crop = (self._empty if at_nest else self._still)[rows, columns].copy()
        light = self._scenery.light[rows, columns]
        layers, tail = self._draw_animal(pose, spine, body_box, animal_box)
        body = np.ascontiguousarray(layers[..., 3])
        animal_box_rows = slice(animal_box.top - box.top, animal_box.bottom - box.top)
        animal_box_columns = slice(animal_box.left - box.left, animal_box.right - box.left)
        inner = crop[animal_box_rows, animal_box_columns]

        if at_nest and nest is not None:
            self._lay_nest(crop, nest.under, box, light)
        cast_shadows(inner, body + 0.8 * tail, self._shadows)
        self._mirror_in_walls(crop, layers, light, box, animal_box)
        inner *= three(1 - body - tail)
        inner += layers[..., :3] * three(light[animal_box_rows, animal_box_columns])
        hidden = np.zeros(crop.shape[:2], np.float32)
        if at_nest and nest is not None:
            hidden = self._lay_nest(crop, nest.over, box, light)
        if self._scenery.front is not None:
            front = self._scenery.front[rows, columns]
            crop += (self._empty[rows, columns] - crop) * three(front)
            hidden = np.maximum(hidden, front)

        luma, chroma = self._luma, self._chroma
        luma[rows, columns] = crop[..., 0]
        self._store_chroma(box, crop)
        frame = self._camera.expose(luma, chroma, time_s)
        # Put the still picture back for the next frame.
        luma[rows, columns] = self._still[rows, columns, 0]
        self._store_chroma(box, self._still[rows, columns])

        seen = 1 - hidden[animal_box_rows, animal_box_columns]
        seen_body, seen_tail = body * seen, tail * seen
        masks = {name: np.zeros((self._height, self._width), bool) for name in ("mouse", "tail")}
        where = animal_box.slices
        masks["mouse"][where] = seen_body > 0.5
        # A tail is so thin that half coverage would break it into pieces.
        masks["tail"][where] = (seen_tail > 0.35) & (seen_body <= 0.5)
        if nest is not None:
            if at_nest:
                mask = np.zeros((self._height, self._width), bool)
                self._put_outline(mask, nest)
                mask[where] &= seen_body + seen_tail < 0.5
            else:
                mask = self._nest_mask
            masks["nest"] = mask
        return frame, masks

    def _draw_animal(
        self, pose: Pose, spine: Spine, body_box: Box, box: Box
    ) -> tuple[np.ndarray, np.ndarray]:
        """The blurred animal in ``box``: Y, Cb, Cr and body coverage, and the tail's coverage."""
        height, width = box.bottom - box.top, box.right - box.left
        layers = self._rodent.draw_tail(pose, box.left, box.top, width, height)
        tail = layers[..., 3].copy()
        part = layers[
            body_box.top - box.top : body_box.bottom - box.top,
            body_box.left - box.left : body_box.right - box.left,
        ]
        layers[..., 3] = 0
        drawn = self._rodent.draw_body(
            pose,
            spine,
            body_box.left,
            body_box.top,
            body_box.right - body_box.left,
            body_box.bottom - body_box.top,
        )
        clear = 1 - drawn[..., 3]
        part *= cv2.merge([clear, clear, clear, clear])
        part += drawn
        tail *= 1 - layers[..., 3]
        return self._blur(layers, pose), self._blur(tail, pose)

    # --- boxes ------------------------------------------------------------------------------

    def _box(self, left: float, top: float, right: float, bottom: float) -> Box:
        """Clip to the picture and grow to even corners; never empty."""
        low_x = min(max(int(left) // 2 * 2, 0), self._width - 2)
        low_y = min(max(int(top) // 2 * 2, 0), self._height - 2)
        high_x = max(min(-(-int(right) // 2) * 2, self._width), low_x + 2)
        high_y = max(min(-(-int(bottom) // 2) * 2, self._height), low_y + 2)
        return Box(low_x, low_y, high_x, high_y)

    def _animal_boxes(self, pose: Pose, spine: np.ndarray) -> tuple[Box, Box]:
        """Around the body alone, and around body, tail and their shadows."""
        reach = 0.30 * self._rodent.length + 3
        low, high = spine.min(axis=0) - reach, spine.max(axis=0) + reach
        body = self._box(low[0], low[1], high[0] + 1, high[1] + 1)
        pad = 0.2 * self._rodent.length + 4
        low = np.minimum(pose.tail.min(axis=0) - pad, low - 0.15 * self._rodent.length)
        high = np.maximum(pose.tail.max(axis=0) + pad, high + 0.15 * self._rodent.length)
        return body, self._box(low[0], low[1], high[0] + 1, high[1] + 1)

    def _with_mirrors(self, box: Box, pose: Pose) -> Box:
        """Grow the box over a reflecting wall near the animal."""
        arena = self._arena
        if self._scenery.wall_reflection == 0 or arena.kind != "rectangular":
            return box
        reach = 0.9 * self._rodent.length
        if pose.y - (arena.center_y - arena.half_height) < reach:
            box = self._box(box.left, box.top - reach, box.right, box.bottom)
        if arena.center_y + arena.half_height - pose.y < reach:
            box = self._box(box.left, box.top, box.right, box.bottom + reach)
        return box

    # --- nest -------------------------------------------------------------------------------

    def _nest_part(self, nest: Nest, box: Box) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Matching slices of ``box`` and of the nest's layers."""
        left, top = max(box.left, nest.left), max(box.top, nest.top)
        right = min(box.right, nest.left + nest.size)
        bottom = min(box.bottom, nest.top + nest.size)
        in_box = (slice(top - box.top, bottom - box.top), slice(left - box.left, right - box.left))
        in_nest = (
            slice(top - nest.top, bottom - nest.top),
            slice(left - nest.left, right - nest.left),
        )
        return in_box, in_nest

    def _lay_nest(
        self,
        crop: np.ndarray,
        layer: tuple[np.ndarray, np.ndarray],
        box: Box,
        light: np.ndarray,
    ) -> np.ndarray:
        """Put a nest layer over ``crop``; returns its coverage in the crop."""
        assert self._nest is not None
        coverage = np.zeros(crop.shape[:2], np.float32)
        in_box, in_nest = self._nest_part(self._nest, box)
        color, cover = layer[0][in_nest], layer[1][in_nest]
        target = crop[in_box]
        target *= three(1 - cover)
        target += color * three(light[in_box])
        coverage[in_box] = cover
        return coverage

    def _shade_under_nest(self, nest: Nest) -> None:
        assert self._nest_box is not None
        rows, columns = self._nest_box.slices
        in_box, in_nest = self._nest_part(nest, self._nest_box)
        heap = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.float32)
        heap[in_box] = nest.under[1][in_nest]
        for shift_x, shift_y, sigma, strength in self._shadows:
            shade = cv2.GaussianBlur(heap, (0, 0), max(sigma * 0.8, 0.6))
            shade = shifted(shade, shift_x * 0.7, shift_y * 0.7)
            self._empty[rows, columns] *= (1 - 0.7 * strength * shade)[..., None]

    def _bake_nest(self, nest: Nest) -> None:
        assert self._nest_box is not None
        box = self._nest_box
        rows, columns = box.slices
        crop = self._empty[rows, columns].copy()
        light = self._scenery.light[rows, columns]
        self._lay_nest(crop, nest.under, box, light)
        self._lay_nest(crop, nest.over, box, light)
        if self._scenery.front is not None:
            front = self._scenery.front[rows, columns]
            crop += (self._empty[rows, columns] - crop) * three(front)
        self._still[rows, columns] = crop
        self._nest_mask = np.zeros_like(self._nest_mask)
        self._put_outline(self._nest_mask, nest)

    def _put_outline(self, mask: np.ndarray, nest: Nest) -> None:
        assert self._nest_box is not None
        in_box, in_nest = self._nest_part(nest, self._nest_box)
        rows, columns = self._nest_box.slices
        mask[rows, columns][in_box] = nest.outline[in_nest]
        if self._scenery.front is not None:
            mask[rows, columns] &= self._scenery.front[rows, columns] < 0.5

    # --- light ------------------------------------------------------------------------------

    def _blur(self, layers: np.ndarray, pose: Pose) -> np.ndarray:
        shutter = self._camera.exposure_s
        return blurred(
            layers,
            pose.velocity_x * shutter,
            pose.velocity_y * shutter,
            self._camera.focus_sigma,
        )

    def _mirror_in_walls(
        self, crop: np.ndarray, layers: np.ndarray, light: np.ndarray, box: Box, animal: Box
    ) -> None:
        """A dim, blurred mirror image of the animal in straight upper and lower walls."""
        strength, arena = self._scenery.wall_reflection, self._arena
        if strength == 0 or arena.kind != "rectangular":
            return
        columns = slice(animal.left - box.left, animal.right - box.left)
        for upper in (True, False):
            foot = round(arena.center_y + (-1 if upper else 1) * arena.half_height)
            # Rows of the animal's crop nearest to the wall, and as many rows of the wall.
            if upper:
                depth = min(foot - box.top, animal.bottom - foot)
                first = foot - animal.top
                source = layers[max(first, 0) : first + depth][::-1]
                start = foot - box.top - max(-first, 0) - len(source)
            else:
                depth = min(box.bottom - foot, foot - animal.top)
                last = foot - animal.top
                source = layers[max(last - depth, 0) : last][::-1]
                start = foot - box.top + max(last - layers.shape[0], 0)
            start = max(start, 0)
            rows = slice(start, start + len(source))
            target = crop[rows, columns]
            if depth < 4 or len(target) < 4 or len(source) < len(target):
                continue
            source = source[: len(target)]
            mirrored = cv2.GaussianBlur(
                np.ascontiguousarray(source), (0, 0), 0.05 * self._rodent.length + 0.3
            )
            # The higher up the wall, the fainter.
            away = np.abs(np.arange(start, start + len(target)) + box.top - foot)
            fade = (strength * np.exp(-away / (0.8 * self._rodent.length))).astype(np.float32)
            cover = mirrored[..., 3] * fade[:, None]
            target *= three(1 - cover)
            target += mirrored[..., :3] * three(fade[:, None] * light[rows, columns])

    def _store_chroma(self, box: Box, crop: np.ndarray) -> None:
        if self._color:
            self._chroma[box.top // 2 : box.bottom // 2, box.left // 2 : box.right // 2] = _half(
                crop[..., 1:]
            )


def _half(planes: np.ndarray) -> np.ndarray:
    size = (planes.shape[1] // 2, planes.shape[0] // 2)
    return cv2.resize(np.ascontiguousarray(planes), size, interpolation=cv2.INTER_AREA)
