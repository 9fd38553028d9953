"""Sample recordings with known truth: ``simulate_video`` makes one, ``sample_videos`` a varied set."""

from __future__ import annotations

import csv
import json
import os
import secrets
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.mask_geometry import innermost_pixel, mask_geometry
from tailor_assets.compute.mask_writer import MaskWriter
from tailor_assets.compute.simulation.arena import Arena, choose_arena
from tailor_assets.compute.simulation.behavior import RodentBehavior
from tailor_assets.compute.simulation.camera import Camera
from tailor_assets.compute.simulation.encoder import H264Writer
from tailor_assets.compute.simulation.nest import MATERIALS, Nest, choose_nest_site
from tailor_assets.compute.simulation.render import Renderer
from tailor_assets.compute.simulation.rodent import COATS, Rodent, coat_luma
from tailor_assets.compute.simulation.scenery import choose_floor, floor_luma, paint_scenery
from tailor_assets.compute.simulation.wide_scene import WideScene, body_name, build_wide_scene

SIMULATOR_VERSION = "2"
VARIETIES = ("everyday", "wide")
MOST_ANIMALS = 4
LIGHTINGS = ("visible", "infrared")
ARENAS = ("rectangular", "circular")
TRUTH_COLUMNS = ("frame", "timestamp_s", "behavior", "visible", "centroid_x", "centroid_y")
ANIMALS_COLUMNS = (
    "frame",
    "timestamp_s",
    "animal",
    "behavior",
    "visible",
    "centroid_x",
    "centroid_y",
)
_CRF = 23
_SMALLEST = 64
# What a demonstration should show: unlike recordings first, then chance.
_SAMPLES = (
    ("black", "visible", "rectangular"),
    ("white", "infrared", "circular"),
    ("agouti", "visible", "rectangular"),
    ("black", "infrared", "rectangular"),
    ("white", "visible", "rectangular"),
    ("grey", "visible", "circular"),
)


@dataclass(frozen=True)
class SimulationTruth:
    """What is known about a simulated video. Points are (x, y) pixels of frame 0, inside the mask.

    ``masks_path`` is a masks NPZ of all frames (objects ``mouse``: body, head, ears and feet;
    ``tail``; and ``nest``, its visible part, where there is one). ``behaviors_path`` is a CSV of
    ``TRUTH_COLUMNS``; a hidden animal has ``visible`` 0 and no centroid.
    """

    video_path: str
    masks_path: str
    behaviors_path: str
    simulator_version: str
    seed: int
    width: int
    height: int
    fps: float
    frame_count: int
    px_per_cm: float
    body_length_px: float
    coat: str
    lighting: str
    arena: str
    floor: str
    mouse_point: tuple[float, float] | None
    nest_point: tuple[float, float] | None


@dataclass(frozen=True)
class WideTruth(SimulationTruth):
    """What is known about a video of wide variety, with one to four animals.

    The masks' objects are ``mouse``, ``mouse_2`` and on, ``tail``, ``tail_2`` and on, and ``nest``.
    ``points`` has a point of each and the frame in which it is first seen, (x, y, frame), which for
    an animal that comes later is not frame 0; ``mouse_point`` is the first animal's. An object that
    is never seen has no point. ``animals_path`` is a CSV of ``ANIMALS_COLUMNS``, a row per frame
    and animal; ``behaviors_path`` is about the first animal alone. An animal that is not there is
    "absent", one that is wholly hidden has ``visible`` 0.
    """

    animals_path: str
    animals: int
    species: str
    points: dict[str, tuple[float, float, int]]


