#include "opcase.h"

#include "base/random.h"
#include "cmocka_all.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Reals (or doubles) in each fence: two cache lines of floats. */
enum { FENCE = 32 };

/* The largest of a few values when it is read, or the smallest, by turns. */
static double fence_value(const opcase *c)
{
    return c->index % 2 ? 12345.0 : -12345.0;
}
/* In unused samples: a result that reads one is far off. */
static const double JUNK = 1e4;

void opcase_ok(lips_status st)
{
    if (st != LIPS_OK)
        fail_msg("%s", lips_error());
}

bool opcase_own_kernels(void)
{
    return getenv("LIPS_TEST_FEW");
}

void opcase_begin(opcase *c, const lips_ops *ops, uint64_t seed, int index)
{
    *c = (opcase){.seed = seed, .index = index};
    opcase_ok(ops->open(&c->be, 0));
    if (opcase_own_kernels() && ops->set_libraries)
        opcase_ok(ops->set_libraries(c->be, LIPS_LIBRARY_OWN, LIPS_LIBRARY_OWN));
}

static lips_rng rng_of(const opcase *c)
{
    return (lips_rng){.seed = c->seed, .stream = LIPS_STREAM_TEST, .epoch = (uint32_t)c->index};
}

int64_t opcase_pick(opcase *c, const int64_t *list, int n)
{
    lips_rng r = rng_of(c);
    return list[lips_rng_below(&r, c->draws++, (uint64_t)n)];
}

/* Normal, one in ten exactly 0 so that masks meet it. */
double opcase_value(opcase *c)
{
    lips_rng r = rng_of(c);
    uint64_t at = c->draws++;
    if (c->integers)
        return (double)lips_rng_below(&r, at, 7) - 3;
    uint32_t w[4];
    lips_rng_words(&r, at, w);
    return w[3] % 10 == 0 ? 0 : (double)(float)lips_rng_normal(&r, at);
}

void opcase_batch(opcase *c, int64_t b, bool spatial)
{
    static const int64_t spare[] = {0, 1, 5, 17};
    c->b = b;
    c->cap = b + opcase_pick(c, spare, 4);
    c->lanes = c->be->ops->plan_lanes(c->be, c->cap, spatial);
}

/* Memory for n elements between fences; the elements hold `value`. */
static void *block_new(opcase *c, int64_t n, bool f64, double value)
{
    const lips_ops *ops = c->be->ops;
    size_t size = f64 ? sizeof(double) : ops->real_bytes;
    assert_true(c->n_blocks < OPCASE_BLOCKS);
    opcase_block *k = &c->block[c->n_blocks++];
    void *p = NULL;
    lips_status (*take)(lips_backend *, void **, size_t) = f64 ? ops->alloc_shared : ops->alloc;
    opcase_ok(take(c->be, &p, (size_t)(n + 2 * FENCE) * size));
    *k = (opcase_block){.base = p, .n = n, .f64 = f64};
    double *v = malloc((size_t)(n + 2 * FENCE) * sizeof *v);
    assert_non_null(v);
    for (int64_t i = 0; i < n + 2 * FENCE; i++)
        v[i] = i < FENCE || i >= n + FENCE ? fence_value(c) : value;
    if (f64)
        for (int64_t i = 0; i < n + 2 * FENCE; i++)
            ((double *)p)[i] = v[i];
    else
        opcase_ok(ops->write(c->be, p, 0, v, n + 2 * FENCE));
    free(v);
    return k->base + FENCE * size;
}

static bool fence_holds(opcase *c, const opcase_block *k, int64_t from)
{
    double v[FENCE];
    if (k->f64)
        for (int i = 0; i < FENCE; i++)
            v[i] = ((double *)(void *)k->base)[from + i];
    else
        opcase_ok(c->be->ops->read(c->be, v, k->base, from, FENCE));
    for (int i = 0; i < FENCE; i++)
        if (v[i] != fence_value(c)) {
            fprintf(stderr,
                    "FAIL %s seed %" PRIu64 " index %d shape %s: wrote %d"
                    " places %s a block of %" PRId64 "\n",
                    c->be->ops->name, c->seed, c->index, c->shape, from ? i + 1 : FENCE - i,
                    from ? "behind" : "before", k->n);
            return false;
        }
    return true;
}

bool opcase_end(opcase *c)
{
    bool good = true;
    opcase_ok(c->be->ops->sync(c->be));
    for (int i = 0; i < c->n_blocks; i++) {
        good &= fence_holds(c, &c->block[i], 0);
        good &= fence_holds(c, &c->block[i], c->block[i].n + FENCE);
        c->be->ops->release(c->be, c->block[i].base);
    }
    c->be->ops->close(c->be);
    c->be = NULL;
    return good;
}

