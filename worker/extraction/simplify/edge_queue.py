"""A priority queue of edges by their cost, in logarithmic buckets.

Binary heaps were rejected: most costs change several times before their turn comes, and a list takes an edge out of its
bucket in one step.
"""

import warp as wp

from worker.extraction.simplify.linked_mesh import NONE

BUCKETS = 2_048
STEPS_PER_OCTAVE = 4.0  # buckets per factor 2 of the cost
LOWEST_LOG2 = -100.0  # of a cost, in m^4; the grid spans one metre


@wp.struct
class QueueEntry:
    """An edge's neighbours in its bucket, -1 at the ends, and the bucket, -1 for an edge that is not queued."""

    next: wp.int32
    previous: wp.int32
    bucket: wp.int32


@wp.struct
class EdgeQueue:
    """A priority queue of edges: a doubly linked list for each step of the cost.

    head: int32 [BUCKETS], the first edge. entries: [half-edges]. lowest: int32 [1], no bucket below it has an edge.
    """

    head: wp.array[wp.int32]
    entries: wp.array[QueueEntry]
    lowest: wp.array[wp.int32]


def empty_queue(half_edges: int) -> EdgeQueue:
    """Return a queue on the CPU for edges that are named by one of their half-edges."""
    queue = EdgeQueue()
    queue.head = wp.full(BUCKETS, NONE, dtype=wp.int32, device="cpu")
    queue.entries = wp.zeros(half_edges, dtype=QueueEntry, device="cpu")
    queue.entries.numpy()["bucket"] = NONE
    queue.lowest = wp.zeros(1, dtype=wp.int32, device="cpu")
    return queue


@wp.func
def bucket_of(cost: wp.float64) -> wp.int32:
    """Return the step of a cost on the logarithmic scale."""
    octave = wp.log2(wp.float32(cost) + 1.0e-30) - LOWEST_LOG2
    return wp.clamp(int(octave * STEPS_PER_OCTAVE), 0, wp.static(BUCKETS - 1))


@wp.func
def insert(queue: EdgeQueue, edge: wp.int32, bucket: wp.int32) -> None:
    """Put an edge in front of a bucket."""
    head = queue.head[bucket]
    queue.entries[edge].next = head
    queue.entries[edge].previous = NONE
    if head >= 0:
        queue.entries[head].previous = edge
    queue.head[bucket] = edge
    queue.entries[edge].bucket = bucket
    queue.lowest[0] = wp.min(queue.lowest[0], bucket)


@wp.func
def remove(queue: EdgeQueue, edge: wp.int32) -> None:
    """Take an edge out of its bucket, if it is in one."""
    bucket = queue.entries[edge].bucket
    if bucket < 0:
        return
    following = queue.entries[edge].next
    previous = queue.entries[edge].previous
    if following >= 0:
        queue.entries[following].previous = previous
    if previous >= 0:
        queue.entries[previous].next = following
    else:
        queue.head[bucket] = following
    queue.entries[edge].bucket = NONE


@wp.func
def lowest_edge(queue: EdgeQueue) -> wp.int32:
    """Return the cheapest edge, or -1 if the queue is empty."""
    bucket = queue.lowest[0]
    while bucket < wp.static(BUCKETS):
        edge = queue.head[bucket]
        if edge >= 0:
            queue.lowest[0] = bucket
            return edge
        bucket += 1
    return NONE
