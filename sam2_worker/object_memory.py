"""What is remembered of a few objects, and what the model sees of them next.

The official predictor keeps every frame's memory for ever. A frame is looked at by the next
``num_maskmem - 1`` frames (its spatial memory) and the next ``max_obj_ptrs_in_encoder - 1`` (its
object pointer) and by none after that; clicked frames are looked at for ever. Keeping just these
gives the same masks in constant memory.
"""

from dataclasses import dataclass
from typing import Any

import torch
from sam2.modeling.sam2_utils import get_1d_sine_pe, select_closest_cond_frames

from sam2_worker.image_encoder import ImageFeatures
from sam2_worker.mask_heads import MaskHeads, PointPrompts, Prediction
from sam2_worker.memory_attention import MemoryAttention, RememberedFrame
from sam2_worker.memory_encoder import MemoryEncoder


class TrackingHead:
    """The parts of the model that follow the image encoder, shared by all objects."""

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        """Lay out the weights of a SAM2VideoPredictor on its device.

        Raises ValueError for an architecture that is not of SAM 2 or 2.1's plan.
        """
        if (
            not model.directly_add_no_mem_embed
            or not model.use_obj_ptrs_in_encoder
            or model.memory_temporal_stride_for_eval != 1
        ):
            raise ValueError("the memory is not of SAM 2's plan")
        self.attention = MemoryAttention(model, dtype)
        self.heads = MaskHeads(model, dtype)
        self.encoder = MemoryEncoder(model, dtype)
        # The official predictor stores memories as bf16 on every device; fp16 keeps its own.
        self.stored_dtype = torch.float16 if dtype is torch.float16 else torch.bfloat16
        self.no_memory = model.no_mem_embed.detach().float()
        self.spatial_reach: int = model.num_maskmem - 1
        self.pointer_reach: int = model.max_obj_ptrs_in_encoder - 1
        self._model = model
        self._ages: dict[float, torch.Tensor] = {}

    def closest_clicked(self, step: float, clicked: dict[float, "Memory"]) -> dict[float, "Memory"]:
        """The clicked frames to look at: the model may have a limit of them."""
        limit = self._model.max_cond_frames_in_attn
        selected: dict[float, Memory] = select_closest_cond_frames(step, clicked, limit)[0]
        return selected

    def pointer_tokens(self, pointers: torch.Tensor) -> torch.Tensor:
        """Pointers [B, P, C] cut into tokens as wide as memories: [B, P * (C / M), M]."""
        return pointers.reshape(len(pointers), -1, self._model.mem_dim)

    def pointer_positions(self, ages: list[float]) -> torch.Tensor:
        """Encodings of how many frames ago each pointer was: [1, P * (C / M), M]."""
        per_pointer = self._model.hidden_dim // self._model.mem_dim
        encoded = torch.stack([self._age(age) for age in ages])
        return encoded.repeat_interleave(per_pointer, dim=0)[None]

    def _age(self, age: float) -> torch.Tensor:
        known = self._ages.get(age)
        if known is not None:
            return known
        model = self._model
        if not model.add_tpos_enc_to_obj_ptrs:
            encoded = self.no_memory.new_zeros(model.mem_dim)
        else:
            width = model.hidden_dim if model.proj_tpos_enc_in_obj_ptrs else model.mem_dim
            place = torch.tensor([age], device=self.no_memory.device) / self.pointer_reach
            encoded = model.obj_ptr_tpos_proj(get_1d_sine_pe(place, dim=width))[0].float()
        if age <= self.pointer_reach:  # older ones are clicked frames': another age every frame
            self._ages[age] = encoded
        return encoded


@dataclass
class Memory:
    """One frame's memory of B objects; ``frame`` is dropped when only the pointer can be seen."""

    pointer: torch.Tensor
    frame: RememberedFrame | None


