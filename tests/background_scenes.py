"""Small drawn recordings with known masks, for the tests of the background segmenter.

Plain on purpose: each scene isolates one difficulty. Not a test file; imported by the tests.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import av
import cv2
import numpy as np

HEIGHT, WIDTH = 240, 320


@dataclass
class Scene:
    """What a drawn recording looks like. Tones are RGB or one grey value; lengths in pixels."""

    frames: int = 84
    floor: tuple[float, float, float] = (190, 190, 190)
    animal: tuple[float, float, float] = (40, 40, 40)
    belly: tuple[float, float, float] | None = None
    half_length: float = 26.0
    half_width: float = 11.0
    noise: float = 3.0
    shadow: float = 0.25
    tail: bool = True
    texture: float = 0.0
    wall: float = 0.6
    drift: float = 0.0
    vignette: float = 0.15
    place: Callable[[int], tuple[float, float, float] | None] | None = None
    nest: tuple[float, float, float] | None = None
    seed: int = 1
    height: int = HEIGHT
    width: int = WIDTH
    _rng: np.random.Generator = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)
        rng = self._rng
        floor = np.ones((self.height, self.width, 3), np.float32) * np.array(self.floor, np.float32)
        grain = cv2.GaussianBlur(
            rng.normal(size=(self.height, self.width)).astype(np.float32), (0, 0), 1.5
        )
        floor += (self.texture * grain / grain.std())[..., None]
        edge = max(6, self.width // 24)
        shade = np.full((self.height, self.width), self.wall, np.float32)
        shade[edge:-edge, edge:-edge] = 1.0
        yy, xx = np.mgrid[: self.height, : self.width].astype(np.float32)
        far = ((xx / self.width - 0.4) ** 2 + (yy / self.height - 0.5) ** 2) / 0.5
        floor *= (shade * (1 - self.vignette * far))[..., None]
        if self.nest is not None:
            x, y, radius = self.nest
            heap = np.clip(radius - np.hypot(xx - x, yy - y), 0, 3) / 3
            strands = cv2.GaussianBlur(
                rng.normal(size=(self.height, self.width)).astype(np.float32), (0, 0), 1.0
            )
            nest = 205 + 30 * strands / strands.std()
            floor += heap[..., None] * (nest[..., None] - floor)
        self._floor = floor
        if self.place is None:
            self.place = wandering(rng, self)

    def truth(self, number: int) -> np.ndarray:
        """Body without tail, bool [H, W]."""
        where = self.place(number)
        if where is None:
            return np.zeros((self.height, self.width), bool)
        return self._body(where) > 0.5

    def draw(self, number: int) -> np.ndarray:
        """The frame, uint8 [H, W, 3]."""
        rng = np.random.default_rng((self.seed, number))
        scene = self._floor.copy()
        where = self.place(number)
        if where is not None:
            body = self._body(where)
            if self.shadow:
                moved = np.float32([[1, 0, 0.5 * self.half_width], [0, 1, 0.4 * self.half_width]])
                soft = cv2.warpAffine(body, moved, (self.width, self.height))
                soft = cv2.GaussianBlur(soft, (0, 0), 2.0)
                scene *= (1 - self.shadow * soft)[..., None]
            if self.tail:
                line = self._tail(where)
                scene += line[..., None] * (0.8 * np.array(self.animal, np.float32) + 20 - scene)
            coat = np.ones_like(scene) * np.array(self.animal, np.float32)
            if self.belly is not None:
                front = self._body(where, front=True)
                coat += front[..., None] * (np.array(self.belly, np.float32) - coat)
            fur = cv2.GaussianBlur(rng.normal(size=body.shape).astype(np.float32), (0, 0), 1.0)
            coat += (4 * fur / fur.std())[..., None]
            scene += body[..., None] * (coat - scene)
        scene *= 1 + self.drift * np.sin(2 * np.pi * number / self.frames)
        scene += self.noise * rng.normal(size=(self.height, self.width, 1))
        scene += 0.3 * self.noise * rng.normal(size=scene.shape)
        return np.clip(scene, 0, 255).round().astype(np.uint8)

    def frame_list(self) -> list[np.ndarray]:
        """All frames."""
        return [self.draw(k) for k in range(self.frames)]

    def write(self, path: Path, fps: int = 30) -> Path:
        """Encode as H.264."""
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=fps)
            stream.width, stream.height, stream.pix_fmt = self.width, self.height, "yuv420p"
            stream.options = {"crf": "18", "preset": "ultrafast"}
            for k in range(self.frames):
                frame = av.VideoFrame.from_ndarray(self.draw(k), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    def _body(self, where: tuple[float, float, float], front: bool = False) -> np.ndarray:
        """Trunk, head and ears as coverage 0..1, antialiased."""
        x, y, angle = where
        big = np.zeros((self.height * 2, self.width * 2), np.uint8)
        c, s = np.cos(angle), np.sin(angle)

        def blob(along: float, across: float, a: float, b: float) -> None:
            cx, cy = x + along * c - across * s, y + along * s + across * c
            cv2.ellipse(
                big,
                (round(cx * 2), round(cy * 2)),
                (max(1, round(a * 2)), max(1, round(b * 2))),
                np.degrees(angle),
                0,
                360,
                255,
                -1,
            )

        length, width = self.half_length, self.half_width
        if not front:
            blob(-0.15 * length, 0, 0.85 * length, width)
        blob(0.65 * length, 0, 0.42 * length, 0.55 * width)
        blob(0.5 * length, 0.5 * width, 0.16 * length, 0.3 * width)
        blob(0.5 * length, -0.5 * width, 0.16 * length, 0.3 * width)
        small = cv2.resize(big, (self.width, self.height), interpolation=cv2.INTER_AREA)
        return cv2.GaussianBlur(small.astype(np.float32) / 255, (0, 0), 0.7)

    def _tail(self, where: tuple[float, float, float]) -> np.ndarray:
        x, y, angle = where
        t = np.linspace(0, 1, 20)
        bend = 0.5 * np.sin(3 * t)
        px = x - np.cos(angle + bend) * self.half_length * (0.95 + 1.3 * t)
        py = y - np.sin(angle + bend) * self.half_length * (0.95 + 1.3 * t)
        line = np.zeros((self.height, self.width), np.uint8)
        points = np.stack([px * 16, py * 16], axis=1).round().astype(np.int32)
        cv2.polylines(
            line, [points], False, 255, max(1, round(0.25 * self.half_width)), cv2.LINE_AA, 4
        )
        return line.astype(np.float32) / 255


def wandering(
    rng: np.random.Generator, scene: Scene
) -> Callable[[int], tuple[float, float, float]]:
    """A smooth walk over the floor."""
    phase = rng.uniform(0, 2 * np.pi, 4)
    margin = scene.half_length + scene.width / 24 + 2

    def at(number: int) -> tuple[float, float]:
        t = number / 30
        u = 0.5 + 0.5 * np.sin(1.1 * t + phase[0] + 0.8 * np.sin(0.6 * t + phase[1]))
        v = 0.5 + 0.5 * np.sin(0.9 * t + phase[2] + 0.9 * np.sin(0.7 * t + phase[3]))
        return (
            margin + u * (scene.width - 2 * margin),
            margin + v * (scene.height - 2 * margin),
        )

    def place(number: int) -> tuple[float, float, float]:
        (x, y), (x2, y2) = at(number), at(number + 2)
        return x, y, float(np.arctan2(y2 - y, x2 - x))

    return place


def resting(
    scene_place: Callable[[int], tuple[float, float, float]], share: float, frames: int
) -> Callable[[int], tuple[float, float, float]]:
    """The same walk after lying at its first place for ``share`` of the recording (a little
    breathing, no more)."""
    until = int(share * frames)

    def place(number: int) -> tuple[float, float, float]:
        if number < until:
            x, y, angle = scene_place(0)
            return x + 0.15 * np.sin(number), y, angle
        return scene_place(number - until)

    return place


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two bool masks; 1 where both are empty."""
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 1.0
