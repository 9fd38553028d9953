"""The training loop: resumable at any step, and the same whether it was interrupted or not."""

import math
import time
from pathlib import Path
from typing import Any

import torch

from sam2_worker.checkpoint import save_durably
from sam2_worker.fitting.batches import Batch, batches
from sam2_worker.fitting.clip_shelf import ClipShelf
from sam2_worker.fitting.initial_weights import prepare_for_training
from sam2_worker.fitting.losses import Loss, prediction_loss
from sam2_worker.fitting.recipe import Recipe, Stage, recipe_digest
from sam2_worker.fitting.scene_head import SceneHead, scene_loss
from sam2_worker.fitting.train_log import TrainLog
from sam2_worker.fitting.unrolled_tracker import TrackedClip, UnrolledTracker
from sam2_worker.fitting.weights_file import read_trainings, read_weights
from sam2_worker.model_loading import build_model
from sam2_worker.precision import choose_dtype
from sam2_worker.request import ModelSpec
from sam2_worker.stop_request import StopRequest
from tailor_assets.compute.errors import PermanentProblem

STATE = "state.pt"
LOG = "log.jsonl"
_SAVE_EVERY_S = 120.0
# A GPU works ahead of its program but for the steps whose numbers are asked for.
_LOOK_EVERY = 5


