/*
 * Batches gathered by a backend are the host's, bit for bit: lips_augment's crops and flips, of
 * images kept as bytes or as floats; and the trainer gathers where it can.
 */
#include "backend/rows.h"
#include "../lib/backends.h"
#include "../lib/cmocka_all.h"
#include "base/random.h"
#include "data/data.h"

#include <stdlib.h>

enum { N = 23, B = 17, CAP = 20, C = 3, H = 9, W = 7, ROW = C * H * W };

typedef struct set {
    lips_dataset d;
    float x[N * ROW], table[C * 256];
    int64_t source[N], index[B];
} set;

static set *make(bool bytes)
{
    const lips_rng r = {.seed = 9, .stream = LIPS_STREAM_TEST};
    set *s = calloc(1, sizeof *s);
    assert_non_null(s);
    s->d =
        (lips_dataset){.c = C, .h = H, .w = W, .mean = {0.3f, 0.5f, 0.1f}, .std = {0.2f, 0.3f, 1}};
    s->d.train = (lips_split){.n = N, .x = s->x, .source_index = s->source};
    lips_pixel_table(&s->d, s->table);
    for (int64_t i = 0; i < N * ROW; i++)
        s->x[i] =
            bytes ? s->table[i / (H * W) % C * 256 + (int64_t)lips_rng_below(&r, (uint64_t)i, 256)]
                  : (float)lips_rng_normal(&r, (uint64_t)i);
    for (int64_t i = 0; i < N; i++)
        s->source[i] = 1000 - 3 * i;
    for (int64_t i = 0; i < B; i++)
        s->index[i] = (7 * i + 3) % N;
    return s;
}

static void ok(lips_status st)
{
    if (st != LIPS_OK)
        fail_msg("%s", lips_error());
}

static void gathered(const lips_ops *ops, const set *s, bool bytes, bool spatial)
{
    float *want = calloc((size_t)(B * ROW), sizeof *want);
    double *got = calloc((size_t)(B * ROW), sizeof *got);
    lips_rows r = {.n = N, .c = C, .h = H, .w = W};
    lips_backend *be;
    assert_true(want && got);
    r.packed = lips_rows_fit(&r, s->x, s->table);
    assert_int_equal(r.packed, bytes);
    ok(ops->open(&be, 0));
    ok(ops->alloc(be, &r.memory, lips_rows_bytes(&r)));
    ok(ops->rows_load(be, &r,
                      &(lips_rows_source){.x = s->x, .table = s->table, .source = s->source}));
    lips_tensor y = {.cap = CAP, .b = B, .c = C, .h = H, .w = W, .t = 1};
    y.lanes = ops->plan_lanes(be, CAP, spatial);
    ok(ops->alloc(be, &y.data, ops->tensor_bytes(be, &y)));
    for (int64_t epoch = 0; epoch < 3; epoch++) {
        lips_augment(&s->d, &s->d.train, s->index, B, 11, epoch, want);
        ok(ops->gather(be, &(lips_gather_args){.rows = &r,
                                               .y = y,
                                               .index = s->index,
                                               .augment = true,
                                               .seed = 11,
                                               .epoch = epoch}));
        ok(ops->download(be, got, &y));
        ok(ops->sync(be));
        for (int64_t i = 0; i < B * ROW; i++)
            if (got[i] != (double)want[i])
                fail_msg("%s: epoch %lld, value %lld is %.9g, must be %.9g", ops->name,
                         (long long)epoch, (long long)i, got[i], (double)want[i]);
    }
    assert_int_equal(ops->gather(be, &(lips_gather_args){.rows = &r, .y = y, .first = N - B + 1}),
                     LIPS_ERR_USAGE);
    ops->release(be, y.data);
    ops->release(be, r.memory);
    ops->close(be);
    free(want), free(got);
}

static void as_the_host(void **state)
{
    (void)state;
    int backends = 0;
    for (int i = 0; tested_backend(i); i++)
        if (tested_backend(i)->gather)
            for (int kind = 0; kind < 4; kind++, backends++) {
                set *s = make(kind & 1);
                gathered(tested_backend(i), s, kind & 1, kind & 2);
                free(s);
            }
    assert_true(backends > 0);
}

/* A byte is refused where the table has no such value. */
static void unknown_value(void **state)
{
    (void)state;
    set *s = make(true);
    lips_rows r = {.n = N, .c = C, .h = H, .w = W, .packed = true};
    s->x[ROW + 5] += 1e-3f;
    assert_false(lips_rows_fit(&r, s->x, s->table));
    char *to = malloc(N * ROW);
    assert_non_null(to);
    assert_int_equal(lips_rows_pack(&r, to, s->x, N, s->table), LIPS_ERR_USAGE);
    for (int v = 0; v < 256; v++)
        assert_int_equal(lips_rows_pixel(s->table + 256, s->table[256 + v]), v);
    free(to);
    free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_the_host),
        cmocka_unit_test(unknown_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