@dataclass
class Scene:
    """Everything of one simulation: step ``behavior`` and let ``renderer`` draw its pose."""

    arena: Arena
    behavior: RodentBehavior
    renderer: Renderer
    body_length: float
    coat: str
    lighting: str
    floor: str
    has_nest: bool

    @property
    def objects(self) -> tuple[str, ...]:
        """Names of the masks that ``renderer.render`` returns."""
        return ("mouse", "nest", "tail") if self.has_nest else ("mouse", "tail")

    @property
    def px_per_cm(self) -> float:
        """The floor's scale."""
        return self.arena.px_per_cm

    @property
    def animals(self) -> int:
        """Always one."""
        return 1

    def frame(self, time_s: float) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The frame of this moment, as ``Renderer.render``."""
        return self.renderer.render(self.behavior.pose, time_s)

    def doing(self, animal: int, time_s: float) -> str:
        """The behaviour of this moment; there is one animal, and it is always there."""
        return self.behavior.behavior

    def advance(self, time_s: float, seconds: float) -> None:
        """Let ``seconds`` pass after ``time_s``."""
        self.behavior.advance(seconds)


def build_scene(
    seed: int,
    *,
    width: int,
    height: int,
    coat: str = "random",
    lighting: str = "random",
    arena: str = "random",
    nest: bool = True,
) -> Scene:
    """Choose and paint everything that the seed decides. Arguments as for ``simulate_video``."""
    _check(coat, ("random", *COATS), "coat")
    _check(lighting, ("random", *LIGHTINGS), "lighting")
    _check(arena, ("random", *ARENAS), "arena")
    # One stream of chance per subject, so that painting a scratch more does not move the animal.
    choices, ground, looks, fur, heap, mind, optics, shades = (
        np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(8)
    )
    if coat == "random":
        coat = str(choices.choice(COATS, p=[0.34, 0.2, 0.16, 0.1, 0.12, 0.08]))
    if lighting == "random":
        lighting = "infrared" if choices.random() < 0.35 else "visible"
    infrared = lighting == "infrared"
    monochrome = infrared or choices.random() < 0.3
    clock = choices.random() < 0.25
    ground_plan = choose_arena(ground, arena, width, height)
    body_length = float(ground.uniform(7.9, 9.4)) * ground_plan.px_per_cm
    floor = choose_floor(looks, coat_luma(coat, infrared))
    # White cotton on white acrylic would be a nest that nobody can see.
    pale = floor_luma(floor) > 170
    material = str(choices.choice(MATERIALS, p=[0.35, 0.1, 0.55] if pale else [0.5, 0.35, 0.15]))
    scenery = paint_scenery(looks, ground_plan, height, width, floor, lighting, monochrome)
    site = choose_nest_site(heap, ground_plan, body_length) if nest else None
    pile = Nest(heap, site, material, monochrome) if site else None
    rodent = Rodent(fur, coat, body_length, monochrome and infrared)
    camera = Camera(optics, height, width, infrared=infrared, monochrome=monochrome, clock=clock)
    return Scene(
        arena=ground_plan,
        behavior=RodentBehavior(mind, ground_plan, body_length, site),
        renderer=Renderer(shades, ground_plan, scenery, rodent, pile, camera),
        body_length=body_length,
        coat=coat,
        lighting=lighting,
        floor=floor,
        has_nest=nest,
    )


def simulate_video(
    path: str | Path,
    *,
    seed: int,
    duration_s: float,
    fps: float = 30,
    width: int = 640,
    height: int = 480,
    coat: str = "random",
    lighting: str = "random",
    arena: str = "random",
    nest: bool = True,
    variety: str = "everyday",
    animals: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SimulationTruth:
    """Make a sample recording and write its truth beside it.

    Writes ``path`` (H.264 mp4, yuv420p), ``<stem>_truth.npz`` (masks), ``<stem>_truth.csv``
    (behaviour per frame) and ``<stem>_truth.json`` (the returned ``SimulationTruth``). Equal
    arguments give equal files, except that the json names where they are. Each file appears whole
    or not at all, the video last. Memory does not depend on ``duration_s``.

    ``width`` and ``height`` in pixels, even, at least 64; ``coat`` one of ``COATS``, ``lighting``
    of ``LIGHTINGS``, ``arena`` of ``ARENAS``, each or ``"random"``. ``progress(done, total)`` is
    called after every frame. Raises PermanentProblem for arguments no video can be made from.

    ``variety`` "everyday" is one rodent in a tidy laboratory. "wide" is any laboratory: the seed
    chooses all of it but the number of ``animals`` (0 to 4; None: that too), and the truth is a
    ``WideTruth`` with one more file, ``<stem>_truth_animals.csv``.
    """
    path = Path(path)
    _check_size(path, duration_s, fps, width, height)
    rate = Fraction(fps).limit_denominator(1001)
    count = max(1, round(duration_s * rate))
    _check(variety, VARIETIES, "variety")
    scene: Scene | WideScene
    if variety == "wide":
        _check_wide(coat, lighting, arena, animals)
        scene = build_wide_scene(
            seed, width=width, height=height, duration_s=float(count / rate), animals=animals
        )
    else:
        if animals not in (None, 1):
            raise PermanentProblem("Everyday recordings have one animal; choose the wide variety.")
        scene = build_scene(
            seed, width=width, height=height, coat=coat, lighting=lighting, arena=arena, nest=nest
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    masks_path = path.with_name(f"{path.stem}_truth.npz")
    table_path = path.with_name(f"{path.stem}_truth.csv")
    truth_path = path.with_name(f"{path.stem}_truth.json")
    animals_path = path.with_name(f"{path.stem}_truth_animals.csv")
    tables = [table_path, animals_path] if isinstance(scene, WideScene) else [table_path]
    suffix = f".{secrets.token_hex(4)}.part"
    part = {p: p.with_name(f".{p.name}{suffix}") for p in (path, truth_path, *tables)}
    points: dict[str, tuple[float, float, int]] = {}
    writer = None
    try:
        writer = H264Writer(part[path], width=width, height=height, rate=rate, crf=_CRF)
        with (
            ExitStack() as open_tables,
            MaskWriter(
                masks_path, objects=scene.objects, height=height, width=width, segmenter="truth"
            ) as masks_file,
        ):
            streams = [
                open_tables.enter_context(open(part[p], "w", newline="", encoding="utf-8"))
                for p in tables
            ]
            rows = [csv.writer(stream, lineterminator="\n") for stream in streams]
            rows[0].writerow(TRUTH_COLUMNS)
            for animal_rows in rows[1:]:
                animal_rows.writerow(ANIMALS_COLUMNS)
            for index in range(count):
                time_s = float(index / rate)
                planes, masks = scene.frame(time_s)
                writer.write(planes)
                masks_file.append(
                    source_frame=index,
                    timestamp_s=time_s,
                    masks=masks,
                    scores=dict.fromkeys(masks, 1.0),
                )
                rows[0].writerow(_truth_row(index, time_s, scene.doing(0, time_s), masks["mouse"]))
                for animal_rows in rows[1:]:
                    for animal in range(scene.animals):
                        name = body_name(animal)
                        row = _truth_row(index, time_s, scene.doing(animal, time_s), masks[name])
                        animal_rows.writerow([*row[:2], name, *row[2:]])
                for name in masks:
                    if name not in points and masks[name].any():
                        points[name] = (*_point_inside(masks[name]), index)
                if progress is not None:
                    progress(index + 1, count)
                scene.advance(time_s, float(1 / rate))
        writer.close()
        writer = None
        truth = SimulationTruth(
            video_path=str(path),
            masks_path=str(masks_path),
            behaviors_path=str(table_path),
            simulator_version=SIMULATOR_VERSION,
            seed=seed,
            width=width,
            height=height,
            fps=float(rate),
            frame_count=count,
            px_per_cm=scene.px_per_cm,
            body_length_px=scene.body_length,
            coat=scene.coat,
            lighting=scene.lighting,
            arena=scene.arena.kind,
            floor=scene.floor,
            mouse_point=_in_frame_0(points.get("mouse")),
            nest_point=_in_frame_0(points.get("nest")),
        )
        if isinstance(scene, WideScene):
            truth = WideTruth(
                **asdict(truth),
                animals_path=str(animals_path),
                animals=scene.animals,
                species=scene.species,
                points=points,
            )
        part[truth_path].write_text(json.dumps(asdict(truth), indent=2) + "\n", encoding="utf-8")
        # The video last: whoever watches the folder finds its truth already there.
        for final in (*tables, truth_path, path):
            os.replace(part[final], final)
    finally:
        if writer is not None:
            writer.abort()
        for leftover in part.values():
            leftover.unlink(missing_ok=True)
    return truth


def sample_videos(
    out_dir: str | Path,
    count: int,
    seed: int,
    duration_s: float,
    *,
    variety: str = "everyday",
    animals: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Make ``count`` unlike sample videos, ``simulated_mouse_01.mp4`` and on, with their truth.

    Coats, light and arenas differ from one to the next; ``progress(done, total)`` counts the
    frames of all of them. ``variety`` and ``animals`` as for ``simulate_video``. Returns the videos'
    paths.
    """
    folder = Path(out_dir)
    paths: list[Path] = []
    for index in range(count):
        coat, lighting, arena = (
            _SAMPLES[index]
            if index < len(_SAMPLES) and variety == "everyday"
            else ("random", "random", "random")
        )
        path = folder / f"simulated_mouse_{index + 1:02d}.mp4"

        def report(done: int, total: int, finished: int = index) -> None:
            if progress is not None:
                progress(finished * total + done, count * total)

        simulate_video(
            path,
            seed=seed * 1000 + index,
            duration_s=duration_s,
            coat=coat,
            lighting=lighting,
            arena=arena,
            variety=variety,
            animals=animals,
            progress=report,
        )
        paths.append(path)
    return paths