class Trainer:
    """One training run in a folder of its own, which keeps all that is needed to go on with it."""

    def __init__(
        self,
        folder: Path,
        config: Path,
        recipe: Recipe,
        device: torch.device,
        precision: str = "auto",
        begin_with: Path | None = None,
    ) -> None:
        """Begin (with published weights, where named), or go on where the folder says.

        Raises PermanentProblem for a foreign folder, and for weights that cannot be read.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._config, self._device = folder, config, device
        self.recipe = recipe
        self._digest = recipe_digest(recipe)
        self._dtype = choose_dtype(precision, device)
        torch.manual_seed(recipe.seed)
        self.step = 0
        self._stage: Stage | None = None
        # Made for the stage's size when it begins.
        self._model: Any
        self._tracker: UnrolledTracker
        self._scene: SceneHead
        self._optimizer: torch.optim.Optimizer
        self._moments: dict[str, Any] | None = None
        self.earlier: list[Any] = []
        self._scene_weights: dict[str, torch.Tensor] | None = None
        if (folder / STATE).exists():
            self._load()
            return
        if begin_with is None:
            self._weights = self._fresh_weights()
        else:
            self._weights, self.earlier = read_weights(begin_with), read_trainings(begin_with)
        self._average = {name: weight.clone() for name, weight in self._weights.items()}

    @property
    def average(self) -> dict[str, torch.Tensor]:
        """The weights' moving average, float32."""
        return self._average

    def run(self, *, workers: int, seconds: float, stop: StopRequest) -> None:
        """Train until the recipe is done, the time is up or ``stop`` is set; save the state."""
        ends = time.monotonic() + seconds
        log = TrainLog(self._folder / LOG, self.step)
        shelf = ClipShelf(self._folder / "clips", self.recipe)
        saved = time.monotonic()
        steps = range(self.step, self.recipe.steps)
        pinned = self._device.type == "cuda"
        for batch in batches(self._folder / "clips", self.recipe, steps, workers, pinned=pinned):
            stage, through = self.recipe.stage_of(self.step)
            self._enter(stage)
            rate = self._rate(stage, through)
            self._take_step(batch, stage, rate, log)
            self.step += 1
            log.write(self.step, self.recipe.steps, stage, rate)
            now = time.monotonic()
            leaving = stop.is_set() or now > ends
            if leaving or now - saved > _SAVE_EVERY_S:
                self._save()
                shelf.forget(self.recipe.views_before(self.step))
                saved = now
            if leaving:
                return
        self._save()

    def _take_step(self, batch: Batch, stage: Stage, rate: float, log: TrainLog) -> None:
        # Chance that is the model's own (corrections) follows from the step, like the batch.
        torch.manual_seed(self.recipe.seed * 1_000_003 + self.step)
        click_again = self._later_click(batch)
        batch = batch.to(self._device)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast(self._device.type, self._dtype, self._dtype is not torch.float32):
            clip = self._tracker.run(
                batch.pictures, batch.clicks, batch.view_of, batch.truth,
                correct=float(torch.rand(())) < self.recipe.correction,
                click_again=click_again,
            )  # fmt: skip
            # The second head is not published. Beside weights that are, it is the only one that
            # knows nothing, and what it knows first is not to be asked of the encoder.
            apart = bool(self.earlier) and self.step < self.recipe.warmup_steps
            features = [level.detach() for level in clip.features] if apart else clip.features
            scene = scene_loss(self._scene(features), batch.scene.flatten(0, 1))
        loss = _loss_of(clip, batch.truth, scene, stage.others)
        self._optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters(), self.recipe.gradient_limit)
        self._optimizer.step()
        # Early on the average follows quickly, or it would remember the random beginning.
        decay = min(self.recipe.averaging, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            now = {n: w for n, w in self._model.state_dict().items() if w.is_floating_point()}
            torch._foreach_lerp_([self._average[n] for n in now], list(now.values()), 1 - decay)
        if self.step % _LOOK_EVERY == 0:
            log.add(loss, batch, clip)

    def _later_click(self, batch: Batch) -> int | None:
        if float(torch.rand(())) >= self.recipe.later_click:
            return None
        possible = [
            t for t in range(1, len(batch.clicks)) if not bool(batch.clicks[t].isnan().any())
        ]
        return possible[int(torch.randint(len(possible), ()))] if possible else None

    def _rate(self, stage: Stage, through: float) -> float:
        warm = min(1.0, (self.step + 1) / self.recipe.warmup_steps)
        falling = (1 + math.cos(math.pi * through)) / 2
        return warm * (stage.last_rate + (stage.rate - stage.last_rate) * falling)

    def _enter(self, stage: Stage) -> None:
        """Build the network for the stage's size; weights and the optimizer's moments go over."""
        if stage is self._stage:
            return
        if self._stage is not None:
            self._weights = self._model.state_dict()
            self._moments = self._optimizer.state_dict()
            self._scene_weights = self._scene.state_dict()
        model = build_model(self._spec(stage.image_size))
        try:
            model.load_state_dict(self._weights)
        except RuntimeError:
            raise PermanentProblem(
                f"The weights to begin with are not of {self._config}: give both of one network."
            ) from None
        # Convolutions of channels that come last are faster on every device.
        self._model = model.to(self._device, memory_format=torch.channels_last).train()
        self._tracker = UnrolledTracker(self._model)
        decoder = self._model.sam_mask_decoder
        channels = [decoder.conv_s0.out_channels, decoder.conv_s1.out_channels, model.hidden_dim]
        self._scene = SceneHead(channels).to(self._device)
        if self._scene_weights is not None:
            self._scene.load_state_dict(self._scene_weights)
        self._optimizer = torch.optim.AdamW(
            self._parameters(), lr=stage.rate, weight_decay=self.recipe.weight_decay, fused=True
        )
        if self._moments is not None:
            self._optimizer.load_state_dict(self._moments)
        self._average = {name: w.to(self._device) for name, w in self._average.items()}
        self._stage = stage

    def _parameters(self) -> list[torch.nn.Parameter]:
        return [*self._model.parameters(), *self._scene.parameters()]

    def _spec(self, image_size: int) -> ModelSpec:
        return ModelSpec(self._config.stem, str(self._config), "", image_size=image_size)

    def _fresh_weights(self) -> dict[str, torch.Tensor]:
        model = build_model(self._spec(self.recipe.stages[0].image_size))
        prepare_for_training(model)
        return {name: weight.detach() for name, weight in model.state_dict().items()}

    def _save(self) -> None:
        state = {
            "step": self.step,
            "earlier": self.earlier,
            "recipe": self._digest,
            "model": self._model.state_dict(),
            "average": self._average,
            "moments": self._optimizer.state_dict(),
            "scene": self._scene.state_dict(),
        }
        save_durably(state, self._folder / STATE)

    def _load(self) -> None:
        path = self._folder / STATE
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch.load has no one error for a bad file
            raise PermanentProblem(
                f"{path} is not the state of a training ({type(error).__name__}): "
                "name another folder, or remove it to begin anew."
            ) from None
        if state["recipe"] != self._digest:
            raise PermanentProblem(
                f"The training in {self._folder} was begun with another recipe: go on with that "
                "one, or name another folder."
            )
        self.step, self.earlier = state["step"], state["earlier"]
        self._weights, self._average = state["model"], state["average"]
        self._moments, self._scene_weights = state["moments"], state["scene"]


def _loss_of(clip: TrackedClip, truth: torch.Tensor, scene: torch.Tensor, others: float) -> Loss:
    """Mean over the frames, and over the answers to one click and to two on the same frame."""
    each = [
        prediction_loss(answer, truth[t], others) for t, answers in enumerate(clip.predictions)
        for answer in answers
    ]  # fmt: skip
    total, mask, iou, score = (
        torch.stack([getattr(loss, name) for loss in each]).mean()
        for name in ("total", "mask", "iou", "score")
    )
    return Loss(total + scene, mask, iou, score, scene.detach())
