/* Inputs that are not data: distributions, lines, determinism, names. */
#include "base/random.h"
#include "data/probe.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N = 400, ROWS = 50, C = 3, H = 4, W = 5, AREA = H * W, D = C * AREA };

static const double want_mean[C] = {0, 2, -30}, want_std[C] = {1, 0.5, 7};
static float rows[ROWS * D];
static double mean[C], std[C]; /* of rows */

static lips_probe_source source(void)
{
    return (lips_probe_source){.x = rows, .n = ROWS, .c = C, .h = H, .w = W};
}

/* Mean and standard deviation of channel c of n rows. */
static void moments_of(const float *x, int64_t n, int c, double *m, double *s)
{
    double sum = 0, squares = 0, count = (double)n * AREA;
    for (int64_t i = 0; i < n; i++)
        for (int j = 0; j < AREA; j++)
            sum += (double)x[i * D + c * AREA + j];
    *m = sum / count;
    for (int64_t i = 0; i < n; i++)
        for (int j = 0; j < AREA; j++)
            squares += pow((double)x[i * D + c * AREA + j] - *m, 2);
    *s = sqrt(squares / count);
}

static int make_rows(void **state)
{
    (void)state;
    const lips_rng rng = {.seed = 5, .stream = LIPS_STREAM_TEST};
    for (int i = 0; i < ROWS * D; i++) {
        int c = i / AREA % C;
        rows[i] = (float)(want_mean[c] + want_std[c] * lips_rng_normal(&rng, (uint64_t)i));
    }
    for (int c = 0; c < C; c++)
        moments_of(rows, ROWS, c, &mean[c], &std[c]);
    return 0;
}

static float *make_seeded(lips_probe kind, int64_t n, uint64_t seed)
{
    const lips_probe_source s = source();
    float *x;
    if (lips_probe_make(&x, kind, &s, n, seed) != LIPS_OK)
        fail_msg("%s", lips_error());
    return x;
}

static float *make(lips_probe kind, int64_t n)
{
    return make_seeded(kind, n, 1234);
}

/* Bounds of five standard errors. The kurtosis m4/s^4 is 9/5 for uniform, 3 for normal pixels. */
static void assert_distribution(lips_probe kind, double want_ratio, double kurtosis, double reach)
{
    float *x = make(kind, N);
    for (int c = 0; c < C; c++) {
        double m, s, fourth = 0, far = 0, count = N * AREA;
        moments_of(x, N, c, &m, &s);
        for (int i = 0; i < N; i++)
            for (int j = 0; j < AREA; j++) {
                double off = fabs((double)x[i * D + c * AREA + j] - mean[c]) / std[c];
                fourth += pow(off * std[c] / s, 4) / count;
                far = off > far ? off : far;
            }
        assert_true(fabs(m - mean[c]) < 5 * std[c] / sqrt(count));
        assert_true(fabs(s / std[c] - want_ratio) < 5 / sqrt(2 * count));
        assert_true(fabs(fourth - kurtosis) < 0.4);
        assert_true(far > 0.9 * reach && (kurtosis > 2 || far <= reach * (1 + 1e-6)));
    }
    free(x);
}

static void uniform_and_normal_follow_the_data(void **state)
{
    (void)state;
    assert_distribution(LIPS_PROBE_UNIFORM, 1 / sqrt(3), 1.8, 1);
    assert_distribution(LIPS_PROBE_NORMAL, 1, 3, 3.5);
}

/* Pixels of one row, of neighbours and of channels have nothing to do with each other. */
static void pixels_are_independent(void **state)
{
    (void)state;
    static const int lags[] = {1, W, AREA, D};
    for (int kind = LIPS_PROBE_UNIFORM; kind <= LIPS_PROBE_NORMAL; kind++) {
        float *x = make((lips_probe)kind, N);
        for (size_t k = 0; k < sizeof lags / sizeof *lags; k++) {
            double sum = 0;
            int count = N * D - lags[k];
            for (int i = 0; i < count; i++) {
                int a = i / AREA % C, b = (i + lags[k]) / AREA % C;
                sum += ((double)x[i] - mean[a]) / std[a] *
                       (((double)x[i + lags[k]] - mean[b]) / std[b]);
            }
            assert_true(fabs(sum / count) < 5 / sqrt(count));
        }
        free(x);
    }
}

