"""Opening a video file safely, and decoding it frame by frame.

Everything that reads a video (probe, frame source, frame extraction) goes through here, so that
all of them see the same frames in the same order, and refuse the same files in the same words.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from tailor_assets.compute.errors import PermanentProblem

# FFmpeg also opens playlists, scripts and streams, which name other files and hosts. A file in a
# person's Drive is hostile input, so only containers that hold their pictures themselves are read.
CONTAINER_FORMATS = (
    "mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm", "avi", "asf", "mpegts", "mpeg",
    "mpegvideo", "m4v", "h264", "hevc", "mjpeg", "flv", "ogg", "mxf", "nut", "ivf", "dv",
    "yuv4mpegpipe", "rm", "wtv", "gif", "obu", "vc1",
)  # fmt: skip
READABLE = "MP4, MOV, MKV, WebM, AVI, WMV, MPEG or MPEG-TS"

# The same on every machine: the number decides how many frames a damaged end takes with it, and
# a frame's index must not depend on where it was decoded.
DECODER_THREADS = 4

# One in a hundred packets may be broken (a camera's hiccup); more than that is a broken file.
TOLERATED_DAMAGE = 0.01
# Two fields may come as two packets of one frame; below that, packets have no picture to show.
FEWEST_FRAMES_PER_PACKET = 0.45


@dataclass(frozen=True)
class Orientation:
    """How the decoded picture must be turned to stand upright: first mirror, then rotate."""

    mirrored: bool = False
    clockwise_deg: int = 0  # 0, 90, 180 or 270

    @property
    def swaps_sides(self) -> bool:
        return self.clockwise_deg in (90, 270)

    @property
    def is_identity(self) -> bool:
        return not self.mirrored and self.clockwise_deg == 0

    def apply(self, picture: np.ndarray) -> np.ndarray:
        """Turn an array [H, W] or [H, W, C] upright; a contiguous copy unless nothing is to do."""
        if self.is_identity:
            return picture
        if self.mirrored:
            picture = picture[:, ::-1]
        return np.ascontiguousarray(np.rot90(picture, -self.clockwise_deg // 90))


@dataclass
class OpenVideo:
    """An open file, its video stream, and what decoding has met so far."""

    path: Path
    container: InputContainer
    stream: VideoStream
    packets: int = 0
    frames: int = 0
    decode_errors: int = 0
    corrupt_frames: int = 0

    @property
    def time_base(self) -> float:
        """Seconds per unit of a frame's ``pts``."""
        return float(self.stream.time_base or 0)

    def seconds(self, pts: np.ndarray) -> np.ndarray:
        """Presentation timestamps (``pts``) as float64 seconds; NaN stays NaN."""
        base = self.stream.time_base or Fraction(0)
        return pts * float(base.numerator) / base.denominator

    @property
    def damaged(self) -> int:
        """Pictures lost or marked as damaged by the decoder so far."""
        if not self.decode_errors and not self.corrupt_frames:
            return 0  # packets without a picture of their own (fields, hidden frames) are no damage
        return max(self.decode_errors + self.corrupt_frames, self.packets - self.frames)


@contextmanager
def open_video(path: str | Path, *, decoder_threads: int = DECODER_THREADS) -> Iterator[OpenVideo]:
    """Open a local video file for decoding its (first real) video stream.

    The file is opened by its absolute path through FFmpeg's ``file`` protocol alone, so a name
    like ``concat:a|b``, ``http:x`` or ``-i`` is only a name.

    Args:
        decoder_threads: 1 for none beside the caller's.

    Raises:
        PermanentProblem: not a regular file, empty, cut off, not a video, or no decoder for it.
    """
    path = Path(path)
    _refuse_what_is_no_file(path)
    try:
        container = av.open(
            f"file:{path.absolute()}",
            container_options={
                "protocol_whitelist": "file",
                "format_whitelist": ",".join(CONTAINER_FORMATS),
            },
            metadata_errors="replace",
        )
    except PermissionError as problem:
        raise PermanentProblem(_no_permission(path)) from problem
    except (av.error.FFmpegError, ValueError) as problem:
        raise PermanentProblem(_why_not_opened(path)) from problem
    try:
        stream = _video_stream(path, container)
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = decoder_threads
        yield OpenVideo(path, container, stream)
    finally:
        container.close()


def decode_frames(video: OpenVideo, keep: np.ndarray | None = None) -> Iterator[VideoFrame]:
    """Decode in order, in one pass; broken packets are counted in ``video`` and passed over.

    Args:
        keep: bool [packets]; packets marked False are read and not given to the decoder.

    Raises:
        PermanentProblem: the picture changes its size within the video.
    """
    size: tuple[int, int] | None = None
    for frame in _decode(video, keep):
        if size is None:
            size = (frame.width, frame.height)
        elif size != (frame.width, frame.height):
            raise PermanentProblem(
                f"{video.path.name} changes its picture size from {size[0]}x{size[1]} to "
                f"{frame.width}x{frame.height} at frame {video.frames}, so positions in it cannot "
                "be compared; export it again at one size, or cut it there."
            )
        video.frames += 1
        video.corrupt_frames += frame.is_corrupt
        yield frame


def read_packets(video: OpenVideo) -> Iterator[av.Packet]:
    """Packets with data, to the end of the file or to where it can no longer be read."""
    try:
        for packet in video.container.demux(video.stream):
            if packet.size:
                yield packet
    except av.error.FFmpegError:
        video.decode_errors += 1


