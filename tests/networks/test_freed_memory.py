"""Layers get the pages of the layers before them."""

import os
import platform
import subprocess
import sys

import pytest

from medical_gans.networks import freed_memory

CODE = """
import importlib.util, resource, sys
import numpy
spec = importlib.util.spec_from_file_location("freed_memory", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
kept = module.keep_freed_memory() if sys.argv[2] == "kept" else None
blocks = 30
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(blocks):
        numpy.empty(16 << 20, dtype=numpy.uint8).fill(1)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / blocks
faults()
few = faults()
large = numpy.empty(64 << 20, dtype=numpy.uint8)
large.fill(1)
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() >> 20
before = resident()
del large
if sys.argv[2] == "given back":
    module.keep_freed_memory()
    for _ in range(3):
        blocks = [numpy.full(4 << 20, 1, dtype=numpy.uint8) for _ in range(16)]
        held = numpy.ones(1000)  # beyond them
        before = resident()
        del blocks
    module.give_back_freed_memory()
print(kept, few, before - resident())
"""


def _run(mode, **environment):
    command = [sys.executable, "-c", CODE, freed_memory.__file__, mode]
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=True)
    kept, faults, returned = result.stdout.split()
    return kept, float(faults), int(returned)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is another one")
def test_small_blocks_are_kept_and_volumes_given_back():
    kept, faults, returned = _run("kept")
    assert kept == "True"
    assert faults < 100
    assert returned >= 60  # MiB


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is another one")
def test_what_was_kept_is_given_back_for_what_follows_the_network():
    _, _, returned = _run("given back")
    assert returned >= 60  # MiB


def test_what_the_user_has_set_is_left_alone():
    kept, _, _ = _run("kept", MALLOC_TRIM_THRESHOLD_="131072")
    assert kept == "False"