/* Norms at most 1 with P(r <= R) = R^d, directions without preference. */
static void ball_is_filled_evenly(void **state)
{
    (void)state;
    float *x = make(LIPS_PROBE_HYPERSPHERE, N);
    double sum_u = 0, sum_u2 = 0, first = 0;
    int below = 0;
    for (int i = 0; i < N * C; i++) {
        double squares = 0;
        for (int j = 0; j < AREA; j++)
            squares += pow((double)x[i * AREA + j], 2);
        double u = pow(sqrt(squares), AREA); /* uniform in [0,1] */
        assert_true(u <= 1 + 1e-5 && u > 0);
        sum_u += u;
        sum_u2 += u * u;
        below += u < 0.1;
        first += (double)x[i * AREA];
    }
    int n = N * C;
    assert_true(fabs(sum_u / n - 0.5) < 5 * sqrt(1.0 / 12 / n));
    assert_true(fabs(sum_u2 / n - 1.0 / 3) < 5 * sqrt(4.0 / 45 / n));
    assert_true(fabs(below / (double)n - 0.1) < 5 * sqrt(0.09 / n));
    assert_true(fabs(first / n) < 5 / sqrt((double)AREA * n));
    free(x);
}

/* In one dimension the ball is the interval [-1,1]. */
static void ball_of_one_dimension(void **state)
{
    (void)state;
    const lips_probe_source s = {.x = rows, .n = ROWS, .c = D, .h = 1, .w = 1};
    float *x;
    double sum = 0, squares = 0;
    assert_int_equal(lips_probe_make(&x, LIPS_PROBE_HYPERSPHERE, &s, N, 1), LIPS_OK);
    for (int i = 0; i < N * D; i++) {
        assert_true(fabsf(x[i]) <= 1);
        sum += (double)x[i];
        squares += (double)x[i] * (double)x[i];
    }
    assert_true(fabs(sum / (N * D)) < 5 / sqrt(3.0 * N * D));
    assert_true(fabs(squares / (N * D) - 1.0 / 3) < 5 * sqrt(4.0 / 45 / (N * D)));
    free(x);
}

/* The source row that x is nearest to, each channel in units of its deviation. */
static int nearest_row(const float *x, double *distance)
{
    int best = 0;
    *distance = INFINITY;
    for (int r = 0; r < ROWS; r++) {
        double d2 = 0;
        for (int j = 0; j < D; j++)
            d2 += pow(((double)x[j] - (double)rows[r * D + j]) / std[j / AREA], 2);
        if (d2 < *distance)
            *distance = d2, best = r;
    }
    return best;
}

/* A data row, and noise of the data's deviation on each pixel. */
static void jitter_is_noise_around_samples(void **state)
{
    (void)state;
    float *x = make(LIPS_PROBE_JITTER, N);
    double total = 0;
    int used[ROWS] = {0}, rows_used = 0, near = 0;
    for (int i = 0; i < N; i++) {
        double d2;
        int r = nearest_row(x + i * D, &d2);
        /* D degrees of freedom here, 2 D for the noise and the distance of two samples together. */
        near += d2 < 1.6 * D;
        total += d2;
        rows_used += used[r]++ == 0;
    }
    assert_true(near > 0.98 * N);
    assert_true(fabs(total / N / D - 1) < 5 * sqrt(2.0 / D / N) + 0.01);
    assert_true(rows_used > 0.95 * ROWS); /* of 400 draws a row is missed with probability e^-8 */
    free(x);
}

/* Evenly spaced points between two different samples, half a step from either end. */
static void path_points_are_on_lines(void **state)
{
    (void)state;
    float *x = make(LIPS_PROBE_PATH, N);
    int pairs[ROWS] = {0}, begun = 0, neighbours = 0;
    for (int l = 0; l < N / LIPS_PATH_POINTS; l++) {
        const float *p = x + l * LIPS_PATH_POINTS * D;
        float from[D], to[D];
        double d2[2];
        for (int j = 0; j < D; j++) {
            double step =
                ((double)p[(LIPS_PATH_POINTS - 1) * D + j] - (double)p[j]) / (LIPS_PATH_POINTS - 1);
            for (int k = 0; k < LIPS_PATH_POINTS; k++)
                assert_true(fabs((double)p[j] + k * step - (double)p[k * D + j]) <
                            1e-5 * fabs(want_mean[j / AREA]) + 1e-5);
            from[j] = (float)((double)p[j] - step / 2);
            to[j] = (float)((double)p[(LIPS_PATH_POINTS - 1) * D + j] + step / 2);
        }
        int a = nearest_row(from, &d2[0]), b = nearest_row(to, &d2[1]);
        assert_true(a != b && d2[0] < 1e-6 && d2[1] < 1e-6);
        begun += pairs[a]++ == 0;
        neighbours += abs(a - b) <= 1;
    }
    assert_true(begun > 15);      /* 40 lines from 50 samples: 28 are expected */
    assert_true(neighbours < 10); /* 1.6 are expected: one end says nothing about the other */
    free(x);
}

