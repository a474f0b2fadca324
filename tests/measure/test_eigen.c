/* eigen.c against LAPACK's dsyev, on random, nearly degenerate, graded and special matrices. */
#include "base/random.h"
#include "measure/eigen.h"

#include <lapacke.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static double normal(uint64_t index, uint64_t seed)
{
    lips_rng r = {.seed = seed, .stream = LIPS_STREAM_TEST};
    return lips_rng_normal(&r, index);
}

/* Both solvers are backward stable: |error| <= c k u |A|_2 with c a small constant; 8 leaves room
 * for the constants of two Householder reductions. */
static double tolerance(int64_t k, double norm)
{
    return 8.0 * (double)k * 0x1p-53 * norm;
}

static void check(const double *a, int64_t n, int64_t k)
{
    double *scratch = malloc(lips_eigen_scratch(k) * sizeof *scratch);
    double *top = malloc((size_t)n * sizeof *top), *all = malloc((size_t)k * sizeof *all);
    double *copy = malloc((size_t)(k * k) * sizeof *copy), *w = malloc((size_t)k * sizeof *w);
    assert_true(scratch && top && all && copy && w);
    lips_eigen_max(top, a, n, k, scratch);
    for (int64_t i = 0; i < n; i++) {
        memcpy(copy, a + i * k * k, (size_t)(k * k) * sizeof *copy);
        assert_int_equal(
            LAPACKE_dsyev(LAPACK_ROW_MAJOR, 'N', 'L', (lapack_int)k, copy, (lapack_int)k, w), 0);
        double norm = fmax(fabs(w[0]), fabs(w[k - 1])), tol = tolerance(k, norm);
        lips_eigen_all(all, a + i * k * k, k, scratch);
        assert_true(fabs(top[i] - w[k - 1]) <= tol);
        for (int64_t j = 0; j < k; j++)
            assert_true(fabs(all[j] - w[j]) <= tol);
    }
    free(scratch), free(top), free(all), free(copy), free(w);
}

/* J J' of a k x d matrix of normals; spread > 0 makes rows nearly equal, grade scales row i by
 * grade^i. */
static void grams(double *a, int64_t n, int64_t k, int64_t d, double spread, double grade,
                  uint64_t seed)
{
    double *j = malloc((size_t)(k * d) * sizeof *j);
    assert_non_null(j);
    for (int64_t s = 0; s < n; s++) {
        for (int64_t r = 0; r < k; r++)
            for (int64_t c = 0; c < d; c++) {
                uint64_t at = (uint64_t)((s * k + r) * d + c);
                double common = normal((uint64_t)c, seed + 1);
                double own = normal(at, seed);
                j[r * d + c] = pow(grade, (double)r) * (spread > 0 ? common + spread * own : own);
            }
        for (int64_t r = 0; r < k; r++)
            for (int64_t c = 0; c < k; c++) {
                double sum = 0;
                for (int64_t i = 0; i < d; i++)
                    sum += j[r * d + i] * j[c * d + i];
                a[(s * k + r) * k + c] = sum;
            }
    }
    free(j);
}

static void random_grams(void **state)
{
    (void)state;
    static const int64_t sizes[] = {1, 2, 3, 7, 8, 9, 10, 17, 33, 100};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int64_t k = sizes[i], n = k > 40 ? 3 : 19; /* not a multiple of the lanes */
        double *a = malloc((size_t)(n * k * k) * sizeof *a);
        assert_non_null(a);
        grams(a, n, k, 2 * k + 1, 0, 1, 10 + (uint64_t)i);
        check(a, n, k);
        grams(a, n, k, 2 * k + 1, 1e-9, 1, 20 + (uint64_t)i); /* one large, the rest nearly 0 */
        check(a, n, k);
        grams(a, n, k, k > 1 ? k / 2 : 1, 0, 1, 30 + (uint64_t)i); /* rank deficient */
        check(a, n, k);
        grams(a, n, k, 2 * k + 1, 0, k > 40 ? 0.9 : 0.1, 40 + (uint64_t)i); /* graded */
        check(a, n, k);
        free(a);
    }
}

static void nearly_degenerate(void **state)
{
    (void)state;
    enum { K = 10, N = 9 };
    double a[N * K * K] = {0};
    for (int s = 0; s < N; s++)
        for (int i = 0; i < K; i++)
            for (int j = 0; j <= i; j++) {
                double v = (i == j) + 1e-14 * normal((uint64_t)(s * 100 + i * 10 + j), 5);
                a[(s * K + i) * K + j] = a[(s * K + j) * K + i] = v;
            }
    check(a, N, K);
    /* the identity plus one's: k - 1 eigenvalues equal, one k + 1 */
    for (int i = 0; i < K * K; i++)
        a[i] = 1.0 + (i % (K + 1) == 0);
    check(a, 1, K);
}

static void scale_does_not_matter(void **state)
{
    (void)state;
    enum { K = 6 };
    double a[K * K], b[K * K], scratch[(K * K + 4 * K) * 8], x, y;
    grams(a, 1, K, 9, 0, 1, 77);
    lips_eigen_max(&x, a, 1, K, scratch);
    static const int exponents[] = {-900, -200, 200, 900};
    for (int e = 0; e < 4; e++) {
        for (int i = 0; i < K * K; i++)
            b[i] = ldexp(a[i], exponents[e]);
        lips_eigen_max(&y, b, 1, K, scratch);
        assert_true(y == ldexp(x, exponents[e]));
    }
}

static void zero_is_exactly_zero(void **state)
{
    (void)state;
    enum { K = 10 };
    double a[2 * K * K] = {0}, scratch[(K * K + 4 * K) * 8], top[2];
    a[K * K] = 4.0;
    lips_eigen_max(top, a, 2, K, scratch);
    assert_true(top[0] == 0.0 && fabs(top[1] - 4.0) < 1e-14);
}

static void non_finite_stays_where_it_is(void **state)
{
    (void)state;
    enum { K = 5, N = 11 };
    double a[N * K * K], clean[N], got[N], scratch[(K * K + 4 * K) * 8], all[K];
    grams(a, N, K, 7, 0, 1, 3);
    lips_eigen_max(clean, a, N, K, scratch);
    a[2 * K * K + 3 * K + 1] = NAN;
    a[9 * K * K] = INFINITY;
    lips_eigen_max(got, a, N, K, scratch);
    for (int i = 0; i < N; i++)
        assert_true(i == 2 || i == 9 ? isnan(got[i]) : got[i] == clean[i]);
    lips_eigen_all(all, a + 2 * K * K, K, scratch);
    assert_true(isnan(all[0]) && isnan(all[K - 1]));
    double one[3] = {3.25, NAN, -2.0}, out[3];
    lips_eigen_max(out, one, 3, 1, scratch);
    assert_true(out[0] == 3.25 && isnan(out[1]) && out[2] == -2.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_grams),
        cmocka_unit_test(nearly_degenerate),
        cmocka_unit_test(scale_does_not_matter),
        cmocka_unit_test(zero_is_exactly_zero),
        cmocka_unit_test(non_finite_stays_where_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