class ObjectMemory:
    """A few objects that are clicked on the same frames: they share each forward pass.

    ``clock`` counts the frames in which they were looked at. Frames after a click are remembered by
    that clock; clicked ones by their step in the video, so that what is tracked after a click does
    not depend on how often the objects were looked at before it.
    """

    def __init__(self, names: tuple[str, ...], head: TrackingHead) -> None:
        """Remember nothing yet."""
        self.names = names
        self.clock = 0
        self._head = head
        self._clicked: dict[float, Memory] = {}
        self._recent: dict[int, Memory] = {}
        self._found: float | None = None

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self._head.no_memory.device

    @property
    def started(self) -> bool:
        """Whether there is a click to track from."""
        return bool(self._clicked)

    @property
    def frames_held(self) -> int:
        """Past frames held now."""
        return len(self._clicked) + len(self._recent)

    def predict(
        self,
        step: float,
        features: ImageFeatures,
        started: torch.Tensor | None,
        prompts: PointPrompts | None,
    ) -> Prediction:
        """Masks of this frame, from clicks (memory is then not looked at) or from memory.

        ``started`` is ``MemoryAttention.start`` of this frame's features.
        """
        if prompts is not None:
            fused = (features.top.float() + self._head.no_memory).expand(len(self.names), -1, -1)
            return self._head.heads(fused, features, prompts)
        assert started is not None
        return self._head.heads(self._attended(step, started), features, None)

    def _attended(self, step: float, started: torch.Tensor) -> torch.Tensor:
        head = self._head
        clicked = head.closest_clicked(step, self._clicked)
        recent = [(self.clock - t, memory) for t, memory in self._recent.items()]
        frames = [(0, memory.frame) for memory in clicked.values()]
        frames += [(age, memory.frame) for age, memory in recent]
        pointed = [(step - t, memory.pointer) for t, memory in clicked.items()]
        pointed += [(age, memory.pointer) for age, memory in recent]
        pointers = torch.stack([pointer for _, pointer in pointed], dim=1)
        return head.attention(
            started,
            [(age, frame) for age, frame in frames if frame is not None],
            head.pointer_tokens(pointers),
            head.pointer_positions([age for age, _ in pointed]),
        )

    def remember(
        self,
        step: float,
        features: ImageFeatures,
        prediction: Prediction,
        *,
        clicked: bool,
        found: bool = False,
    ) -> None:
        """Keep this frame.

        A click makes what was remembered since the last one worthless: it is there because that
        was wrong. So frames after a click depend on clicked frames and on frames after it alone,
        and can be tracked again without those before. ``found``: the click is not a person's, and
        takes the place of the last one that was not.
        """
        values = self._head.encoder(features, prediction, clicked=clicked)
        stored = values.to(self._head.stored_dtype)
        memory = Memory(prediction.pointer, self._head.attention.remember(stored))
        if not clicked:
            self._recent[self.clock] = memory
            return
        self._recent.clear()
        if found:
            self.forget_found()
            self._found = step
        self._clicked[step] = memory

    def forget_found(self) -> None:
        """Drop the click that was not a person's: a person has clicked."""
        if self._found is not None:
            del self._clicked[self._found]
            self._found = None

    def tick(self) -> None:
        """The frame is over: drop what no later frame can look at."""
        self.clock += 1
        for t in [t for t in self._recent if self.clock - t > self._head.pointer_reach]:
            del self._recent[t]
        for t, memory in self._recent.items():
            if self.clock - t > self._head.spatial_reach:
                memory.frame = None

    def split(self, name: str) -> "ObjectMemory":
        """Take one object out, with all that is remembered of it."""
        rest = [i for i, other in enumerate(self.names) if other != name]
        alone = ObjectMemory((name,), self._head)
        alone._copy(self, [self.names.index(name)])
        self._copy(self, rest)
        self.names = tuple(self.names[i] for i in rest)
        return alone

    def _copy(self, other: "ObjectMemory", rows: list[int]) -> None:
        self.clock, self._found = other.clock, other._found
        self._clicked = {t: self._rows(memory, rows) for t, memory in other._clicked.items()}
        self._recent = {t: self._rows(memory, rows) for t, memory in other._recent.items()}

    def _rows(self, memory: Memory, rows: list[int]) -> Memory:
        frame = memory.frame
        if frame is not None:
            # Not rows of the keys: a resumed tracker prepares them anew from the values, and a
            # product of other shapes may differ in its last bit.
            frame = self._head.attention.remember(frame.values[rows])
        return Memory(memory.pointer[rows], frame)

    def state(self) -> dict[str, Any]:
        """All that is remembered, as tensors on the CPU and plain values."""
        return {
            "names": self.names,
            "clock": self.clock,
            "found": self._found,
            "clicked": {t: self._stored(memory) for t, memory in self._clicked.items()},
            "recent": {t: self._stored(memory) for t, memory in self._recent.items()},
        }

    def _stored(self, memory: Memory) -> tuple[torch.Tensor, torch.Tensor | None]:
        values = None
        if memory.frame is not None:
            values = memory.frame.values.to(self._head.stored_dtype).cpu()
        return memory.pointer.cpu(), values

    @classmethod
    def from_state(cls, state: dict[str, Any], head: TrackingHead) -> "ObjectMemory":
        """The inverse of ``state``."""
        memory = cls(tuple(state["names"]), head)
        memory.clock, memory._found = state["clock"], state["found"]
        memory._clicked = {t: memory._restored(*kept) for t, kept in state["clicked"].items()}
        memory._recent = {t: memory._restored(*kept) for t, kept in state["recent"].items()}
        return memory

    def _restored(self, pointer: torch.Tensor, values: torch.Tensor | None) -> Memory:
        device = self._head.no_memory.device
        frame = None if values is None else self._head.attention.remember(values.to(device))
        return Memory(pointer.to(device), frame)
