"""`python -m sam2_worker`: one Dagster Pipes session, one video; then the next run's, if one comes.

Exit codes: 0 done, 1 an unexpected error (the launcher starts it again), 2 a problem that has been
reported and that another start cannot mend, 143 stopped by SIGTERM. SIGTERM commits what is done;
the next start with the same request goes on from there.
"""

import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from dagster_pipes import PipesContext

from sam2_worker import request as wire
from sam2_worker.serving import Done, first_assignment, serve
from sam2_worker.stop_request import StopRequest
from tailor_assets.compute.errors import PermanentProblem

if TYPE_CHECKING:
    from sam2_worker.model_keeper import ModelKeeper

# The step logs progress of its own, from the messages.
_LOG_EVERY_S = 60.0


class _Reporter:
    """Progress as messages (for a bar) and, more rarely, as log lines (for a person)."""

    def __init__(self, pipes: PipesContext) -> None:
        self._pipes = pipes
        self._logged_at = time.monotonic()

    def say(self, text: str) -> None:
        self._pipes.log.info(text)

    def device(self, device: wire.DeviceInUse) -> None:
        self._pipes.report_custom_message({"kind": wire.DEVICE, **asdict(device)})

    def progress(self, done: int, total: int, rate: float) -> None:
        self._pipes.report_custom_message({"kind": wire.PROGRESS, "done": done, "total": total})
        now = time.monotonic()
        if done == total or now - self._logged_at >= _LOG_EVERY_S:
            self._logged_at = now
            self.say(f"segmented {done} of {total} frames ({rate:.1f} frames/s)")


class _Segmenting:
    """The work, and the model that is kept from one video to the next."""

    def __init__(self, stop: StopRequest) -> None:
        self._stop = stop
        self._keeper: ModelKeeper | None = None

    def do(self, pipes: PipesContext, reused: bool) -> Done:
        """Segment the video that the Pipes context names."""
        reporter = _Reporter(pipes)
        # Imports torch: some seconds, in which SIGTERM and the run's death already end this process.
        from sam2_worker.model_keeper import ModelKeeper
        from sam2_worker.tracking_pass import Stopped
        from sam2_worker.worker import OutOfMemory, segment_video

        keeper = self._keeper = self._keeper or ModelKeeper()
        try:
            metadata = segment_video(
                wire.WorkerRequest.from_extras(pipes.extras),
                say=reporter.say,
                progress=reporter.progress,
                on_device=reporter.device,
                stop=self._stop,
                keeper=keeper,
            )
        except Stopped:
            reporter.say("stopped; what is done is kept")
            return Done(143)
        except OutOfMemory as problem:
            if reused:
                # A new process has no past that could be to blame.
                reporter.say(f"{problem} Trying once more in a new process.")
                return Done(1)
            return self._refuse(pipes, problem, may_stay=False)
        except PermanentProblem as problem:
            return self._refuse(pipes, problem, may_stay=keeper.has_model)
        pipes.report_custom_message({"kind": wire.RESULT, "metadata": metadata})
        return Done(0, may_stay=not metadata["memory_reductions"] and not self._stop.is_set())

    def _refuse(self, pipes: PipesContext, problem: PermanentProblem, *, may_stay: bool) -> Done:
        pipes.report_custom_message({"kind": wire.PERMANENT_PROBLEM, "sentence": str(problem)})
        return Done(2, may_stay=may_stay and not self._stop.is_set())

    def gives_way(self) -> bool:
        """Whether another worker waits for the GPU that this one holds without using it."""
        return self._keeper is not None and self._keeper.device_is_wanted()


def main() -> int:
    """Segment the video that the Pipes context names, and then those of the runs that ask."""
    first = first_assignment()
    stop = StopRequest()
    stop.obey_sigterm()
    segmenting = _Segmenting(stop)
    return serve(first, segmenting.do, gives_way=segmenting.gives_way)


if __name__ == "__main__":
    sys.exit(main())
