"""Runs in the SAM2 environment, which has no pytest: what test_sam2_engine.py asks of the engine.

`python sam2_engine_checks.py FOLDER` reads lines ``{"check": NAME, "with": {...}}`` and answers each
with a line ``{"answer": ...}`` or ``{"error": traceback}``. One process for all questions, because
importing torch and asking the official predictor take longer than most of them. What is found is
judged in test_sam2_engine.py.
"""

import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from sam2_engine_corrections import correction
from sam2_engine_equality import (
    clicks_on_different_frames,
    corrected_object,
    official_and_ours,
    several_clicks_on_one_frame,
)
from sam2_engine_first_look import (
    clicked_beside_another,
    clicked_nest,
    clicked_thoroughly,
    evidence,
)
from sam2_engine_guard import (
    checked,
    exploded_masks_are_forgotten,
    found_again,
    found_in_the_video,
    found_on_another,
    guessed_clicks,
    held_masks,
    judged_by_the_real_guard,
    still_nest_that_moves_once,
)
from sam2_engine_interruptions import (
    damaged,
    ended,
    in_a_view,
    looked_ahead,
    note_of_whose_it_is,
    stopped_again_and_again,
)
from sam2_engine_lab import Lab
from sam2_engine_parting import come_apart
from sam2_engine_precision import (
    agreement,
    compiled,
    masks_on_the_device,
    models_that_do_not_fit,
    out_of_memory,
    precisions,
    resident_memory,
)

CHECKS: dict[str, Callable[..., Any]] = {
    check.__name__: check
    for check in (
        official_and_ours,
        clicks_on_different_frames,
        several_clicks_on_one_frame,
        corrected_object,
        in_a_view,
        clicked_beside_another,
        clicked_nest,
        clicked_thoroughly,
        evidence,
        looked_ahead,
        note_of_whose_it_is,
        stopped_again_and_again,
        ended,
        damaged,
        correction,
        still_nest_that_moves_once,
        held_masks,
        exploded_masks_are_forgotten,
        found_again,
        found_on_another,
        come_apart,
        checked,
        guessed_clicks,
        found_in_the_video,
        judged_by_the_real_guard,
        agreement,
        precisions,
        masks_on_the_device,
        out_of_memory,
        models_that_do_not_fit,
        compiled,
        resident_memory,
    )
}


def main(folder: Path) -> None:
    """Answer until the questions end."""
    # One thread is what busy cores slow down least, and what a forked child can go on with.
    torch.set_num_threads(1)
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # what libraries print is not an answer
        lab = Lab(folder)
        for line in sys.stdin:
            asked = json.loads(line)
            try:
                answer = {"answer": CHECKS[asked["check"]](lab, **asked["with"])}
            except Exception:
                answer = {"error": traceback.format_exc()}
            print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
