"""The scene of the video that was looked at last, so that it is not learnt twice in one process.

Finding the animal without a click learns the whole scene; segmenting right afterwards, in the same
run, would learn it again from the same frames. One scene is kept: a run is about one video.
"""

from pathlib import Path

import numpy as np

from tailor_assets.compute.background.scene_learning import Scene

_Key = tuple[str, int, int, bytes]
_remembered: tuple[_Key, Scene] | None = None


def remember_scene(video_path: str | Path, source_frames: np.ndarray, scene: Scene) -> None:
    """Keep the scene that was learnt, without any click, from these frames of this file."""
    global _remembered
    _remembered = (_key(video_path, source_frames), scene)


def take_scene(video_path: str | Path, source_frames: np.ndarray) -> Scene | None:
    """The scene of exactly this file and these frames, if it is the last one; it is then forgotten."""
    global _remembered
    kept, _remembered = _remembered, None
    if kept is not None and kept[0] == _key(video_path, source_frames):
        return kept[1]
    return None


def _key(video_path: str | Path, source_frames: np.ndarray) -> _Key:
    path = Path(video_path).resolve()
    status = path.stat()
    frames = np.asarray(source_frames, np.int64).tobytes()
    return (str(path), status.st_size, status.st_mtime_ns, frames)