def _truth_row(
    index: int, time_s: float, behavior: str, mouse: np.ndarray
) -> tuple[int, str, str, int, str, str]:
    area, _, (row, column) = mask_geometry(mouse)
    if area == 0:
        return index, f"{time_s:.6f}", behavior, 0, "", ""
    return index, f"{time_s:.6f}", behavior, 1, f"{column:.3f}", f"{row:.3f}"


def _in_frame_0(point: tuple[float, float, int] | None) -> tuple[float, float] | None:
    return None if point is None or point[2] else point[:2]


def _point_inside(mask: np.ndarray) -> tuple[float, float]:
    """The pixel (x, y) of ``mask`` that is farthest from its edge."""
    row, column = innermost_pixel(mask)
    return float(column), float(row)


def _check(value: str, allowed: tuple[str, ...], name: str) -> None:
    if value not in allowed:
        raise PermanentProblem(
            f"The {name} {value!r} cannot be simulated; choose one of: {', '.join(allowed)}."
        )


def _check_wide(coat: str, lighting: str, arena: str, animals: int | None) -> None:
    if (coat, lighting, arena) != ("random",) * 3:
        raise PermanentProblem(
            "With the wide variety the seed chooses coat, lighting and arena; leave them random."
        )
    if animals is not None and not 0 <= animals <= MOST_ANIMALS:
        raise PermanentProblem(
            f"{animals} animals cannot be simulated; choose 0 to {MOST_ANIMALS} of them."
        )


def _check_size(path: Path, duration_s: float, fps: float, width: int, height: int) -> None:
    if path.suffix.lower() != ".mp4":
        raise PermanentProblem(f"The simulated video must be named .mp4, not {path.name!r}.")
    if width % 2 or height % 2 or min(width, height) < _SMALLEST:
        raise PermanentProblem(
            f"A simulated video of {width}x{height} pixels cannot be encoded; width and height "
            f"must be even and at least {_SMALLEST}."
        )
    if not (0 < duration_s < float("inf") and 1 <= fps <= 240):
        raise PermanentProblem(
            f"A simulated video of {duration_s} s at {fps} frames/s cannot be made; give a "
            "duration above 0 and 1 to 240 frames per second."
        )
