/* The judge is tested first. */
#include "../lib/cmocka_all.h"
#include "../lib/compare.h"

#include <math.h>

enum { N = 1000 };

static void fill(double *got, double *want)
{
    for (int i = 0; i < N; i++)
        got[i] = want[i] = sin(i) + 2;
}

static bool pass(const double *got, const double *want, int64_t n)
{
    cmp_result c = cmp_vectors(got, want, n);
    return cmp_pass(&c, 1e-10);
}

static void test_accepts(void **state)
{
    (void)state;
    double got[N], want[N];
    fill(got, want);
    assert_true(pass(got, want, N));
    got[3] *= 1 + 1e-12;
    assert_true(pass(got, want, N));
    double zero[20] = {0};
    assert_true(pass(zero, zero, 20));
    cmp_result c = cmp_vectors(zero, zero, 20);
    assert_true(cmp_weak(&c));
    c = cmp_vectors(got, want, N);
    assert_false(cmp_weak(&c));
}

static void test_rejects_nonfinite(void **state)
{
    (void)state;
    const double bad[] = {NAN, INFINITY, -INFINITY};
    double got[N], want[N];
    for (int k = 0; k < 3; k++) {
        fill(got, want);
        got[N - 1] = bad[k];
        assert_false(pass(got, want, N));
        fill(got, want);
        want[0] = bad[k];
        assert_false(pass(got, want, N));
        got[0] = bad[k];
        assert_false(pass(got, want, N));
        for (int i = 0; i < N; i++)
            got[i] = want[i] = bad[k];
        assert_false(pass(got, want, N));
    }
}

static void test_rejects_wrong(void **state)
{
    (void)state;
    double got[N], want[N];
    fill(got, want);
    got[17] *= 1 + 1e-8; /* one entry, too little for the norm alone */
    cmp_result c = cmp_vectors(got, want, N);
    assert_true(c.rel_l2 <= 1e-9 && c.index == 17);
    assert_false(pass(got, want, N));
    fill(got, want);
    for (int i = 0; i < N; i++)
        got[i] += 5e-10 * want[i]; /* every entry inside the entry's bound */
    c = cmp_vectors(got, want, N);
    assert_true(c.worst <= 1e-9);
    assert_false(pass(got, want, N));
    double zero[2] = {0, 0}, tiny[2] = {0, 1e-300};
    assert_false(pass(tiny, zero, 2));
    assert_false(pass(zero, tiny, 2));
}

static void test_rejects_empty(void **state)
{
    (void)state;
    double v[1] = {1};
    assert_false(pass(v, v, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepts),
        cmocka_unit_test(test_rejects_nonfinite),
        cmocka_unit_test(test_rejects_wrong),
        cmocka_unit_test(test_rejects_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
