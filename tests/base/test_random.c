/* base/random.c: known answers of Philox 4x32-10, uniformity, permutations. */
#include "base/random.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* Published with Random123 (kat_vectors, philox4x32 10 rounds): counter, key, result. */
static void philox_known_answers(void **state)
{
    (void)state;
    static const struct {
        uint32_t ctr[4], key[2], want[4];
    } kat[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof kat / sizeof kat[0]; i++) {
        lips_rng r = {.seed = (uint64_t)kat[i].key[1] << 32 | kat[i].key[0],
                      .stream = kat[i].ctr[3],
                      .epoch = kat[i].ctr[2]};
        uint32_t got[4];
        lips_rng_words(&r, (uint64_t)kat[i].ctr[1] << 32 | kat[i].ctr[0], got);
        assert_memory_equal(got, kat[i].want, sizeof got);
    }
}

enum { N = 100000, BINS = 20 };

/* Chi-square with 19 degrees of freedom: below 52.4 with probability 1 - 6e-5 for a true uniform;
 * the seed is fixed, so the outcome is. */
static void uniforms_fill_their_bins(void **state)
{
    (void)state;
    lips_rng r = {.seed = 1, .stream = LIPS_STREAM_TEST};
    int bins[BINS] = {0}, below[BINS] = {0};
    double sum = 0;
    for (uint64_t i = 0; i < N; i++) {
        double u = lips_rng_uniform(&r, i);
        assert_true(u >= 0 && u < 1);
        bins[(int)(u * BINS)]++;
        sum += u;
        uint64_t k = lips_rng_below(&r, i, BINS);
        assert_true(k < BINS);
        below[k]++;
    }
    double expect = (double)N / BINS, chi = 0, chi_below = 0;
    for (int b = 0; b < BINS; b++) {
        chi += (bins[b] - expect) * (bins[b] - expect) / expect;
        chi_below += (below[b] - expect) * (below[b] - expect) / expect;
    }
    assert_true(chi > 5 && chi < 52.4); /* too even would be wrong too */
    assert_true(chi_below > 5 && chi_below < 52.4);
    assert_true(fabs(sum / N - 0.5) < 5 / sqrt(12.0 * N));
}

static void normals_have_their_moments(void **state)
{
    (void)state;
    lips_rng r = {.seed = 2, .stream = LIPS_STREAM_TEST};
    double s1 = 0, s2 = 0, s3 = 0, s4 = 0;
    for (uint64_t i = 0; i < N; i++) {
        double x = lips_rng_normal(&r, i);
        assert_true(isfinite(x));
        s1 += x;
        s2 += x * x;
        s3 += x * x * x;
        s4 += x * x * x * x;
    }
    /* Five standard errors: moments 1..4 have variances 1, 2, 15, 96. */
    assert_true(fabs(s1 / N) < 5 * sqrt(1.0 / N));
    assert_true(fabs(s2 / N - 1) < 5 * sqrt(2.0 / N));
    assert_true(fabs(s3 / N) < 5 * sqrt(15.0 / N));
    assert_true(fabs(s4 / N - 3) < 5 * sqrt(96.0 / N));
}

static void permutations_are_permutations(void **state)
{
    (void)state;
    static const int64_t sizes[] = {0, 1, 2, 3, 31, 257, 1000};
    int64_t p[1000];
    bool seen[1000];
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        lips_rng r = {.seed = 3, .stream = LIPS_STREAM_TEST, .epoch = (uint32_t)s};
        lips_rng_permutation(&r, p, sizes[s]);
        memset(seen, 0, sizeof seen);
        for (int64_t i = 0; i < sizes[s]; i++) {
            assert_true(p[i] >= 0 && p[i] < sizes[s] && !seen[p[i]]);
            seen[p[i]] = true;
        }
    }
    /* All six orders of three things, about equally often: 5 degrees of freedom, 25.7 is 1e-4. */
    int count[6] = {0};
    for (uint32_t e = 0; e < 6000; e++) {
        lips_rng r = {.seed = 4, .stream = LIPS_STREAM_TEST, .epoch = e};
        lips_rng_permutation(&r, p, 3);
        count[p[0] * 2 + (p[1] > p[2])]++;
    }
    double chi = 0;
    for (int i = 0; i < 6; i++)
        chi += (count[i] - 1000) * (count[i] - 1000) / 1000.0;
    assert_true(chi < 25.7);
}

static void places_do_not_share_numbers(void **state)
{
    (void)state;
    lips_rng a = {.seed = 5, .stream = 1, .epoch = 0}, b = a, c = a, d = a;
    b.stream = 2;
    c.epoch = 1;
    d.seed = 5 + (UINT64_C(1) << 32);
    assert_true(lips_rng_uniform(&a, 0) == lips_rng_uniform(&a, 0));
    assert_true(lips_rng_uniform(&a, 0) != lips_rng_uniform(&a, 1));
    assert_true(lips_rng_uniform(&a, 0) != lips_rng_uniform(&a, UINT64_C(1) << 32));
    assert_true(lips_rng_uniform(&a, 0) != lips_rng_uniform(&b, 0));
    assert_true(lips_rng_uniform(&a, 0) != lips_rng_uniform(&c, 0));
    assert_true(lips_rng_uniform(&a, 0) != lips_rng_uniform(&d, 0));
    assert_int_equal(lips_rng_below(&a, 0, 1), 0);
    assert_true(lips_rng_below(&a, 0, UINT64_MAX) < UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_known_answers),
        cmocka_unit_test(uniforms_fill_their_bins),
        cmocka_unit_test(normals_have_their_moments),
        cmocka_unit_test(permutations_are_permutations),
        cmocka_unit_test(places_do_not_share_numbers),
    };
    return cmocka_run_group_tests_name("random", tests, NULL, NULL);
}
