/* Spectral norms of layers against LAPACK's SVD of the unrolled operator. */
#include "../lib/tiny_net.h"
#include "base/random.h"
#include "measure/operator.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static double *normals(int64_t n, uint64_t seed)
{
    lips_rng r = {.seed = seed, .stream = LIPS_STREAM_TEST};
    double *v = malloc((size_t)n * sizeof *v);
    assert_non_null(v);
    for (int64_t i = 0; i < n; i++)
        v[i] = lips_rng_normal(&r, (uint64_t)i);
    return v;
}

/* The operator as a dense matrix, from the definition of a convolution, one entry at a time. */
static double *unroll(const lips_layer_info *g, const double *w)
{
    int64_t rows = g->o * g->oh * g->ow, cols = g->c * g->h * g->w, r = g->geom.r;
    double *a = calloc((size_t)(rows * cols), sizeof *a);
    assert_non_null(a);
    for (int64_t row = 0; row < rows; row++) {
        int64_t o = row / (g->oh * g->ow), oy = row / g->ow % g->oh, ox = row % g->ow;
        for (int64_t col = 0; col < cols; col++) {
            int64_t c = col / (g->h * g->w), y = col / g->w % g->h, x = col % g->w;
            int64_t ky = y + g->geom.pad - oy * g->geom.stride,
                    kx = x + g->geom.pad - ox * g->geom.stride;
            if (ky >= 0 && ky < r && kx >= 0 && kx < r)
                a[row * cols + col] = w[((o * g->c + c) * r + ky) * r + kx];
        }
    }
    return a;
}

static void convolutions(void **state)
{
    (void)state;
    /* r, stride, pad, c, o, h, w */
    static const int64_t cases[][7] = {
        {3, 1, 1, 2, 3, 5, 4}, {3, 2, 1, 3, 2, 6, 7}, {1, 1, 0, 2, 4, 3, 3},
        {1, 2, 0, 2, 2, 4, 5}, {3, 1, 1, 1, 1, 1, 1}, {4, 4, 0, 3, 5, 8, 8},
        {5, 1, 2, 1, 2, 3, 6}, {3, 1, 0, 2, 1, 5, 5}, {3, 1, 1, 5, 6, 4, 19},
        {3, 1, 2, 2, 5, 3, 8}, {3, 1, 3, 2, 2, 4, 4}, {1, 1, 1, 2, 3, 4, 4}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const int64_t *k = cases[i];
        lips_layer_info g = {.name = "x",
                             .conv = true,
                             .geom = {k[0], k[1], k[2]},
                             .c = k[3],
                             .o = k[4],
                             .h = k[5],
                             .w = k[6]};
        g.oh = (g.h + 2 * k[2] - k[0]) / k[1] + 1;
        g.ow = (g.w + 2 * k[2] - k[0]) / k[1] + 1;
        double *w = normals(g.o * g.c * k[0] * k[0], i), *a = unroll(&g, w);
        double expected = tiny_spectral(a, g.o * g.oh * g.ow, g.c * g.h * g.w);
        lips_spectral s;
        assert_int_equal(lips_layer_spectral(&s, &g, w), LIPS_OK);
        /* the Ritz value is a lower bound, off by at most the residual */
        assert_true(s.value <= expected * (1 + 1e-12));
        assert_true(s.value >= expected * (1 - s.residual - 1e-12));
        assert_true(s.residual <= 1e-5 && s.iterations > 0);
        free(w), free(a);
    }
}

static void matrices(void **state)
{
    (void)state;
    static const int64_t sizes[][2] = {{1, 1},  {1, 9},   {9, 1},    {7, 30},
                                       {30, 7}, {64, 64}, {100, 350}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        double *w = normals(sizes[i][0] * sizes[i][1], 50 + i);
        double expected = tiny_spectral(w, sizes[i][0], sizes[i][1]);
        lips_spectral s;
        assert_int_equal(lips_matrix_spectral(&s, w, sizes[i][0], sizes[i][1]), LIPS_OK);
        assert_true(fabs(s.value - expected) <= (s.residual + 1e-12) * expected &&
                    s.residual <= 1e-5);
        free(w);
    }
}

static void special_values(void **state)
{
    (void)state;
    double eye[9] = {2, 0, 0, 0, 2, 0, 0, 0, 2}, zero[6] = {0}, bad[4] = {1, 2, NAN, 4};
    double rank1[6] = {3, 0, 4, 0, 0, 0};
    lips_spectral s;
    assert_int_equal(lips_matrix_spectral(&s, eye, 3, 3), LIPS_OK);
    assert_true(fabs(s.value - 2) <
                1e-14); /* every vector is a singular one: ends after one step */
    assert_int_equal(lips_matrix_spectral(&s, zero, 2, 3), LIPS_OK);
    assert_true(s.value == 0 && s.residual == 0);
    assert_int_equal(lips_matrix_spectral(&s, rank1, 2, 3), LIPS_OK);
    assert_true(fabs(s.value - 5) < 1e-14);
    assert_int_equal(lips_matrix_spectral(&s, bad, 2, 2), LIPS_OK);
    assert_true(isnan(s.value));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(convolutions),
        cmocka_unit_test(matrices),
        cmocka_unit_test(special_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
