"""`python -m sam2_worker`: one Dagster Pipes session, one video, then exit.

Exit codes: 0 done, 1 an unexpected error (the launcher starts it again), 2 a problem that has been
reported and that another start cannot mend. SIGTERM leaves no half-written file behind.
"""

import signal
import sys
import time
from types import FrameType

from dagster_pipes import PipesContext, open_dagster_pipes

from sam2_worker import request as wire
from sam2_worker.parent_watch import die_with_parent
from tailor_assets.compute.errors import PermanentProblem

# The step logs progress of its own, from the messages.
_LOG_EVERY_S = 60.0


def _stop(signal_number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + signal_number)


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    import torch

    # The CPU allocator has no error class of its own.
    return isinstance(error, torch.cuda.OutOfMemoryError) or "can't allocate memory" in str(error)


class _Reporter:
    """Progress as messages (for a bar) and, more rarely, as log lines (for a person)."""

    def __init__(self, pipes: PipesContext) -> None:
        self._pipes = pipes
        self._logged_at = time.monotonic()

    def say(self, text: str) -> None:
        self._pipes.log.info(text)

    def progress(self, done: int, total: int, rate: float) -> None:
        self._pipes.report_custom_message({"kind": wire.PROGRESS, "done": done, "total": total})
        now = time.monotonic()
        if done == total or now - self._logged_at >= _LOG_EVERY_S:
            self._logged_at = now
            self.say(f"segmented {done} of {total} frames ({rate:.1f} frames/s)")


def main() -> int:
    """Segment the video that the Pipes context names."""
    die_with_parent()
    signal.signal(signal.SIGTERM, _stop)
    with open_dagster_pipes() as pipes:
        reporter = _Reporter(pipes)
        try:
            # Imports torch: some seconds, in which the signals above already work.
            from sam2_worker.worker import segment_video

            metadata = segment_video(
                wire.WorkerRequest.from_extras(pipes.extras),
                say=reporter.say,
                progress=reporter.progress,
            )
        except PermanentProblem as problem:
            pipes.report_custom_message({"kind": wire.PERMANENT_PROBLEM, "sentence": str(problem)})
            return 2
        except Exception as error:
            if not _is_out_of_memory(error):
                raise
            detail = " ".join(str(error).split())[:500]
            pipes.report_custom_message({"kind": wire.OUT_OF_MEMORY, "detail": detail})
            return 2
        pipes.report_custom_message({"kind": wire.RESULT, "metadata": metadata})
    return 0


if __name__ == "__main__":
    sys.exit(main())
