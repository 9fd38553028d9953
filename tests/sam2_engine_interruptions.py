"""The SAM2 engine stopped, killed and continued, encoding ahead, in a view: its masks are the same."""

import dataclasses
import os
import signal
import tempfile
import threading
import traceback
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import official_sam2_reference as official
from official_sam2_reference import HEIGHT, SIDE, WIDTH
from sam2_engine_lab import ALL_AT_ONCE, ALL_AT_ONCE_CLICKS, Lab, StopAfter, replaced, sha256, whole

from sam2_worker import mask_output, tracking_pass
from sam2_worker.checkpoint import CheckpointFolder
from sam2_worker.first_look import FirstLook
from sam2_worker.image_encoder import ImageFeatures
from sam2_worker.request import PARTITION_NOTE, WorkerRequest
from sam2_worker.stop_request import StopRequest
from sam2_worker.streaming_tracker import StreamingTracker
from sam2_worker.tracking_pass import Stopped
from sam2_worker.video_model import VideoModel, resize_to_square
from sam2_worker.view import View
from sam2_worker.view_follower import ViewFollower


def stopped_again_and_again(lab: Lab, every: int, follow: bool) -> dict[str, Any]:
    """Stopped after every so many frames, until the video is done."""
    with tempfile.TemporaryDirectory() as folder:
        path, other = Path(folder) / "masks.npz", Path(folder) / "at_once.npz"
        model = dataclasses.replace(
            official.model_spec(lab.home, "lively"), follow=follow, refine=follow
        )
        fields = {"settings": ALL_AT_ONCE, "model": model}
        expected, _ = lab.uninterrupted
        if follow:
            lab.segment(lab.request(other, ALL_AT_ONCE_CLICKS, **fields))
            assert sha256(other) != expected  # these are other masks
            expected = sha256(other)
        report, stops = lab.segment_with_stops(
            lab.request(path, ALL_AT_ONCE_CLICKS, **fields), every
        )
        return {"stops": stops, "same": sha256(path) == expected, "resumed": report["resumed"]}


def looked_ahead(lab: Lab) -> dict[str, Any]:
    """The same masks with the next picture encoded ahead and without; how many were, and where."""
    model = dataclasses.replace(official.model_spec(lab.home, "lively"), follow=True)
    encode, by = VideoModel.encode, Counter[str]()

    def counted(self: VideoModel, pictures: Any) -> Any:
        by[threading.current_thread().name.split("_")[0]] += 1
        return encode(self, pictures)

    digests = []
    with tempfile.TemporaryDirectory() as folder, replaced(VideoModel, "encode", counted):
        for ahead in (False, True):
            by.clear()
            path = Path(folder) / f"{ahead}.npz"
            with replaced(tracking_pass, "another_core", lambda ahead=ahead: ahead):
                lab.segment(
                    lab.request(path, ALL_AT_ONCE_CLICKS, settings=ALL_AT_ONCE, model=model)
                )
            digests.append(sha256(path))
    return {"same": digests[0] == digests[1], "ahead": by["encode"], "all": by.total()}


class _Staring(ViewFollower):
    """Looks at one view whatever happens."""

    def __init__(self, view: View) -> None:
        super().__init__("animal", (WIDTH, HEIGHT), 1)
        self._view = view

    def views_about(self, points: Any) -> list[View | None]:
        return [self._view]

    def begin(self, extent: Any) -> View | None:
        return self._view

    def seen(self, extent: Any) -> None:
        pass

    def begin_with(self, view: View | None) -> None:
        pass


