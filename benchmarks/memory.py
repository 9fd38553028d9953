"""Peak memory of every process for a 1-minute and a 20-minute recording of 640x480.

    python -m benchmarks.memory [--seconds 60 1200]

`tailor run` on a simulated recording of each length, its peak resident memory as the kernel counts
it, children apart. Bar: within 100 MB of each other.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

BAR_MB = 100.0

_MEASURED = """
import resource, sys
from tailor_assets.cli import main
status = main(sys.argv[1:])
own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
print(f"peak {own:.1f} {children:.1f}")
sys.exit(status)
"""


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, nargs=2, default=[60.0, 1200.0])
    lengths = parser.parse_args().seconds
    peaks = []
    print("| recording | peak of the run, MB | largest child, MB |")
    print("|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="tailor-memory-") as folder:
        for seconds in lengths:
            clip = Path(folder) / f"clip{seconds:.0f}.mp4"
            code = (
                "from tailor_assets.compute.simulation.simulate import simulate_video;"
                f"simulate_video({str(clip)!r}, seed=3, duration_s={seconds})"
            )
            subprocess.run([sys.executable, "-c", code], check=True)
            done = subprocess.run(
                [sys.executable, "-c", _MEASURED, "run", str(clip), "--out", f"{folder}/out"],
                check=True,
                capture_output=True,
                text=True,
            )
            last = next(line for line in done.stdout.splitlines() if line.startswith("peak "))
            own, children = (float(value) for value in last.split()[1:])
            peaks.append(own)
            print(f"| {seconds:.0f} s | {own:.0f} | {children:.0f} |", flush=True)
    print(f"\nDifference {abs(peaks[1] - peaks[0]):.0f} MB (bar {BAR_MB:.0f} MB).")
    simulator = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"Largest process of all, the simulator included: {simulator:.0f} MB.")


if __name__ == "__main__":
    main()
