"""The rodent's looks: a coat painted in body coordinates, wrapped round the spine frame by frame.

The fur, its shape and its relief are painted once on a straightened body (``Coat``). For each frame
every pixel near the animal finds its place along and beside the bent spine, on a coarse grid that
is then interpolated, and fetches its colour from there: the texture moves with the skin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.interpolate import PchipInterpolator

from tailor_assets.compute.simulation.skeleton import SPINE_POINTS, Pose, Spine
from tailor_assets.compute.simulation.textures import value_noise, ycc
from tailor_assets.compute.simulation.view import View

COATS = ("black", "white", "agouti", "brown", "grey", "hooded")
_COLORS = {
    "black": (34, 32, 32),
    "white": (232, 228, 222),
    "agouti": (110, 95, 77),
    "brown": (84, 66, 54),
    "grey": (112, 112, 116),
    "hooded": (228, 224, 218),
}
# Under infrared light fur reflects more, and black fur is a dark grey.
_INFRARED_LUMA = {
    "black": 50.0,
    "white": 232.0,
    "agouti": 118.0,
    "brown": 92.0,
    "grey": 104.0,
    "hooded": 226.0,
}
_S_LOW, _S_HIGH = -0.14, 1.10  # the painted stretch of body coordinates, in body lengths
_D_LIMIT = 0.40
_SPINE_S = np.linspace(0.0, 1.0, SPINE_POINTS, dtype=np.float32)


@dataclass(frozen=True)
class Build:
    """Proportions against those of a lean mouse. A rat's head is a smaller part of its length."""

    head: float = 1.0  # length of head and neck
    head_width: float = 1.0
    girth: float = 1.0  # width of the trunk
    ears: float = 1.0
    tail: float = 1.0  # thickness
    bare: float = 1.0  # brightness of ears, nose, feet and tail


MOUSE = Build()


def coat_luma(coat: str, infrared: bool) -> float:
    """Mean luminance (0..255) of a coat in full light, for choosing a floor that shows it."""
    return _INFRARED_LUMA[coat] if infrared else float(ycc(_COLORS[coat])[0])


