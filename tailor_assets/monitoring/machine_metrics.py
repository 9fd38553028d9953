"""The metrics of this machine: room on the disks, the GPUs."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily

from resources.settings import Settings

# It may take twice this, and the whole visit has but some seconds.
_GPU_LIMIT_S = 2.0


def places(settings: Settings) -> dict[str, Path]:
    """Folders whose disk must not become full, by what they hold; those of this machine only."""
    found = {"home": settings.home}
    if "://" not in settings.artifacts:
        found["artifacts"] = Path(settings.artifacts).expanduser()
    if settings.drive == "local":
        found["drive"] = settings.drive_root
    return found


def disk_usage(folder: Path) -> tuple[int, int]:
    """(free, all) bytes of the disk that a folder is on, or will be on. Raises OSError."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    usage = shutil.disk_usage(folder)
    return usage.free, usage.total


def disks(settings: Settings) -> Iterator[GaugeMetricFamily]:
    """Room for what tailor keeps."""
    free = GaugeMetricFamily(
        "tailor_disk_free_bytes", "Free bytes of the disk of this folder.", labels=("place",)
    )
    size = GaugeMetricFamily(
        "tailor_disk_size_bytes", "Size of the disk of this folder.", labels=("place",)
    )
    for place, folder in places(settings).items():
        left, whole = disk_usage(folder)
        free.add_metric((place,), left)
        size.add_metric((place,), whole)
    yield free
    yield size


def gpus(_settings: Settings) -> Iterator[GaugeMetricFamily]:
    """What the driver says of each GPU of this machine; what it does not say is left out."""
    from resources.gpu_readings import read_gpus

    state = read_gpus(time_limit_s=_GPU_LIMIT_S)
    labels = ("gpu", "uuid", "name")
    readable = GaugeMetricFamily(
        "tailor_gpu_readable", "0 where the GPUs of this machine cannot be asked how they are."
    )
    readable.add_metric((), float(state.kind != "unreadable"))
    count = GaugeMetricFamily("tailor_gpus", "GPUs that this machine has.")
    count.add_metric((), len(state.gpus))
    yield readable
    yield count

    healthy = GaugeMetricFamily("tailor_gpu_healthy", "0 for a GPU that fails.", labels=labels)
    celsius = GaugeMetricFamily("tailor_gpu_temperature_celsius", "Temperature.", labels=labels)
    used = GaugeMetricFamily("tailor_gpu_memory_used_bytes", "Memory in use.", labels=labels)
    memory = GaugeMetricFamily("tailor_gpu_memory_size_bytes", "Memory.", labels=labels)
    busy = GaugeMetricFamily(
        "tailor_gpu_utilization_ratio", "Share of the last second it worked.", labels=labels
    )
    for gpu in state.gpus:
        names = (str(gpu.index), gpu.uuid, gpu.name)
        healthy.add_metric(names, float(gpu.healthy))
        for family, value in (
            (celsius, gpu.temperature_c),
            (used, gpu.memory_used),
            (memory, gpu.memory_total),
            (busy, gpu.utilization),
        ):
            if value is not None:
                family.add_metric(names, value)
    yield from (healthy, celsius, used, memory, busy)


PARTS = {"disks": disks, "gpus": gpus}