void opcase_drop(opcase *c)
{
    for (int i = 0; i < c->n_results; i++)
        free(c->result[i].v);
    c->n_results = 0;
}

static lips_tensor tensor_new(opcase *c, int64_t ch, int64_t h, int64_t w, int64_t t)
{
    lips_tensor x = {.cap = c->cap, .b = c->b, .c = ch, .h = h, .w = w, .t = t, .lanes = c->lanes};
    size_t bytes = c->be->ops->tensor_bytes(c->be, &x);
    assert_true(bytes % c->be->ops->real_bytes == 0);
    x.data = block_new(c, (int64_t)(bytes / c->be->ops->real_bytes), false, (double)NAN);
    return x;
}

lips_tensor opcase_input(opcase *c, int64_t ch, int64_t h, int64_t w, int64_t t)
{
    lips_tensor x = tensor_new(c, ch, h, w, t);
    int64_t used = x.b * ch * h * w * t, all = x.cap * ch * h * w * t;
    double *v = malloc((size_t)all * sizeof *v);
    assert_non_null(v);
    for (int64_t i = 0; i < all; i++)
        v[i] = i < used ? opcase_value(c) : JUNK;
    lips_tensor full = x;
    full.b = x.cap;
    opcase_ok(c->be->ops->upload_f64(c->be, &full, v));
    free(v);
    return x;
}

lips_tensor opcase_output(opcase *c, int64_t ch, int64_t h, int64_t w, int64_t t)
{
    return tensor_new(c, ch, h, w, t);
}

/* Odd cases stand one real off the alignment, as segments of a parameter vector do. */
static void *vector_new(opcase *c, int64_t n, bool poison)
{
    int64_t shift = c->index % 2;
    char *p = block_new(c, n + shift, false, poison ? (double)NAN : 0);
    p += (size_t)shift * c->be->ops->real_bytes;
    if (poison)
        return p;
    double *v = malloc((size_t)(n ? n : 1) * sizeof *v);
    assert_non_null(v);
    for (int64_t i = 0; i < n; i++)
        v[i] = opcase_value(c);
    opcase_ok(c->be->ops->write(c->be, p, 0, v, n));
    free(v);
    return p;
}

void *opcase_reals(opcase *c, int64_t n)
{
    return vector_new(c, n, false);
}

void *opcase_poisoned(opcase *c, int64_t n)
{
    return vector_new(c, n, true);
}

double *opcase_doubles(opcase *c, int64_t n, bool poison)
{
    double *p = block_new(c, n, true, (double)NAN);
    for (int64_t i = 0; !poison && i < n; i++)
        p[i] = opcase_value(c);
    return p;
}

int64_t *opcase_int64s(opcase *c, int64_t n)
{
    return (int64_t *)(void *)block_new(c, n, true, (double)NAN);
}

void *opcase_work(opcase *c, size_t bytes)
{
    size_t real = c->be->ops->real_bytes;
    return block_new(c, (int64_t)((bytes + real - 1) / real), false, (double)NAN);
}

void *opcase_bytes(opcase *c, const void *from, size_t bytes)
{
    void *p = opcase_work(c, bytes);
    opcase_ok(c->be->ops->put(c->be, p, from, bytes));
    return p;
}

static double *result_new(opcase *c, const char *name, int64_t n)
{
    assert_true(c->n_results < OPCASE_RESULTS);
    opcase_result *r = &c->result[c->n_results++];
    *r = (opcase_result){.name = name, .v = malloc((size_t)(n ? n : 1) * sizeof(double)), .n = n};
    assert_non_null(r->v);
    opcase_ok(c->be->ops->sync(c->be));
    return r->v;
}

void opcase_emit_tensor(opcase *c, const char *name, const lips_tensor *t)
{
    double *v = result_new(c, name, t->b * lips_tensor_features(t) * t->t);
    opcase_ok(c->be->ops->download(c->be, v, t));
}

void opcase_emit_reals(opcase *c, const char *name, const void *p, int64_t n)
{
    double *v = result_new(c, name, n);
    opcase_ok(c->be->ops->read(c->be, v, p, 0, n));
}

void opcase_emit_doubles(opcase *c, const char *name, const double *p, int64_t n)
{
    double *v = result_new(c, name, n);
    for (int64_t i = 0; i < n; i++)
        v[i] = p[i];
}

double *opcase_values(opcase *c, const lips_tensor *t)
{
    double *v = malloc((size_t)(t->b * lips_tensor_features(t) * t->t) * sizeof *v);
    assert_non_null(v);
    opcase_ok(c->be->ops->download(c->be, v, t));
    return v;
}
