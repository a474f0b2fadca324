/*
 * Every op on every backend: random cases against ref, two runs with equal bits, fences around all
 * memory. The rows are walked against the op table, so an op without a row fails.
 *
 * OPCASE=name:index runs one case alone, LIPS_TEST_CASES=n at most n of each row; LIPS_TEST_WIDTH
 * sets what pick_width picks.
 */
#include "../lib/backends.h"
#include "../lib/cmocka_all.h"
#include "../lib/compare.h"
#include "../lib/opcases.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Rounding of float64 sums in another order. */
static const double TOL_F64 = 1e-12;

typedef void (*any_fn)(void);

static uint64_t seed_of(const opcase_row *row)
{
    uint64_t h = 0;
    for (const char *p = row->name; *p; p++)
        h = h * 31 + (unsigned char)*p;
    return h;
}

static bool run_once(opcase *c, const lips_ops *ops, const opcase_row *row, int index,
                     bool integers)
{
    opcase_begin(c, ops, seed_of(row), index);
    c->integers = integers;
    row->run(c);
    return opcase_end(c);
}

static bool same_bits(const opcase *a, const opcase *b)
{
    bool same = a->n_results == b->n_results;
    for (int i = 0; same && i < a->n_results; i++)
        same = a->result[i].n == b->result[i].n &&
               !memcmp(a->result[i].v, b->result[i].v, (size_t)a->result[i].n * sizeof(double));
    return same;
}

static bool run_case(const lips_ops *ops, const opcase_row *row, int index, bool integers)
{
    opcase got, again, want;
    bool good = run_once(&got, ops, row, index, integers);
    good &= run_once(&again, ops, row, index, integers);
    good &= run_once(&want, lips_backend_find("ref"), row, index, integers);
    double exact = ops->real_bytes == 8 ? 0 : got.rounds, most = got.tol > 0 ? got.tol : row->tol;
    double tol = integers ? exact : ops->real_bytes == 8 && most > TOL_F64 ? TOL_F64 : most;
    for (int i = 0; i < want.n_results; i++) {
        char what[400];
        snprintf(what, sizeof what, "%s on %s: %s (%s) seed %" PRIu64 " index %d", row->name,
                 ops->name, want.result[i].name, want.shape, want.seed, index);
        good &= got.result[i].n == want.result[i].n &&
                cmp_check(what, got.result[i].v, want.result[i].v, want.result[i].n, tol);
    }
    if (!same_bits(&got, &again)) {
        fprintf(stderr, "FAIL %s on %s: two runs differ (%s) index %d\n", row->name, ops->name,
                got.shape, index);
        good = false;
    }
    if (!good)
        fprintf(stderr, "again: OPCASE=%s:%d $BUILD/tests/ops/test_backends\n", row->name, index);
    opcase_drop(&got), opcase_drop(&again), opcase_drop(&want);
    return good;
}

/* -1: this row has no case asked for; -2: all; else one index. */
static int asked_index(const opcase_row *row)
{
    const char *only = getenv("OPCASE");
    if (!only)
        return -2;
    size_t n = strlen(row->name);
    return !strncmp(only, row->name, n) && only[n] == ':' ? atoi(only + n + 1) : -1;
}

/* Cases of a row that are left out between two that run. */
static int step_of(const lips_ops *ops, const opcase_row *row, bool integers)
{
    /* ref is what the others are compared with: of itself it shows fences and equal bits. */
    int step = ops == lips_backend_find("ref") ? 5 : integers ? 3 : 1;
    if (backend_is_slow(ops))
        step *= row->cases > 10 ? 4 : 1; /* minutes else; tests of kernels have their edges */
    const char *most = getenv("LIPS_TEST_CASES");
    int n = most ? atoi(most) : row->cases;
    if (n > 0 && row->cases > n * step)
        step = (row->cases + n - 1) / n;
    return step | 1; /* odd: cases take turns in how their vectors are aligned */
}

static void run_table(const lips_ops *ops, const opcase_table *table, bool integers)
{
    int bad = 0;
    for (int r = 0; r < table->n; r++) {
        const opcase_row *row = &table->row[r];
        int only = asked_index(row);
        if (!opcase_offered(ops, row->slot)) {
            fprintf(stderr, "SKIP %s: not offered by %s\n", row->name, ops->name);
            continue;
        }
        int step = only != -2 ? 1 : step_of(ops, row, integers);
        for (int i = 0; i < row->cases && bad < 5 && (row->integers || !integers); i += step)
            if (only == -2 || only == i)
                bad += !run_case(ops, row, i, integers);
    }
    assert_int_equal(bad, 0);
}

static void test_family(void **state)
{
    for (int i = 0; tested_backend(i); i++)
        run_table(tested_backend(i), *state, false);
}

/* Small integers: every product and partial sum is representable, so nothing may be off. */
static void test_integers(void **state)
{
    (void)state;
    for (int i = 0; tested_backend(i); i++)
        for (int t = 0; opcase_tables[t]; t++)
            run_table(tested_backend(i), opcase_tables[t], true);
}

/* Every entry behind name and real_bytes is a function and has a row that runs. */
static void test_every_op_has_a_row(void **state)
{
    (void)state;
    for (size_t slot = offsetof(lips_ops, open); slot < sizeof(lips_ops); slot += sizeof(any_fn)) {
        int rows = 0;
        for (int t = 0; opcase_tables[t]; t++)
            for (int r = 0; r < opcase_tables[t]->n; r++)
                rows += opcase_tables[t]->row[r].slot == slot && opcase_tables[t]->row[r].cases > 0;
        if (rows != 1)
            fail_msg("op at offset %zu of lips_ops has %d rows in tests/lib/opcases", slot, rows);
        /* ref has one arithmetic, nothing to choose, and nothing to gain by recording. */
        if (slot != offsetof(lips_ops, set_precision) &&
            slot != offsetof(lips_ops, set_libraries) && slot < offsetof(lips_ops, record_begin))
            assert_true(opcase_offered(lips_backend_find("ref"), slot));
    }
}

#define FAMILY(name) cmocka_unit_test_prestate(test_family, (void *)(size_t)&opcases_##name)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_op_has_a_row),
        cmocka_unit_test(test_integers),
        FAMILY(memory),
        FAMILY(linear),
        FAMILY(conv),
        FAMILY(simple),
        FAMILY(bn),
        FAMILY(train),
        FAMILY(step),
        FAMILY(tokens),
        FAMILY(vectors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