def refuse_damage(video: OpenVideo) -> None:
    """After the last frame: raise PermanentProblem where too little of the video could be decoded.

    Isolated broken packets (up to 1%) are tolerated; what is lost is lost, the rest keeps its time.
    """
    name = video.path.name
    remedy = "copy it again from its source or export it again"
    if video.frames == 0:
        raise PermanentProblem(
            f"{name} holds no picture that can be decoded ({video.packets} packets read, "
            f"{video.decode_errors} errors); {remedy}."
        )
    if video.damaged > TOLERATED_DAMAGE * video.packets:
        raise PermanentProblem(
            f"{name} is damaged: {video.damaged} of its {video.packets} pictures are lost or "
            f"broken when decoded; {remedy}."
        )
    if video.frames < FEWEST_FRAMES_PER_PACKET * video.packets:
        raise PermanentProblem(
            f"{name} is damaged: only {video.frames} of its {video.packets} pictures can be "
            f"decoded; {remedy}."
        )


def orientation_of(frame: VideoFrame) -> Orientation:
    """Read the display matrix (ISO 14496-12, 6.2.2) of a frame; angles go to the next quarter turn.

    The matrix maps stored coordinates to shown ones: ``(x, y) -> (a x + c y, b x + d y)``.
    """
    data = frame.side_data.get(SideDataType.DISPLAYMATRIX)  # type: ignore[call-overload]
    if data is None:
        return Orientation()
    matrix = np.frombuffer(bytes(data), np.int32)
    a, b, c, d = (float(matrix[i]) for i in (0, 1, 3, 4))
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b  # the rotation that is left once x is mirrored in the stored picture
    if a == b == 0:
        return Orientation()
    quarter_turns = round(np.degrees(np.arctan2(b, a)) / 90) % 4
    return Orientation(mirrored, 90 * quarter_turns)


def _decode(video: OpenVideo, keep: np.ndarray | None) -> Iterator[VideoFrame]:
    stream = video.stream
    for packet in read_packets(video):
        video.packets += 1
        if keep is not None and not keep[video.packets - 1]:
            continue
        try:
            frames = stream.decode(packet)
        except av.error.EOFError:
            return
        except (av.error.FFmpegError, ValueError):
            video.decode_errors += 1
            frames = []
        yield from frames
    yield from _drain(video)


def _drain(video: OpenVideo) -> Iterator[VideoFrame]:
    """The frames that decoder threads still hold; an error in one does not lose the others."""
    for _ in range(64):  # more than any decoder holds: never loop on a decoder that never ends
        try:
            yield from video.stream.decode(None)
            return
        except av.error.EOFError:
            return
        except (av.error.FFmpegError, ValueError):
            video.decode_errors += 1


def _refuse_what_is_no_file(path: Path) -> None:
    name = path.name or str(path)
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError) as problem:
        raise PermanentProblem(f"There is no file {path}; check its name and folder.") from problem
    except PermissionError as problem:
        raise PermanentProblem(_no_permission(path)) from problem
    except (OSError, ValueError) as problem:
        raise PermanentProblem(f"{path!s:.200} cannot be a file name; check it.") from problem
    if stat.S_ISDIR(status.st_mode):
        raise PermanentProblem(f"{name} is a folder, not a video; name the video file in it.")
    if not stat.S_ISREG(status.st_mode):
        raise PermanentProblem(f"{name} is not a regular file; copy the video into a file.")
    if status.st_size == 0:
        raise PermanentProblem(f"{name} is empty (0 bytes); copy or export the video again.")


def _no_permission(path: Path) -> str:
    return f"{path.name} may not be read by this user; change its permissions or copy it."


def _why_not_opened(path: Path) -> str:
    if _is_mp4_without_index(path):
        return (
            f"{path.name} is cut off: its index (the 'moov' part) is missing, as when recording or "
            "copying was interrupted; copy it again from its source or export it again."
        )
    return (
        f"{path.name} is not a video that can be read here: its content is no intact {READABLE} "
        "file; check that it is the right file, copy it again, or export it as MP4 (H.264)."
    )


def _is_mp4_without_index(path: Path) -> bool:
    """Whether the file is an ISO media file (ISO 14496-12 boxes) that lacks its ``moov`` box."""
    size = path.stat().st_size
    seen: set[bytes] = set()
    with path.open("rb") as file:
        position = 0
        while position + 8 <= size and len(seen) < 100:
            file.seek(position)
            header = file.read(16)
            length, kind = int.from_bytes(header[:4], "big"), header[4:8]
            if length == 1:
                length = int.from_bytes(header[8:16], "big")
            if not kind.isalnum() and kind != b"uuid":
                break
            seen.add(kind)
            if length < 8:  # 0: to the end of the file; others are no box at all
                break
            position += length
    return bool(seen & {b"ftyp", b"mdat"}) and b"moov" not in seen


def _video_stream(path: Path, container: InputContainer) -> VideoStream:
    pictures = [
        stream
        for stream in container.streams.video
        if not stream.disposition & av.stream.Disposition.attached_pic  # a cover is no video
    ]
    if not pictures:
        kinds = sorted({stream.type for stream in container.streams})
        raise PermanentProblem(
            f"{path.name} holds no video track (only: {', '.join(kinds) or 'nothing'}); check that "
            "it is the right file."
        )
    stream = pictures[0]
    if stream.codec_context is None:
        raise PermanentProblem(
            f"{path.name} is compressed with a codec for which there is no decoder here; export it "
            "as MP4 (H.264)."
        )
    return stream
