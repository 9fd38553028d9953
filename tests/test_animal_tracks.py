"""Which candidate is which animal, from clicks on one row or on several."""

from collections.abc import Sequence

import numpy as np
import pytest

from tailor_assets.compute.background.animal_tracks import ClickedPlace, follow
from tailor_assets.compute.background.body_mask import Candidate
from tailor_assets.compute.background.candidate_store import CandidateStore

ROWS, BODY = 60, 20.0
Place = tuple[float, float]


def tracked(
    rows: Sequence[Sequence[tuple[Place, float]]], clicks: Sequence[Sequence[ClickedPlace]]
) -> np.ndarray:
    """Number of each animal's candidate within its row, -1 where lost: int64 [animals, rows].

    ``rows``: the place and quality of every candidate of every row.
    """
    with CandidateStore() as store:
        for row, candidates in enumerate(rows):
            for (x, y), quality in candidates:
                box = (int(y) - 5, int(x) - 10, int(y) + 5, int(x) + 10)
                mask = np.ones((10, 20), bool)
                store.append(row, Candidate(mask, box, 200, x, y, quality))
        first = store.first_of_rows(len(rows))
        tracks = follow(store.records, first, clicks, body_length=BODY)
    return np.where(tracks >= 0, tracks - first[:-1], -1)


def left(row: int) -> Place:
    return 50.0 + row, 60.0


def right(row: int) -> Place:
    return 250.0 - row, 160.0


BOTH = [[(left(row), 0.9), (right(row), 0.9)] for row in range(ROWS)]


@pytest.mark.parametrize("begin", [0, 30, ROWS - 1])
def test_animals_are_followed_from_their_click_to_both_ends(begin: int) -> None:
    tracks = tracked(BOTH, [[(begin, *right(begin))], [(begin, *left(begin))]])
    assert (tracks == [[1], [0]]).all()


@pytest.mark.parametrize(("first", "second"), [(0, 59), (59, 0), (10, 40)])
def test_animals_that_are_clicked_on_different_rows_keep_their_names(
    first: int, second: int
) -> None:
    tracks = tracked(BOTH, [[(first, *left(first))], [(second, *right(second))]])
    assert (tracks == [[0], [1]]).all()


def test_a_correction_counts_from_its_row_on_and_changes_nothing_before_it() -> None:
    begin = (20, *left(20))
    assert (tracked(BOTH, [[begin]]) == 0).all()
    corrected = tracked(BOTH, [[begin, (35, *right(35))]])
    assert (corrected[0, :35] == 0).all()
    assert (corrected[0, 35:] == 1).all()
    again = tracked(BOTH, [[begin, (35, *right(35)), (50, *left(50))]])
    assert (again[0, :50] == corrected[0, :50]).all()
    assert (again[0, 50:] == 0).all()


def test_correcting_one_of_two_that_changed_places_puts_the_other_right_too() -> None:
    wrong = [[(0, *left(0))], [(0, *right(0))]]
    mended = [[(0, *left(0)), (30, *right(30))], wrong[1]]
    tracks = tracked(BOTH, mended)
    assert (tracks[:, :30] == [[0], [1]]).all()
    assert (tracks[:, 30:] == [[1], [0]]).all()


def test_a_correction_takes_a_poor_candidate_that_was_clicked_over_a_good_one_elsewhere() -> None:
    rows = [[(left(row), 0.9), (right(row), 0.2)] for row in range(ROWS)]
    tracks = tracked(rows, [[(0, *left(0)), (30, *right(30))]])
    assert tracks[0, 29] == 0
    assert (tracks[0, 30] == 1).all()


def test_an_animal_that_comes_later_is_followed_back_beside_one_that_is_lost() -> None:
    """The second is clicked at the end; meanwhile the first is out of the picture for a while."""
    rows = [
        [(left(row), 0.9), (right(row), 0.9)] if row < 25 or row >= 40 else [(right(row), 0.9)]
        for row in range(ROWS)
    ]
    tracks = tracked(rows, [[(0, *left(0))], [(59, *right(59))]])
    assert (tracks[1, 40:] == 1).all()
    assert (tracks[1, :25] == 1).all()
    assert (tracks[0, :25] == 0).all()


def test_without_candidates_all_are_lost() -> None:
    assert (tracked([[] for _ in range(ROWS)], [[(0, 1.0, 1.0), (9, 1.0, 1.0)]]) == -1).all()