def in_a_view(lab: Lab) -> dict[str, Any]:
    """Tracked in a view of a video, and in a video that is that view."""
    model, view = lab.model("lively"), View(40, 20, 120, 100)
    pictures = np.random.default_rng(3).integers(0, 256, (8, HEIGHT, WIDTH, 3), dtype=np.uint8)
    x, y = 0.3, 0.6
    inside = ((view.left + x * view.width) / WIDTH, (view.top + y * view.height) / HEIGHT)
    follower = _Staring(view)
    ours = StreamingTracker(
        model.head, {"mouse": {0: [inside]}}, image_size=SIDE,
        followers={"mouse": follower}, picture=(WIDTH, HEIGHT), guessed=["mouse"],
    )  # fmt: skip
    alone = StreamingTracker(model.head, {"mouse": {0: [(x, y)]}}, image_size=SIDE)
    differences, judged, scale = [], [], 0.0
    for step, picture in enumerate(pictures):

        def look(part: View | None, picture: np.ndarray = picture) -> ImageFeatures:
            shown = picture if part is None else part.cut(picture)
            return model.encode([resize_to_square(shown, SIDE)])[0]

        # A guess is given no more credit than its picture, and is seen in one view here.
        with replaced(FirstLook, "_whichever_way_it_is_held", lambda _, seen: seen.prediction):
            masks = ours.track(step, look).masks
        expected = alone.track(step, whole(look(view))).masks
        differences.append(float((masks.in_views - expected.in_views).abs().max()))
        scale = max(scale, float(expected.logits.std()))
        enlarger = mask_output.MaskEnlarger(SIDE // 4, HEIGHT, WIDTH, fill_hole_area=0)
        large = enlarger.mask(masks.in_views[0].numpy(), masks.views[0])
        share = float((masks.logits > 0).float().mean())
        judged.append(abs(share - large.mean()))
    return {"differences": differences, "scale": scale, "judged": judged}


def note_of_whose_it_is(lab: Lab) -> bool:
    """Whether a checkpoint's folder that has nothing of use keeps the note in it."""
    with tempfile.TemporaryDirectory() as name:
        note = Path(name) / PARTITION_NOTE
        note.write_text("anna--day-1")
        (Path(name) / "before.npz").write_bytes(b"of something else")
        assert CheckpointFolder(name, "fingerprint").load() is None
        return [path.name for path in Path(name).iterdir()] == [PARTITION_NOTE]


def damaged(lab: Lab, file: str, by: str) -> dict[str, Any]:
    """Stopped in the forward pass; then a file of the checkpoint is cut or removed."""
    expected, looks = lab.uninterrupted
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "masks.npz"
        request = lab.request(path, ALL_AT_ONCE_CLICKS, settings=ALL_AT_ONCE)
        with suppress(Stopped):
            lab.segment(request, StopAfter(40))
        victim = Path(request.checkpoint_folder) / file
        size = victim.stat().st_size
        if by == "removing":
            victim.unlink()
        else:
            os.truncate(victim, size // 2)
        report = lab.segment(request)
        return {
            "size": size,
            "same": sha256(path) == expected,
            "done_again": report["frames_tracked"] - (looks - 41),
        }


def ended(lab: Lab, at: int, by: str) -> dict[str, Any]:
    """Another process does the video and gets a signal before its ``at``-th look at a frame.

    Then this one goes on.
    """
    expected, looks = lab.uninterrupted
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "masks.npz"
        request = lab.request(path, ALL_AT_ONCE_CLICKS, settings=ALL_AT_ONCE)
        child = os.fork()
        if not child:
            _die_at(lab, request, at, signal.Signals[by])
        _, status = os.waitpid(child, 0)
        report = lab.segment(request)
        return {
            "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0,
            "exit_status": os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
            "looks": looks,
            "done_again": report["frames_tracked"] - (looks - at),
            "resumed": report["resumed"],
            "same": sha256(path) == expected,
        }


def _die_at(lab: Lab, request: WorkerRequest, at: int, signal_number: int) -> None:
    status = 1
    try:
        looks = 0
        encode = VideoModel.encode

        def counting(model: VideoModel, pictures: Any) -> Any:
            nonlocal looks
            if looks == at:
                os.kill(os.getpid(), signal_number)
            looks += 1
            return encode(model, pictures)

        stop = StopRequest()
        stop.obey_sigterm()
        with replaced(VideoModel, "encode", counting):
            lab.segment(request, stop)
        status = 0
    except Stopped:
        status = 143
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)
