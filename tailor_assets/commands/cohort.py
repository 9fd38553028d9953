"""``tailor cohort``: many results folders summarised by group, with no server."""

import logging
from pathlib import Path

from tailor_assets.commands.terminal import progress_bars
from tailor_assets.progress import LogProgress
from tailor_assets.version import TAILOR_VERSION


def summarise_folders(
    file: Path,
    results: Path,
    out: Path,
    *,
    allow_missing: bool = False,
    nwb: bool = True,
    seed: int = 0,
) -> list[str]:
    """Summarise the videos that ``file`` names, whose results are under ``results``, into ``out``.

    Returns sentences a person must read: what was left out, what the numbers do not bear, which NWB
    files were not written and why. Raises PermanentProblem with one sentence for bad input.
    """
    from tailor_assets.compute.cohort.cohort_file import read_cohort
    from tailor_assets.compute.cohort.export import few_sentences
    from tailor_assets.compute.cohort.make_cohort import make_cohort
    from tailor_assets.compute.cohort.results_folders import ResultsFolders

    cohort = read_cohort(file)
    with progress_bars():
        made = make_cohort(
            file.stem,
            cohort,
            ResultsFolders(results),
            out,
            allow_missing=allow_missing,
            nwb=nwb,
            seed=seed,
            made_by=[("tailor", TAILOR_VERSION)],
            progress=LogProgress(logging.getLogger("tailor"), "cohort", "videos"),
        )
    return [*made.summary.warnings, *few_sentences(made.no_nwb)]
