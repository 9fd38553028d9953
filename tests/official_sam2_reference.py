"""Runs in the SAM2 environment: a small random model, a video, and the official predictor's masks.

`python official_sam2_reference.py FOLDER` writes into FOLDER
- models.toml, small.yaml and models/small.pt: SAM 2.1's architecture at 256 px with random weights
  in the official checkpoint's form,
- video.mp4: 24 frames of 320x192,
- reference.json: the largest difference between the official logits and the streaming tracker's,
  how many memories the tracker held, and how far half precision agrees with float32,
- reference.npz: the official masks per object, after filling small holes.
"""

import json
import os
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import sam2
import torch
from omegaconf import OmegaConf
from sam2.sam2_video_predictor import SAM2VideoPredictor

from sam2_worker.mask_output import masks_at_video_size
from sam2_worker.model_loading import build_model, load_model
from sam2_worker.request import ModelSpec
from sam2_worker.streaming_tracker import StreamingTracker
from sam2_worker.worker import resize_to_square
from tailor_assets.compute.recording.frame_source import read_frames

FRAMES, HEIGHT, WIDTH, SIDE = 24, 192, 320, 256
# object -> {frame: (x, y)}; mouse and nest share a frame, the rat comes later
CLICKS = {
    "mouse": {0: (80.0, 90.0)},
    "nest": {0: (250.0, 60.0)},
    "rat": {5: (160.0, 150.0)},
}


def write_small_config(path: Path) -> None:
    """SAM 2.1's architecture, narrow and shallow, for pictures of 256 px."""
    base = Path(sam2.__file__).parent / "configs/sam2.1/sam2.1_hiera_t.yaml"
    config = OmegaConf.load(base)
    model = config.model
    model.image_size = SIDE
    trunk, neck = model.image_encoder.trunk, model.image_encoder.neck
    trunk.embed_dim, trunk.stages, trunk.global_att_blocks = 16, [1, 1, 2, 1], [3]
    trunk.window_spec = [8, 4, 8, 4]
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


def write_random_checkpoint(spec: ModelSpec) -> None:
    """Random weights in the form of an official checkpoint."""
    torch.manual_seed(3)
    model = build_model(spec)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            # Zeros by default: with them the memory would hardly reach the output.
            if name.endswith(("maskmem_tpos_enc", "no_mem_embed", "no_obj_ptr", "gamma")):
                weight.normal_(std=0.5)
    os.makedirs(Path(spec.checkpoint).parent, exist_ok=True)
    torch.save({"model": model.state_dict()}, spec.checkpoint)


def write_video(path: Path) -> None:
    """Two animals that move and a nest that does not."""
    rng = np.random.default_rng(0)
    floor = cv2.resize(rng.integers(60, 200, (12, 20, 3), np.uint8), (WIDTH, HEIGHT))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for t in range(FRAMES):
            picture = floor.copy()
            cv2.circle(picture, (250, 60), 35, (200, 180, 90), -1)
            cv2.ellipse(picture, (80 + 4 * t, 90 + t), (30, 16), 5.0 * t, 0, 360, (30, 20, 20), -1)
            cv2.ellipse(picture, (160, 150), (20, 12), -9.0 * t, 0, 360, (240, 240, 240), -1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def official_logits(model: SAM2VideoPredictor, frames_folder: Path, clicks: dict) -> dict:
    """Official propagate_in_video from `clicks`; {(name, frame): low-resolution logits}."""
    state = model.init_state(str(frames_folder))
    # The folder holds squares, so that both sides see the same pixels; clicks are of the video.
    state["video_height"], state["video_width"] = HEIGHT, WIDTH
    names = list(clicks)
    for number, name in enumerate(names):
        for frame, point in clicks[name].items():
            model.add_new_points_or_box(state, frame, number, points=[point], labels=[1])
    for _ in model.propagate_in_video(state):
        pass
    return {
        (names[number], frame): out["pred_masks"][0, 0]
        for number, per_object in state["output_dict_per_obj"].items()
        for kind in per_object.values()
        for frame, out in kind.items()
    }


def half_precision_iou(model: SAM2VideoPredictor, squares: Path, clicks: dict) -> dict:
    """Mean IoU with float32 over eight frames, under the autocast that a GPU would use."""
    trackers = {
        name: StreamingTracker(model, clicks, dtype=dtype)
        for name, dtype in {
            "fp32": torch.float32,
            "bf16": torch.bfloat16,
            "fp16": torch.float16,
        }.items()
    }
    ious: dict[str, list[float]] = {"bf16": [], "fp16": []}
    for path in sorted(squares.iterdir())[:8]:
        square = cv2.imread(str(path))[..., ::-1]
        found = {name: tracker.track(square).logits > 0 for name, tracker in trackers.items()}
        for name, kept in ious.items():
            both, either = found[name] & found["fp32"], found[name] | found["fp32"]
            kept.append(float(both.sum() / either.sum()))
    return {name: float(np.mean(kept)) for name, kept in ious.items()}


def main(folder: Path) -> None:
    """Write all files."""
    spec = ModelSpec("small", str(folder / "small.yaml"), str(folder / "models" / "small.pt"))
    write_small_config(folder / "small.yaml")
    write_random_checkpoint(spec)
    (folder / "models.toml").write_text(
        '[small]\nkind = "sam2"\nconfig = "small.yaml"\nfile = "small.pt"\n'
    )
    write_video(folder / "video.mp4")
    squares = folder / "squares"
    squares.mkdir()
    model = load_model(spec, torch.device("cpu"))
    clicks = {
        name: {t: [(x / WIDTH, y / HEIGHT)] for t, (x, y) in steps.items()}
        for name, steps in CLICKS.items()
    }
    tracker = StreamingTracker(model, clicks)
    streamed, held = {}, []
    with read_frames(folder / "video.mp4", None, pixels="rgb") as pictures:
        for t, picture in pictures:
            square = resize_to_square(picture, SIDE)
            # PNG bytes under the name the official loader looks for: nothing is lost to JPEG.
            png = cv2.imencode(".png", square[..., ::-1])[1]
            (squares / f"{t:05d}.jpg").write_bytes(png.tobytes())
            tracked = tracker.track(square)
            held.append(tracker.memories_held)
            streamed |= {
                (n, int(t)): lg for n, lg in zip(tracked.names, tracked.logits, strict=True)
            }
    # One call per first click: from an earlier start the official predictor also guesses an object
    # in the frames before it was clicked.
    official = official_logits(model, squares, {k: CLICKS[k] for k in ("mouse", "nest")})
    official |= official_logits(model, squares, {"rat": CLICKS["rat"]})
    masks = {name: np.zeros((FRAMES, HEIGHT, WIDTH), bool) for name in CLICKS}
    for (name, t), logits in official.items():
        masks[name][t] = masks_at_video_size(logits[None].float(), HEIGHT, WIDTH)[0]
    np.savez_compressed(folder / "reference.npz", **masks)
    (folder / "reference.json").write_text(
        json.dumps(
            {
                "same_frames": sorted(official) == sorted(streamed),
                "largest_difference": max(
                    float((official[key] - streamed[key]).abs().max()) for key in official
                ),
                "memories_held": held,
                "half_precision_iou": half_precision_iou(
                    model, squares, {name: clicks[name] for name in ("mouse", "nest")}
                ),
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
