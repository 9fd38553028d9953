"""How many runs of each queue are at work at a time."""

from dagster import DagsterInstance

from run_queue.coordinator import GPU_POOL, QUEUE_TAG


def places_of(instance: DagsterInstance) -> dict[str, int]:
    """Places by queue, as dagster.yaml and the pool ``gpu`` have them.

    Of the GPU queue what is on a GPU counts, not what is decoded meanwhile.
    """
    settings = instance.get_concurrency_config().run_queue_config
    limits = settings.tag_concurrency_limits or [] if settings is not None else []
    places = {
        limit["value"]: int(limit["limit"])
        for limit in limits
        if limit["key"] == QUEUE_TAG and isinstance(limit.get("value"), str)
    }
    pools = {pool.name: pool.limit for pool in instance.event_log_storage.get_pool_limits()}
    if pools.get(GPU_POOL):
        places["gpu"] = min(places.get("gpu", pools[GPU_POOL]), pools[GPU_POOL])
    return places
