#include "tiny_net.h"

#include "base/random.h"

#include <lapacke.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static double normal(uint64_t seed, uint32_t what, int64_t i)
{
    lips_rng r = {.seed = seed, .stream = LIPS_STREAM_TEST, .epoch = what};
    return lips_rng_normal(&r, (uint64_t)i);
}

static void *take(int64_t n, size_t size)
{
    void *p = calloc((size_t)(n > 0 ? n : 1), size);
    assert_non_null(p);
    return p;
}

tiny_net tiny_net_create(const lips_model_spec *spec, int64_t n, uint64_t seed)
{
    tiny_net t = {.n = n, .k = spec->classes, .d = spec->c * spec->h * spec->w};
    const lips_segment *seg;
    assert_int_equal(lips_net_create(&t.net, spec), LIPS_OK);
    t.p = lips_net_params(t.net);
    t.n_buffers = lips_net_buffers(t.net);
    t.params = take(t.p, sizeof(double));
    t.init = take(t.p, sizeof(double));
    t.buffers = take(t.n_buffers, sizeof(double));
    t.x = take(n * t.d, sizeof(float));
    t.label = take(n, sizeof(int64_t));
    assert_int_equal(lips_net_init(t.net, LIPS_INIT_PYTORCH, seed, t.init, t.buffers), LIPS_OK);
    for (int64_t i = 0; i < t.p; i++)
        t.params[i] = (float)(1.3 * t.init[i] + 0.05 * normal(seed, 0, i));
    int count = lips_net_buffer_segments(t.net, &seg);
    for (int s = 0; s < count; s++)
        for (int64_t i = 0; i < seg[s].count; i++) {
            double v = normal(seed, 1, seg[s].offset + i);
            if (seg[s].role == LIPS_ROLE_RUNNING_MEAN)
                t.buffers[seg[s].offset + i] = (float)(0.2 * v);
            if (seg[s].role == LIPS_ROLE_RUNNING_VAR)
                t.buffers[seg[s].offset + i] = (float)(0.5 + 0.1 * v * v);
        }
    for (int64_t i = 0; i < n * t.d; i++)
        t.x[i] = (float)normal(seed, 2, i);
    for (int64_t i = 0; i < n; i++)
        t.label[i] = i % t.k;
    return t;
}

void tiny_net_free(tiny_net *t)
{
    lips_net_free(t->net);
    free(t->params), free(t->init), free(t->buffers), free(t->x), free(t->label);
    memset(t, 0, sizeof *t);
}

typedef struct eval {
    lips_backend *be;
    lips_exec *ex;
    void *params, *buffers;
} eval;

static eval eval_open(const tiny_net *t)
{
    const lips_ops *ops = lips_backend_find("ref");
    eval e = {0};
    assert_int_equal(ops->open(&e.be, 0), LIPS_OK);
    assert_int_equal(lips_exec_create(&e.ex, t->net, e.be, &(lips_exec_spec){.cap = 1}), LIPS_OK);
    assert_int_equal(ops->alloc(e.be, &e.params, (size_t)t->p * sizeof(double)), LIPS_OK);
    if (t->n_buffers) {
        assert_int_equal(ops->alloc(e.be, &e.buffers, (size_t)t->n_buffers * sizeof(double)),
                         LIPS_OK);
        assert_int_equal(ops->write(e.be, e.buffers, 0, t->buffers, t->n_buffers), LIPS_OK);
    }
    lips_exec_set_params(e.ex, e.params, e.buffers);
    return e;
}

static void eval_close(eval *e)
{
    lips_exec_free(e->ex);
    e->be->ops->release(e->be, e->params);
    if (e->buffers)
        e->be->ops->release(e->be, e->buffers);
    e->be->ops->close(e->be);
}

static void eval_at(const eval *e, const tiny_net *t, const double *x, const double *params,
                    double *z)
{
    const lips_ops *ops = e->be->ops;
    lips_tensor logits, *in = lips_exec_input(e->ex);
    in->b = 1;
    assert_int_equal(ops->write(e->be, e->params, 0, params, t->p), LIPS_OK);
    assert_int_equal(ops->upload_f64(e->be, in, x), LIPS_OK);
    assert_int_equal(lips_exec_forward(e->ex, false, &logits), LIPS_OK);
    assert_int_equal(ops->download(e->be, z, &logits), LIPS_OK);
}

/* jac (k,n) by moving each entry of v, which is either x or the parameters. */
static void differences(const eval *e, const tiny_net *t, const double *x, const double *params,
                        double *v, int64_t n, double *jac)
{
    double *up = take(2 * t->k, sizeof *up), *down = up + t->k;
    const double h =
        0x1p-17; /* far from the kinks of these networks, cube root of f64's rounding */
    for (int64_t j = 0; j < n; j++) {
        double old = v[j];
        v[j] = old + h;
        eval_at(e, t, x, params, up);
        v[j] = old - h;
        eval_at(e, t, x, params, down);
        v[j] = old;
        for (int64_t k = 0; k < t->k; k++)
            jac[k * n + j] = (up[k] - down[k]) / (2 * h);
    }
    free(up);
}

void tiny_net_differences(const tiny_net *t, int64_t i, double *jx, double *jp, double *z)
{
    eval e = eval_open(t);
    double *x = take(t->d + t->p, sizeof *x), *params = x + t->d;
    for (int64_t j = 0; j < t->d; j++)
        x[j] = t->x[i * t->d + j];
    memcpy(params, t->params, (size_t)t->p * sizeof *params);
    if (jx)
        differences(&e, t, x, params, x, t->d, jx);
    if (jp)
        differences(&e, t, x, params, params, t->p, jp);
    if (z)
        eval_at(&e, t, x, params, z);
    free(x);
    eval_close(&e);
}

double tiny_spectral(const double *a, int64_t rows, int64_t cols)
{
    int64_t least = rows < cols ? rows : cols;
    double *copy = take(rows * cols, sizeof *copy), *s = take(2 * least, sizeof *s);
    memcpy(copy, a, (size_t)(rows * cols) * sizeof *copy);
    assert_int_equal(LAPACKE_dgesvd(LAPACK_ROW_MAJOR, 'N', 'N', (lapack_int)rows, (lapack_int)cols,
                                    copy, (lapack_int)cols, s, NULL, 1, NULL, 1, s + least),
                     0);
    double top = s[0];
    free(copy), free(s);
    return top;
}

double tiny_frobenius(const double *a, int64_t count)
{
    double s = 0;
    for (int64_t i = 0; i < count; i++)
        s += a[i] * a[i];
    return sqrt(s);
}
