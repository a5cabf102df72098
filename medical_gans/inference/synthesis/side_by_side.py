"""Passes of a network beside each other, each on its share of the CPU's threads.

Threads that share a layer wait for each other after each of its operations, which costs most where other programs use
the machine. Slices need not wait: several passes run at a time, and their results are those of one after the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

Result = TypeVar("Result")


def passes_beside(slices: int) -> int:
    """How many passes run beside each other where so many slices may be in memory at a time."""
    return max(1, min(slices, torch.get_num_threads()))


def in_order(calls: Iterable[Callable[[], Result]], beside: int) -> Generator[Result]:
    """What calls give, in their order.

    Args:
        calls: taken as they are needed.
        beside: calls that run at a time, each on its share of torch's threads; one runs on all of them, here.

    Raises:
        Exception: what a call raises, when it would have given its result; those after it are not begun.
    """
    if beside == 1:
        for call in calls:
            yield call()
        return
    threads = torch.get_num_threads()
    share = max(1, threads // beside)
    pool = ThreadPoolExecutor(beside, initializer=torch.set_num_threads, initargs=(share,))
    waiting: deque[Future[Result]] = deque()
    torch.set_num_threads(share)  # here too: what is done with the results must not wait for the passes
    try:
        for call in calls:
            waiting.append(pool.submit(call))
            if len(waiting) > beside:  # one that waits, so that none who is done has to
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)