static void numbers_are_reproducible(void **state)
{
    (void)state;
    for (int k = 0; k < LIPS_PROBES; k++) {
        lips_probe kind = (lips_probe)k;
        float *a = make(kind, N), *b = make(kind, N), *few = make(kind, 17);
        float *other = make_seeded(kind, N, 1235);
        assert_memory_equal(a, b, N * D * sizeof *a);
        assert_memory_equal(a, few, 17 * D * sizeof *a);
        assert_memory_not_equal(a, other, D * sizeof *a);
        for (int i = 1; i < N; i++)
            assert_memory_not_equal(a + (i - 1) * D, a + i * D, D * sizeof *a);
        free(a);
        free(b);
        free(few);
        free(other);
    }
}

/* A single constant sample: nothing to divide by, nothing to be different from. */
static void one_sample_is_enough(void **state)
{
    (void)state;
    static const float same[4] = {3, 3, 3, 3};
    const lips_probe_source s = {.x = same, .n = 1, .c = 1, .h = 2, .w = 2};
    for (int k = 0; k < LIPS_PROBES; k++) {
        float *x;
        assert_int_equal(lips_probe_make(&x, (lips_probe)k, &s, 11, 1), LIPS_OK);
        for (int i = 0; i < 44; i++)
            assert_true(k == LIPS_PROBE_HYPERSPHERE ? fabsf(x[i]) <= 1 : x[i] == 3);
        free(x);
    }
    const lips_probe_source empty = {.x = same, .n = 0, .c = 1, .h = 2, .w = 2};
    float *x;
    assert_int_equal(lips_probe_make(&x, LIPS_PROBE_PATH, &empty, 1, 1), LIPS_ERR_USAGE);
    assert_int_equal(lips_probe_make(&x, LIPS_PROBE_PATH, &s, 0, 1), LIPS_ERR_USAGE);
    assert_null(x);
}

static void names_are_checked(void **state)
{
    (void)state;
    unsigned set;
    assert_int_equal(lips_probes_parse(&set, "none"), LIPS_OK);
    assert_int_equal(set, 0);
    assert_int_equal(lips_probes_parse(&set, "path, uniform"), LIPS_OK);
    assert_true(lips_probes_has(set, LIPS_PROBE_PATH) && lips_probes_has(set, LIPS_PROBE_UNIFORM));
    assert_false(lips_probes_has(set, LIPS_PROBE_NORMAL));
    assert_int_equal(lips_probes_parse(&set, "normal,hyperspere"), LIPS_ERR_USAGE);
    assert_non_null(strstr(lips_error(), "did you mean 'hypersphere'?"));
    assert_int_equal(lips_probes_parse(&set, "normal,"), LIPS_ERR_USAGE);
    assert_int_equal(lips_probes_parse(&set, "none,path"), LIPS_ERR_USAGE);
    for (int k = 0; k < LIPS_PROBES; k++) {
        assert_int_equal(lips_probes_parse(&set, lips_probe_name((lips_probe)k)), LIPS_OK);
        assert_int_equal(set, 1u << k);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uniform_and_normal_follow_the_data),
        cmocka_unit_test(pixels_are_independent),
        cmocka_unit_test(ball_is_filled_evenly),
        cmocka_unit_test(ball_of_one_dimension),
        cmocka_unit_test(jitter_is_noise_around_samples),
        cmocka_unit_test(path_points_are_on_lines),
        cmocka_unit_test(numbers_are_reproducible),
        cmocka_unit_test(one_sample_is_enough),
        cmocka_unit_test(names_are_checked),
    };
    return cmocka_run_group_tests(tests, make_rows, NULL);
}
