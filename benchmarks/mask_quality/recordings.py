"""The recordings that masks are judged on: the real ones with their truth, and one form for all.

The real ones lie beside the project (``MANIFEST.md`` there says what each is and whose). Readers
return None where they are absent, so that a benchmark can say so and go on.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from tailor_assets.compute.mask_geometry import innermost_pixel
from tailor_assets.compute.prompts import ObjectKind, ObjectPrompt

REAL_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
KEYPOINTS = ("snout", "left ear", "right ear", "tail base")


@dataclass(frozen=True)
class Recording:
    """A video as a segmenter is given it: ``source_frames`` int64 [N] of it, with these clicks.

    ``timestamps_s`` float64 are of *all* frames of the video.
    """

    video: Path
    source_frames: np.ndarray
    timestamps_s: np.ndarray
    height: int
    width: int
    objects: tuple[tuple[str, ObjectKind], ...]
    prompts: tuple[ObjectPrompt, ...]


def click(
    x: float, y: float, frame: int = 0, name: str = "mouse", kind: ObjectKind = "animal"
) -> ObjectPrompt:
    """A click as a person would have made it."""
    return ObjectPrompt(name, kind, float(x), float(y), frame, "run config")


def one_mouse(video: Path, x: float, y: float) -> Recording:
    """All frames of a video, one click on frame 0. Raises PermanentProblem: it cannot be read."""
    from tailor_assets.compute.recording.video_probe import probe_video

    facts, times = probe_video(video)
    return Recording(
        video,
        np.arange(facts.frame_count),
        times,
        facts.height,
        facts.width,
        (("mouse", "animal"),),
        (click(x, y),),
    )


@dataclass(frozen=True)
class OpenField:
    """The open-field clip. ``centroids`` float64 [2330, 2] (x, y) of the body in every frame."""

    video: Path
    mouse_at: tuple[float, float]
    centroids: np.ndarray
    trimap_folder: Path

    def trimap(self, frame: int) -> np.ndarray | None:
        """Uint8 [H, W]: 255 body, 128 not judged, 0 background; None for frames without one."""
        path = self.trimap_folder / f"{frame:05d}.png"
        return cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) if path.exists() else None


def open_field(data: Path = REAL_DATA) -> OpenField | None:
    """The real clip of one dark mouse, seen from above."""
    here = data / "open_field_mouse"
    if not here.is_dir():
        return None
    with (here / "m3v1_body_truth.csv").open() as file:
        rows = sorted(csv.DictReader(file), key=lambda row: int(row["frame"]))
    centroids = np.array([[float(r["centroid_x"]), float(r["centroid_y"])] for r in rows])
    return OpenField(here / "m3v1mp4.mp4", (119, 140), centroids, here / "m3v1_body_trimap")


def stills_with_keypoints(data: Path = REAL_DATA) -> tuple[list[Path], np.ndarray] | None:
    """116 unrelated pictures of one arena, and a person's points float64 [116, 4, 2] (x, y).

    The points are those of ``KEYPOINTS``, in that order.
    """
    here = data / "open_field_mouse" / "m4s1_human_keypoints"
    if not here.is_dir():
        return None
    with next(here.glob("CollectedData*.csv")).open() as file:
        lines = list(csv.reader(file))[3:]
    points = np.array([line[1:] for line in lines], float).reshape(len(lines), -1, 2)
    return [here / Path(line[0]).name for line in lines], points


def empty_chamber(data: Path = REAL_DATA) -> Path | None:
    """A recording of a chamber with nobody in it."""
    path = data / "odd_videos" / "empty_chamber.wmv"
    return path if path.exists() else None


def innermost_point(mask: np.ndarray) -> tuple[float, float]:
    """The pixel (x, y) of bool [H, W] that is farthest from its edge."""
    row, column = innermost_pixel(mask)
    return float(column), float(row)


def write_lossless(path: Path, pictures: Sequence[Path]) -> None:
    """Put picture files into one video (FFV1 in Matroska) that decodes to the same pixels."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=30)
        stream.pix_fmt = "bgr0"
        for number, picture_path in enumerate(pictures):
            picture = read_picture(picture_path)
            if number == 0:
                stream.height, stream.width = picture.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def read_picture(path: Path) -> np.ndarray:
    """A picture file as uint8 RGB [H, W, 3]."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    assert picture is not None, path
    return np.ascontiguousarray(picture[..., ::-1])


def frame_of(recording: Recording, frame: int) -> np.ndarray:
    """One frame of the video, uint8 RGB [H, W, 3]."""
    from tailor_assets.compute.recording.frame_source import read_frames

    wanted = np.array([frame])
    with read_frames(recording.video, wanted, timestamps_s=recording.timestamps_s) as frames:
        return next(picture for _, picture in frames)