class Rodent:
    """One individual: its coat, build and painted body.

    ``body_length`` is nose to tail root in pixels. Drawing costs about a millisecond for an animal
    of 100 pixels. ``color`` (Y, Cb, Cr) replaces the coat's own. With a ``view`` the animal is
    drawn as that camera sees it; without one, floor coordinates are pixels.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        coat: str,
        body_length: float,
        infrared: bool,
        *,
        build: Build = MOUSE,
        color: np.ndarray | None = None,
        view: View | None = None,
    ) -> None:
        self.coat = coat
        self.length = body_length
        self.infrared = infrared
        self._scale = 1.3 * body_length  # texture pixels per body length
        self._build, self._view = build, view
        self._albedo, self._relief = _paint_body(rng, coat, infrared, self._scale, build, color)
        dark = coat in ("black", "brown", "grey")
        self._ambient, self._diffuse = (0.62, 0.50) if dark else (0.50, 0.54)
        self._gloss = 16.0 if dark else 6.0
        # Light rarely falls straight down.
        lean, toward = rng.uniform(0.15, 0.4), rng.uniform(0, 2 * math.pi)
        self._light = (lean * math.cos(toward), lean * math.sin(toward))
        skin = (196, 158, 148) if coat in ("white", "hooded") else (158, 126, 118)
        self._skin = ycc(skin) * np.float32(build.bare)
        tail = (206, 172, 162) if coat in ("white", "hooded") else (122, 104, 100)
        self._tail_color = ycc(tail) * np.float32(build.bare)
        if infrared:
            self._skin[1:] = 0
            self._tail_color[1:] = 0
            self._tail_color[0] *= 1.1
        self._tail_root = rng.uniform(0.026, 0.033) * body_length * build.tail
        self._tail_tip = 0.006 * body_length * build.tail

    def body_grid(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the texture's columns and rows are on the body: ``[1, C]`` s and ``[R, 1]`` d."""
        rows, columns = self._albedo.shape[:2]
        return _texture_grid(rows, columns, self._scale)

    def dye(self, color: np.ndarray, cover: np.ndarray) -> None:
        """Paint Y, Cb, Cr ``color`` on the coat where ``cover`` (``[R, C]`` of ``body_grid``) > 0."""
        self._albedo[..., :3] += (color - self._albedo[..., :3]) * cover[..., None]

    def draw_body(
        self, pose: Pose, spine: Spine, left: int, top: int, width: int, height: int
    ) -> np.ndarray:
        """Body, head, ears and feet in the crop whose upper left pixel is (left, top).

        Returns float32 ``[height, width, 4]``: Y, Cb, Cr (0..255, in full light) times coverage,
        and coverage 0..1.
        """
        map_s, map_d = _body_coordinates(spine, pose.girth, left, top, width, height, self._view)
        map_x = (map_s - _S_LOW) * self._scale
        map_y = (map_d + _D_LIMIT) * self._scale
        luma, blue, red, body = cv2.split(cv2.remap(self._albedo, map_x, map_y, cv2.INTER_LINEAR))
        slope_s, slope_d, up, hair = cv2.split(
            cv2.remap(self._relief, map_x, map_y, cv2.INTER_LINEAR)
        )
        heading = float(spine.angles[SPINE_POINTS // 2])
        light_s = self._light[0] * math.cos(heading) + self._light[1] * math.sin(heading)
        light_d = -self._light[0] * math.sin(heading) + self._light[1] * math.cos(heading)
        facing = np.maximum(slope_s * light_s + slope_d * light_d + up * 0.93, 0.0)
        shade = (self._ambient + self._diffuse * facing) * body
        sheen = facing * facing
        sheen *= sheen
        feet = self._feet(pose, spine, np.array([left, top], float), width, height)
        below = feet * (1 - body)
        skin = 0.8 * below
        return cv2.merge(
            [
                luma * shade + (self._gloss * sheen * sheen * hair * body + self._skin[0] * skin),
                blue * shade + self._skin[1] * skin,
                red * shade + self._skin[2] * skin,
                body + below,
            ]
        )

    def _feet(
        self, pose: Pose, spine: Spine, origin: np.ndarray, width: int, height: int
    ) -> np.ndarray:
        image = np.zeros((height, width), np.uint8)
        swing = 0.055 * math.sin(pose.gait_phase) * pose.gait_strength
        girth = pose.girth * self._build.girth
        # Diagonal pairs swing together.
        for s, side, turn, half_long, half_wide in (
            (0.17 + swing, 0.205, 0.35, 0.060, 0.019),
            (0.17 - swing, -0.205, -0.35, 0.060, 0.019),
            (0.66 - swing, 0.140, 0.30, 0.034, 0.016),
            (0.66 + swing, -0.140, -0.30, 0.034, 0.016),
        ):
            x, y, angle = spine.place(s, side * girth)
            angle += turn
            if self._view is not None:
                x, y, angle, _ = self._view.local(x, y, angle)
            center = (round((x - origin[0]) * 16), round((y - origin[1]) * 16))
            axes = (
                max(8, round(half_long * spine.length * 16)),
                max(8, round(half_wide * spine.length * 16)),
            )
            cv2.ellipse(image, center, axes, math.degrees(angle), 0, 360, 255, -1, cv2.LINE_AA, 4)
        return image.astype(np.float32) / 255

    def draw_tail(self, pose: Pose, left: int, top: int, width: int, height: int) -> np.ndarray:
        """The tail as ``draw_body`` gives the body, float32 ``[height, width, 4]``."""
        seen = pose.tail if self._view is None else self._view.to_picture(pose.tail)
        nodes = seen - np.array([left, top], float)
        places = np.linspace(0, len(nodes) - 1, 3 * len(nodes))
        index = np.arange(len(nodes))
        center = np.stack([np.interp(places, index, nodes[:, i]) for i in (0, 1)], axis=1)
        # A short running mean rounds the joints.
        padded = np.vstack([center[:1], center[:1], center, center[-1:], center[-1:]])
        center = np.mean([padded[i : i + len(center)] for i in range(5)], axis=0)
        along = np.gradient(center, axis=0)
        along /= np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-6)[:, None]
        normal = np.stack([-along[:, 1], along[:, 0]], axis=1)
        radius = np.linspace(self._tail_root, self._tail_tip, len(center))[:, None]
        # Nothing drawn is thinner than a pixel; what is thinner is fainter instead.
        faint = min(1.0, (self._tail_root + self._tail_tip) / 1.2)
        half = np.maximum(radius, 0.5)
        edge = np.vstack([center + normal * half, (center - normal * half)[::-1]])
        image = np.zeros((height, width), np.uint8)
        cv2.fillPoly(
            image, [np.round(edge * 16).astype(np.int32).reshape(-1, 1, 2)], 255, cv2.LINE_AA, 4
        )
        ridge = np.zeros((height, width), np.uint8)
        lit_side = center - np.array(self._light) * radius
        cv2.polylines(
            ridge,
            [np.round(lit_side * 16).astype(np.int32).reshape(-1, 1, 2)],
            False,
            255,
            1,
            cv2.LINE_AA,
            4,
        )
        coverage = image.astype(np.float32) * (faint / 255)
        shade = (0.8 + (0.3 / 255) * ridge.astype(np.float32)) * coverage
        y, blue, red = (float(v) for v in self._tail_color)
        return cv2.merge([shade * y, shade * blue, shade * red, coverage])


def _body_coordinates(
    spine: Spine,
    girth: float,
    left: int,
    top: int,
    width: int,
    height: int,
    view: View | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Place of every pixel along (0 tail root .. 1 nose) and beside the spine, in body lengths."""
    step = max(1, round(spine.length / 26))
    grid_w, grid_h = -(-width // step), -(-height // step)
    xs = (np.arange(grid_w) + 0.5) * step - 0.5 + left
    ys = (np.arange(grid_h) + 0.5) * step - 0.5 + top
    points = spine.points.astype(np.float32)
    cos = np.cos(spine.angles).astype(np.float32)
    sin = np.sin(spine.angles).astype(np.float32)
    places = _SPINE_S
    grid_x, grid_y = xs.astype(np.float32)[None, :], ys.astype(np.float32)[:, None]
    if view is not None:
        grid_x, grid_y = view.to_floor(*np.broadcast_arrays(grid_x, grid_y))
        # Every other joint is enough for the eye, and takes half the time.
        points, cos, sin, places = points[::2], cos[::2], sin[::2], places[::2]
    dx = grid_x[..., None] - points[:, 0]
    dy = grid_y[..., None] - points[:, 1]
    squared = dx * dx + dy * dy
    # Blending the nearest spine points instead of picking one leaves no seams in the fur.
    softness = 2 * (0.07 * spine.length) ** 2
    weight = np.exp((squared.min(axis=2, keepdims=True) - squared) / softness)
    weight /= weight.sum(axis=2, keepdims=True)
    along = ((dx * cos + dy * sin) / spine.length + places) * weight
    aside = (dy * cos - dx * sin) / (spine.length * girth) * weight
    size = (grid_w * step, grid_h * step)
    maps = [
        cv2.resize(part.sum(axis=2), size, interpolation=cv2.INTER_LINEAR)[:height, :width]
        for part in (along, aside)
    ]
    return maps[0], maps[1]


def _paint_body(
    rng: np.random.Generator,
    coat: str,
    infrared: bool,
    scale: float,
    build: Build,
    own_color: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Texture of the straight body: (Y, Cb, Cr, coverage) and (slope s, slope d, up, gloss)."""
    columns = math.ceil((_S_HIGH - _S_LOW) * scale)
    rows = math.ceil(2 * _D_LIMIT * scale)
    s, d = _texture_grid(rows, columns, scale)
    if build != MOUSE:
        s, d = _mouse_coordinates(s, d, build)
    fat = rng.uniform(0.92, 1.12)
    radius = _profile(s, fat)
    # Tufts: the outline of fur is never a clean curve.
    tufts = value_noise(rng, rows, columns, max(1.5, 0.04 * scale), 2) * 0.0032
    tufts *= np.clip((0.9 - s) / 0.3, 0, 1)
    inside = radius + tufts - np.abs(d)
    flat = np.clip(np.abs(d) / np.maximum(radius, 1e-3), 0, 1)
    height = 0.94 * np.maximum(radius, 0) * np.sqrt(1 - flat**2.2)
    coverage = np.clip(inside * scale / 1.4 + 0.5, 0, 1)

    base = ycc(_COLORS[coat])
    if infrared:
        base = np.array([_INFRARED_LUMA[coat], 0, 0], np.float32)
    if own_color is not None:
        base = own_color
    color = np.empty((rows, columns, 3), np.float32)
    color[:] = base
    streaks = value_noise(rng, rows, columns, (max(1.0, 0.012 * scale), 0.07 * scale), 2)
    patches = value_noise(rng, rows, columns, 0.18 * scale, 2)
    strength = {"agouti": 0.09, "white": 0.02, "hooded": 0.02}.get(coat, 0.07)
    color *= (1 + strength * streaks + 0.35 * strength * patches)[..., None]
    if coat == "agouti":
        # Darker along the back, yellower on the flanks.
        back = np.exp(-((d / 0.07) ** 2)) * (s < 0.85)
        color *= (1 - 0.22 * back)[..., None]
    if coat == "hooded":
        edge = 0.62 + 0.03 * value_noise(rng, rows, columns, 0.08 * scale, 2)
        stripe = 0.035 + 0.012 * value_noise(rng, rows, columns, (0.1 * scale, 0.12 * scale), 2)
        hood = np.clip(((s > edge) | ((np.abs(d) < stripe) & (s > 0.03))) * 1.0, 0, 1)
        hood = cv2.GaussianBlur(hood.astype(np.float32), (0, 0), max(0.6, 0.008 * scale))
        dark = np.array([62.0, 0, 0], np.float32) if infrared else ycc((40, 38, 38))
        color += (dark * (1 + 0.1 * streaks)[..., None] - color) * hood[..., None]

    pink = ycc((204, 162, 154) if coat in ("white", "hooded") else (136, 116, 112))
    if coat == "hooded":
        pink = ycc((132, 114, 110))
    if infrared:
        pink = np.array([pink[0] * 1.05, 0, 0], np.float32)
    pink = pink * np.float32(build.bare)
    snout = np.clip((s - 0.955) / 0.035, 0, 1) * (np.abs(d) < 0.06)
    color += (pink - color) * (0.45 * snout)[..., None]
    for side in (-1, 1):
        coverage, height = _ear(color, coverage, height, s, d, side, scale, pink, base, build.ears)
        eye = np.hypot((s - 0.905) / 1.25, d - side * 0.072)
        dot = np.clip((0.0135 - eye) * scale / 1.2 + 0.5, 0, 1)
        dark_eye = ycc((150, 40, 48) if coat == "white" and not infrared else (12, 11, 11))
        color += (dark_eye - color) * dot[..., None]
    blurred = cv2.GaussianBlur(height, (0, 0), max(0.7, 0.016 * scale))
    slope_d, slope_s = np.gradient(blurred * scale)
    # Locks of hair catch the light on their own.
    slope_d = slope_d + 0.05 * streaks + 0.04 * patches
    slope_s = slope_s + 0.05 * patches
    norm = 1 / np.sqrt(1 + slope_s**2 + slope_d**2)
    gloss = np.clip(0.6 + 0.25 * streaks + 0.3 * patches, 0, 1.6)
    relief = np.stack([-slope_s * norm, -slope_d * norm, norm, gloss], axis=2)
    albedo = np.dstack([color, coverage])
    return albedo.astype(np.float32), relief.astype(np.float32)


def _texture_grid(rows: int, columns: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    s = (np.arange(columns, dtype=np.float32) / scale + _S_LOW)[None, :]
    d = (np.arange(rows, dtype=np.float32) / scale - _D_LIMIT)[:, None]
    return s, d


def _mouse_coordinates(s: np.ndarray, d: np.ndarray, build: Build) -> tuple[np.ndarray, np.ndarray]:
    """Which place of a mouse is found at this place of an animal of another build."""
    neck = 0.66
    own_neck = 1 - (1 - neck) * build.head
    mouse_s = np.interp(s, [-0.2, 0, own_neck, 1, 1.2], [-0.2, 0, neck, 1, 1 + 0.2 / build.head])
    width = np.interp(mouse_s, [neck - 0.12, neck + 0.12], [build.girth, build.head_width])
    return mouse_s.astype(np.float32), (d / width).astype(np.float32)


def _profile(s: np.ndarray, fat: float) -> np.ndarray:
    """Half width of trunk, neck and head along the spine, in body lengths (mouse from above)."""
    knots = [-0.045, -0.03, 0.0, 0.06, 0.16, 0.30, 0.44, 0.56, 0.66, 0.73, 0.80, 0.87, 0.93, 0.965]
    width = [0.0, 0.055, 0.112, 0.165, 0.208, 0.226, 0.213, 0.186, 0.158, 0.139, 0.131, 0.105]
    width += [0.076, 0.058]
    trunk = np.array([fat if k < 0.7 else 1.0 for k in knots])
    # A blunt muzzle; below 0 outside, so that no thread of fur stands out from the nose.
    curve = PchipInterpolator(
        [*knots, 0.985, 1.0, 1.02], [*(np.array(width) * trunk), 0.044, 0.018, -0.06]
    )
    values = np.where((s > knots[0]) & (s < 1.02), curve(np.clip(s, knots[0], 1.02)), -0.06)
    return values.astype(np.float32)


def _ear(
    color: np.ndarray,
    coverage: np.ndarray,
    height: np.ndarray,
    s: np.ndarray,
    d: np.ndarray,
    side: int,
    scale: float,
    pink: np.ndarray,
    fur: np.ndarray,
    size: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Put one round ear on the head: a rim of fur, bare skin inside, a shadow behind it."""
    center_s, center_d, radius = 0.765, side * 0.122, 0.066 * size
    # Broad, laid back, wider than long.
    along, across = (s - center_s - 0.35 * np.abs(d - center_d) * 0.3) / 0.78, d - center_d
    reach = np.hypot(along, across)
    shadow = np.exp(-((np.hypot(s - center_s + 0.035, across) / (radius * 1.15)) ** 4))
    color *= (1 - 0.25 * shadow * (reach > radius))[..., None]
    ear = np.clip((radius - reach) * scale / 1.3 + 0.5, 0, 1)
    hollow = np.clip((radius * 0.72 - np.hypot(along - 0.012, across)) * scale / 2.5 + 0.5, 0, 1)
    rim = 0.55 * fur + 0.45 * pink
    paint = (
        rim
        + (pink * (0.82 + 2.2 * np.clip(reach, 0, radius))[..., None] - rim)
        * (0.8 * hollow)[..., None]
    )
    color += (paint - color) * ear[..., None]
    bump = 0.13 - 0.25 * np.abs(across) * (np.abs(d) > abs(center_d))
    lifted = np.where(reach < radius, np.maximum(height, bump), height)
    return np.maximum(coverage, ear), lifted.astype(np.float32)
