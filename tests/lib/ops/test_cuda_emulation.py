"""CUDA's rules as tests/cuda_on_cpu has them: what they give, and that what breaks them is found."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from tests.cuda_on_cpu import library
from tests.cuda_on_cpu.rewrite import rewrite

ORDERS = (0, -1, 1, 2)
WARNINGS = ("-Wall", "-Wextra", "-Werror")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs a case of cases.cu: what is in ``out`` then, of zeros before."""
    source = tmp_path_factory.mktemp("cases") / "cases.cc"
    cases = library.DEVICE.with_name("cases.cu").read_text()
    source.write_text(f'#include "{library.DEVICE}"\n{rewrite(cases)}')
    built = ctypes.CDLL(str(library.build(source, *library.ALIGNMENT, *WARNINGS)))
    built.attempt.restype = ctypes.c_char_p

    def run(name: str, order: int = 0) -> np.ndarray:
        out = np.zeros(512, np.int32)
        built.set_order(ctypes.c_long(order))
        error = built.attempt(built[name], out.ctypes.data_as(ctypes.c_void_p))
        if error is not None:
            raise RuntimeError(error.decode())
        return out
    return run


LANES = np.arange(64)
AT, OF = LANES % 8, LANES // 8 * 8  # place in a segment of 8; where it begins
NOT_THERE = -1  # of bytes of 0xff
EXPECTED = {
    "sum_with_barriers": np.full(8, 256 * 257 // 2),
    "two_sums": np.full(128, 128 * 128),
    "early_exit": np.where(np.arange(100) % 3 == 0, 0, 66),
    "barrier_of_one_block": np.where(np.arange(128) // 16 == 5, 7, 1),
    "shuffles": np.concatenate([100 + OF + 3, 100 + np.where(AT < 2, LANES, LANES - 2),
                                100 + np.where(AT < 6, LANES + 2, LANES), 100 + (LANES ^ 5),
                                100 + (LANES ^ 1), np.ones(64)]),
    "lanes_apart": [1, 2, 3, NOT_THERE, 0, NOT_THERE],
    "three_dimensions": np.ones(2 * 3 * 2 * 4 * 2 * 3),
    "arguments_once": [2 * 3 * 5, 5],
    "dynamic_shared_memory": np.arange(50)[::-1],
    "atomics": [-999, 5, 9, 500, 999],
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", EXPECTED)
def test_what_cuda_defines(name, order, run):
    expected = np.zeros(512, np.int32)
    expected[:len(EXPECTED[name])] = EXPECTED[name]
    np.testing.assert_array_equal(run(name, order), expected)


@pytest.mark.parametrize(("name", "whole"), [("sum_without_barriers", "sum_with_barriers"),
                                             ("two_sums_too_close", "two_sums")])
def test_a_missing_barrier_shows(name, whole, run):
    expected = EXPECTED[whole].tolist()
    assert any(run(name, order)[:len(expected)].tolist() != expected for order in ORDERS)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("name", "message"), [
    ("different_barriers", r"can never go on:\n  16 threads.*__syncthreads at .*\n  48 threads.*__syncthr"),
    ("lanes_that_never_come", r"16 threads.*__shfl_xor_sync of lanes 0xffffffff at .*\n  48 threads"),
    ("misaligned", r"thread \([01],0,0\) of block \(0,0,0\) accesses a misaligned place at .*cases.cc:\d+"),
    ("lane_not_named", r"thread \(\d+,0,0\) of block \(0,0,0\) is not among .* of lanes 0x00000008"),
    ("stack_too_small", "needs a larger stack"),
    ("too_many_threads", r"no GPU launches \(1,1,1\) blocks of \(1025,1,1\) threads"),
    ("no_blocks", r"no GPU launches \(0,1,1\) blocks"),
])
def test_what_cuda_forbids_ends_with_a_message(name, message, order, run):
    with pytest.raises(RuntimeError, match=message):
        run(name, order)
    run("sum_with_barriers")  # and the next launch is as before


@pytest.mark.parametrize(("source", "expected"), [
    ("k<<<1, 2>>>();", "emulated::Launch(1, 2)([&](auto&... of_thread) { k(of_thread...); });"),
    ("return k <<<g(1, 2), b>>> (x, f(y));",
     "return emulated::Launch(g(1, 2), b)([&](auto&... of_thread) { k(of_thread...); }, x, f(y));"),
    ("::a::B<int, C<3>>::k<(1 > 0), D<E>><<<n >> 5, 32, 0, s>>>(x)",
     "emulated::Launch(n >> 5, 32, 0, s)([&](auto&... of_thread) "
     "{ ::a::B<int, C<3>>::k<(1 > 0), D<E>>(of_thread...); }, x)"),
    ("if (n) (k<T>)<<<(a >>> b), 1>>>(\n  x);",
     "if (n) emulated::Launch((a >>> b), 1)([&](auto&... of_thread) { (k<T>)(of_thread...); }, x);"),
    ('// k<<<1, 1>>>();\n"<<<"', '// k<<<1, 1>>>();\n"<<<"'),
    ("extern __shared__ __align__(16) unsigned char room[];",
     "unsigned char * const room = emulated::dynamic_shared<unsigned char >();"),
])
def test_launches_are_rewritten(source, expected):
    assert rewrite(source) == expected


@pytest.mark.parametrize("source", ["k<<<1, 2>>>;", "k<<<1, 2(x);", "= <<<1, 2>>>(x);", "k> <<<1, 1>>>()"])
def test_what_is_no_launch_is_refused(source):
    with pytest.raises(ValueError, match=r"launch|without"):
        rewrite(source)
