/*
 * Random numbers of the device against the host's: uniform ones bit for bit; normal ones to the few
 * units in the last place of f64 by which the device's log and cos may differ.
 */
#include "kernels/rows.h"

#include "../lib/cmocka_all.h"
#include "base/random.h"

#include <math.h>

enum { N = 777 };

static void cuda(cudaError_t e)
{
    if (e != cudaSuccess)
        fail_msg("%s", cudaGetErrorString(e));
}

static void test_random(void **state)
{
    static const uint64_t firsts[] = {0, 5, UINT64_C(0xfffffff0), UINT64_C(0x123456789abcdef)};
    int n = 0;
    (void)state;
    if (cudaGetDeviceCount(&n) != cudaSuccess || n == 0)
        skip(); /* the emulated device runs this */
    for (int normal = 0; normal < 2; normal++)
        for (int k = 0; k < 4; k++) {
            const lips_rng r = {.seed = UINT64_C(0x9876543210) + (uint64_t)k,
                                .stream = LIPS_STREAM_PROBE,
                                .epoch = 17u * (uint32_t)k};
            lips_cuda_random_args a = {.n = N,
                                       .first = firsts[k],
                                       .seed = r.seed,
                                       .stream = r.stream,
                                       .epoch = r.epoch,
                                       .normal = normal};
            double got[N];
            void *p = NULL;
            cuda(cudaMalloc(&p, sizeof got));
            a.out = p;
            assert_int_equal(lips_cuda_random(&a, 0), LIPS_OK);
            cuda(cudaMemcpy(got, a.out, sizeof got, cudaMemcpyDeviceToHost));
            cuda(cudaFree(a.out));
            for (uint64_t i = 0; i < N; i++) {
                const double want = normal ? lips_rng_normal(&r, firsts[k] + i)
                                           : lips_rng_uniform(&r, firsts[k] + i);
                assert_true(normal ? fabs(got[i] - want) <= 0x1p-50 * fmax(fabs(want), 1)
                                   : got[i] == want);
            }
        }
    assert_int_equal(lips_cuda_random(&(lips_cuda_random_args){0}, 0), LIPS_ERR_USAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
