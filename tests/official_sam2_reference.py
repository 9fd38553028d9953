"""Runs in the SAM2 environment: a small random model, a video, and the official predictor on both.

`python official_sam2_reference.py FOLDER` makes a home for the worker, with models and a video, and
the official masks of a scenario (reference.npz). sam2_engine_checks.py asks for more.

Nothing of the engine is used here but what loads the model, resizes a picture and fills holes: what
this gives is what the engine is held against. The model is SAM 2.1's architecture at 256 px with
random weights, in the form of an official checkpoint; the video has two animals that move and a nest
that does not.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import sam2
import torch
from omegaconf import OmegaConf
from torch.nn.functional import interpolate

from sam2_worker.mask_output import fill_small_holes
from sam2_worker.model_loading import build_model, load_model
from sam2_worker.request import ModelSpec
from sam2_worker.video_model import resize_to_square
from tailor_assets.compute.recording.frame_source import read_frames

FRAMES, HEIGHT, WIDTH, SIDE = 120, 192, 320, 256
MODELS = "".join(
    f'[{name}]\nkind = "sam2"\nconfig = "small.yaml"\nfile = "{name}.pt"\nprecision = "fp32"\n'
    for name in ("calm", "lively", "cut")
)
# Object -> frame -> clicks (x, y) in pixels of the video.
Clicks = Mapping[str, Mapping[int, Sequence[tuple[float, float]]]]
# (object, frame) -> low-resolution logits float32 [S/4, S/4].
Logits = dict[tuple[str, int], torch.Tensor]


def make_home(folder: Path) -> None:
    """Write models.toml, small.yaml, models/*.pt (one of them cut) and video.mp4."""
    write_small_config(folder / "small.yaml")
    for name, weights in WEIGHTS.items():
        write_random_checkpoint(model_spec(folder, name), weights)
    whole = (folder / "models" / "calm.pt").read_bytes()
    (folder / "models" / "cut.pt").write_bytes(whole[: len(whole) // 2])
    (folder / "models.toml").write_text(MODELS)
    write_video(folder / "video.mp4", pictures())


def model_spec(home: Path, name: str = "calm", **differing: Any) -> ModelSpec:
    """A model of a home that ``make_home`` made, in float32 unless told otherwise."""
    return ModelSpec(
        name,
        str(home / "small.yaml"),
        str(home / "models" / f"{name}.pt"),
        **{"precision": "fp32", **differing},
    )


def write_small_config(path: Path) -> None:
    """SAM 2.1's architecture, narrow and shallow, for pictures of 256 px."""
    base = Path(sam2.__file__).parent / "configs/sam2.1/sam2.1_hiera_t.yaml"
    config = OmegaConf.load(base)
    model = config.model
    model.image_size = SIDE
    trunk, neck = model.image_encoder.trunk, model.image_encoder.neck
    trunk.embed_dim, trunk.stages, trunk.global_att_blocks = 16, [1, 1, 2, 1], [3]
    # 7 does not divide the maps of 16 and 8: windows are padded, as in the official models.
    trunk.window_spec = [8, 4, 7, 4]
    neck.d_model = neck.position_encoding.num_pos_feats = 64
    neck.backbone_channel_list = [128, 64, 32, 16]
    attention = model.memory_attention
    attention.d_model, attention.num_layers = 64, 2
    attention.layer.d_model, attention.layer.dim_feedforward = 64, 128
    for part in (attention.layer.self_attention, attention.layer.cross_attention):
        part.embedding_dim, part.feat_sizes = 64, [SIDE // 16] * 2
    attention.layer.cross_attention.kv_in_dim = 32
    memory = model.memory_encoder
    memory.out_dim = memory.position_encoding.num_pos_feats = 32
    memory.in_dim = memory.mask_downsampler.embed_dim = memory.fuser.layer.dim = 64
    OmegaConf.save(config, path)


@dataclass(frozen=True)
class RandomWeights:
    """Random weights as they come give every object the same mask in every frame: these do not.

    Weights of the named parts are multiplied. ``bias`` is added to the score: so much that it goes
    through the range that a test needs.
    """

    seed: int
    attention: float
    decoder: float
    bias: float


WEIGHTS = {
    # Objects come and go. What differs in the last bit still does a hundred frames later: a
    # stronger attention makes 1e-4 of a memory's values, stored as bf16, that round the other way.
    "calm": RandomWeights(seed=38, attention=1.6, decoder=1.5, bias=-1.2),
    # Masks differ between objects and frames, and are small enough for an animal's at times.
    "lively": RandomWeights(seed=5, attention=2.0, decoder=2.0, bias=2.0),
}


def write_random_checkpoint(spec: ModelSpec, weights: RandomWeights) -> None:
    """Random weights in the form of an official checkpoint."""
    torch.manual_seed(weights.seed)
    model = build_model(spec)
    gains = {
        "memory_attention": weights.attention,
        "sam_mask_decoder.transformer": weights.decoder,
        "hypernet": 2.0,
        "point_embeddings": 2.0,
        "obj_ptr_proj": 2.0,
        "pred_obj_score_head.layers.2": 20.0,
    }
    with torch.no_grad():
        for name, weight in model.named_parameters():
            # Zeros by default: with them the memory would hardly reach the output.
            if name.endswith(("maskmem_tpos_enc", "no_mem_embed", "no_obj_ptr", "gamma")):
                weight.normal_(std=0.5)
            for part, gain in gains.items():
                if part in name and name.endswith("weight"):
                    weight.mul_(gain)
        model.sam_mask_decoder.pred_obj_score_head.layers[2].bias.add_(weights.bias)
    os.makedirs(Path(spec.checkpoint).parent, exist_ok=True)
    torch.save({"model": model.state_dict()}, spec.checkpoint)


def pictures(frames: int = FRAMES, *, textured: bool = False) -> Iterator[np.ndarray]:
    """RGB uint8 [192, 320, 3]. ``textured``: as a real floor is, and not all round alike."""
    rng = np.random.default_rng(0)
    floor = cv2.resize(rng.integers(60, 200, (12, 20, 3), np.uint8), (WIDTH, HEIGHT))
    if textured:
        grain = rng.integers(140, 220, (HEIGHT // 4, WIDTH // 4, 1), np.uint8).repeat(3, axis=2)
        floor = cv2.resize(grain, (WIDTH, HEIGHT))
    for t in range(frames):
        picture = floor.copy()
        turn = 2 * np.pi * t / 60
        x, y = 150 + 80 * np.sin(turn), 100 + 40 * np.cos(turn)
        if not textured:
            cv2.circle(picture, (250, 60), 35, (200, 180, 90), -1)
            cv2.ellipse(picture, (160, 150), (20, 12), -9.0 * t, 0, 360, (240, 240, 240), -1)
        cv2.ellipse(picture, (int(x), int(y)), (30, 16), 5.0 * t, 0, 360, (30, 20, 20), -1)
        yield picture


def write_video(path: Path, pictures: Iterable[np.ndarray]) -> None:
    """H.264 at 30 frames/s."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


class Official:
    """The official predictor, and pictures laid out as it wants them."""

    def __init__(self, spec: ModelSpec, squares: Sequence[np.ndarray], folder: Path) -> None:
        """``squares`` uint8 RGB [S, S, 3]: what the engine's model sees too. ``folder`` is made."""
        self.model = load_model(spec, torch.device("cpu"))
        self._folder = folder
        folder.mkdir()
        for t, square in enumerate(squares):
            # PNG bytes under the name its loader looks for: nothing is lost to JPEG.
            png = cv2.imencode(".png", square[..., ::-1])[1]
            (folder / f"{t:05d}.jpg").write_bytes(png.tobytes())
        images = self.model.init_state(str(folder))["images"]
        with torch.inference_mode():
            self._features = {
                t: (image[None], self.model.forward_image(image[None]))
                for t, image in enumerate(images)
            }

    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = self.model.init_state(str(self._folder))
        # The folder holds squares; clicks are of the video.
        state["video_height"], state["video_width"] = HEIGHT, WIDTH
        # Its own cache, filled beforehand: the pictures are the same for every question.
        state["cached_features"] = dict(self._features)
        return state

    def _click(self, state: Any, number: int, frame: int, points: Any) -> None:
        self.model.add_new_points_or_box(
            state, frame, number, points=list(points), labels=[1] * len(points)
        )

    def propagated(self, clicks: Clicks, *, reverse: bool = False) -> Logits:
        """``propagate_in_video`` from clicks of all objects on one frame."""
        state, names = self._state(), list(clicks)
        for number, name in enumerate(names):
            for frame, points in clicks[name].items():
                self._click(state, number, frame, points)
        for _ in self.model.propagate_in_video(state, reverse=reverse):
            pass
        return _logits(state, names)

    def separately(self, clicks: Clicks, *, reverse: bool = False) -> Logits:
        """``propagated`` for each object by itself, from its first click.

        From an earlier start the official predictor guesses an object in the frames before it was
        clicked, and remembers the guesses.
        """
        found: Logits = {}
        for name, frames in clicks.items():
            first = min(frames)
            found |= self.propagated({name: {first: frames[first]}}, reverse=reverse)
        return found

    def corrected(self, name: str, frames: Mapping[int, Sequence[tuple[float, float]]]) -> Logits:
        """One object as a person corrects it: looks as far as a click, forgets, clicks, goes on."""
        state, found = self._state(), Logits()
        times = sorted(frames)
        for t, following in zip(times, [*times[1:], len(self._features)], strict=True):
            for outputs in state["output_dict_per_obj"].values():
                outputs["non_cond_frame_outputs"].clear()
            self._click(state, 0, t, frames[t])
            for _ in self.model.propagate_in_video(state, t, following - 1 - t):
                pass
            found |= _logits(state, [name])
        return found


def _logits(state: dict[str, Any], names: Sequence[str]) -> Logits:
    return {
        (names[number], frame): out["pred_masks"][0, 0]
        for number, per_object in state["output_dict_per_obj"].items()
        for kind in per_object.values()
        for frame, out in kind.items()
    }


def video_logits(logits: torch.Tensor) -> np.ndarray:
    """The official predictor's logits of the video's size, float32 [192, 320]."""
    large = interpolate(
        logits[None, None].float(), size=(HEIGHT, WIDTH), mode="bilinear", align_corners=False
    )
    return large[0, 0].numpy()


# Clicks on one frame and on two, on the first frame and in mid-video: for the worker's masks.
SCENARIO = {
    "mouse": {0: [(80.0, 90.0)], 61: [(150.0, 60.0), (156.0, 62.0)]},
    "nest": {0: [(250.0, 60.0)]},
    "rat": {45: [(160.0, 150.0)]},
}


def scenario_masks(official: Official) -> dict[str, np.ndarray]:
    """Per object ``<name>`` bool [N, 192, 320], and ``<name>_sure``: where it is not on the edge.

    Small holes are filled as the official predictor's CUDA extension does, which is not here. A
    pixel on the edge has a logit within 1e-5 of zero: in whose last bits it may lie on either side.
    """
    found = official.corrected("mouse", SCENARIO["mouse"])
    found |= official.separately({name: SCENARIO[name] for name in ("nest", "rat")})
    found |= official.separately({"rat": SCENARIO["rat"]}, reverse=True)
    masks = {}
    for name in SCENARIO:
        filled = [
            torch.from_numpy(fill_small_holes(found[name, frame].numpy()))
            for frame in range(FRAMES)
        ]
        large = np.stack([video_logits(logits) for logits in filled])
        masks |= {name: large > 0, f"{name}_sure": np.abs(large) > 1e-5}
    return masks


def main(folder: Path) -> None:
    """Write a home with models and a video, and the scenario's masks (reference.npz)."""
    torch.set_num_threads(1)
    make_home(folder)
    with read_frames(folder / "video.mp4", None, pixels="rgb") as reader:
        squares = [resize_to_square(picture, SIDE) for _, picture in reader]
    official = Official(model_spec(folder), squares, folder / "squares")
    np.savez(folder / "reference.npz", **scenario_masks(official))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
