"""Training of tailor's own model (fitting_checks.py asks it in the SAM2 environment)."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resources.settings import PROJECT_ROOT, load_settings
from resources.worker_process import worker_environment

CHECKS = PROJECT_ROOT / "tests" / "fitting_checks.py"
pytestmark = pytest.mark.sam2


@pytest.fixture
def ask(tmp_path: Path) -> Callable[[str], Any]:
    """``ask(check)``: what a function of fitting_checks.py finds."""
    python = load_settings().sam2_python
    if not python.exists():
        pytest.skip(f"the SAM2 environment is not here ({python}): run `make sam2`")

    def question(check: str) -> Any:
        done = subprocess.run(
            [python, CHECKS, tmp_path, check],
            env=worker_environment() | {"OMP_NUM_THREADS": "1"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return question


def test_a_training_in_pieces_gives_the_weights_of_one_without_interruption(
    ask: Callable[[str], Any],
) -> None:
    found = ask("stopped_and_continued")
    assert found["steps"] == [6, 6]
    assert found["difference"] == 0
    assert found["learnt"] > 1e-4


def test_a_step_sees_the_same_batch_whoever_makes_it(ask: Callable[[str], Any]) -> None:
    assert ask("batches_of_any_worker") == [True] * 4


def test_the_truth_of_a_view_is_where_the_animal_is_in_its_pictures(
    ask: Callable[[str], Any],
) -> None:
    found = ask("views_of_a_known_clip")
    assert found["views"] > 300
    assert found["click_in_mask"] > 0.99
    assert found["least_contrast"] > 30
    assert 0.01 < found["absent"] < 0.15


def test_an_object_is_hidden_for_a_while_and_nobody_points_at_it_then(
    ask: Callable[[str], Any],
) -> None:
    found = ask("views_of_a_hidden_object")
    assert found["covered"] > 30
    assert found["comes_back"] > 10
    assert found["told_in_the_dark"] == 0


def test_views_of_contact_are_of_the_two_that_touch(ask: Callable[[str], Any]) -> None:
    found = ask("views_of_three_of_whom_two_meet")
    assert found["before"] == []
    assert found["pairs"] == [[0, 1]]
    passing, passed, away = found["clicked"]
    assert passing + passed == 80
    assert min(passing, passed) > 30  # a click on a dark edge may be taken for the darker one's
    assert away == 0


def test_a_share_of_the_clips_has_company_whatever_their_seeds_say(
    ask: Callable[[str], Any],
) -> None:
    alone, together = ask("clips_in_company")
    assert min(alone) < 2  # as it comes by seed, most have one
    assert sum(count >= 2 for count in together) >= 7  # somebody may be hidden all the time
    assert sum(together) > sum(alone)


def test_a_second_head_that_knows_nothing_does_not_teach_an_encoder_that_does(
    ask: Callable[[str], Any],
) -> None:
    assert ask("second_head_and_encoder") == [True] * 4 + [False] * 2 + [True] * 2


def test_the_training_takes_the_steps_of_the_tracker(ask: Callable[[str], Any]) -> None:
    found = ask("unrolled_and_streamed")
    assert found["spread"] > 0.01
    # Memories are kept in half precision by the tracker.
    assert max(found["difference"]) < 0.02 * found["spread"]


def test_the_best_of_three_masks_is_taught_and_none_where_nothing_is(
    ask: Callable[[str], Any],
) -> None:
    found = ask("losses_of_right_and_wrong")
    assert found["right"] < 0.05 < 5 < found["wrong"]
    assert found["best"] < 0.05 < 1 < found["others"]
    assert found["iou"] == [1.0, 1.0]
    right, undecided, wrong = found["scene"]
    assert right < 0.01 < 1 < undecided < wrong
    assert found["present_pulls"] > 0
    assert found["absent_pulls"] == 0


def test_the_tracker_loads_what_the_training_wrote(ask: Callable[[str], Any]) -> None:
    found = ask("exported")
    assert found["difference"] == 0
    assert found["bytes"] <= 12_000_000
    assert found["trainings"] == [{"record": [{"step": 2}]}]
    assert found["config"]


def test_a_training_can_begin_with_published_weights(ask: Callable[[str], Any]) -> None:
    found = ask("begun_with_weights")
    assert found["difference"] == 0
    assert found["earlier"] == [{"record": [{"step": 7}]}]  # nobody forgets where they come from
    assert "does not hold published weights" in found["no_file"]
    assert "does not hold published weights" in found["no_weights"]


def test_a_training_is_not_continued_by_another_recipe_or_from_a_spoilt_state(
    ask: Callable[[str], Any],
) -> None:
    other, spoilt = ask("foreign_states")
    assert "begun with another recipe" in other
    assert "is not the state of a training" in spoilt
