/*
 * Hessian, Gauss-Newton matrix, their traces and largest eigenvalues, and the alignment of
 * gradients, against explicit matrices in f64: one built column by column from products, one from
 * differences of gradients; LAPACK's dsyev.
 */
#include "../lib/cmocka_all.h"
#include "../lib/compare.h"
#include "../lib/backends.h"
#include "../lib/tiny_net.h"
#include "measure/curvature.h"
#include "measure/lanczos.h"

#include <lapacke.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const lips_model_spec MLP = {
    .kind = "mlp", .width = 5, .depth = 1, .classes = 3, .c = 1, .h = 2, .w = 3};
static const lips_model_spec LINEAR = {
    .kind = "mlp", .width = 1, .depth = 0, .classes = 3, .c = 1, .h = 2, .w = 2};
static const lips_model_spec DEEP = {
    .kind = "mlp", .width = 4, .depth = 3, .classes = 4, .c = 1, .h = 5, .w = 1};
static const lips_model_spec CONVNET = {
    .kind = "convnet", .width = 1, .classes = 3, .c = 1, .h = 4, .w = 4};
static const lips_model_spec CONVNET_BN = {
    .kind = "convnet", .width = 1, .classes = 3, .c = 1, .h = 4, .w = 4, .batch_norm = true};

static const struct subject {
    const char *name;
    const lips_model_spec *spec;
    lips_loss_kind loss;
    int64_t n;
    uint64_t seed; /* convnets: one that leaves most of so narrow a network alive */
} subjects[] = {
    {"linear, cross-entropy", &LINEAR, LIPS_LOSS_CROSS_ENTROPY, 9, 40},
    {"linear, squared loss", &LINEAR, LIPS_LOSS_MSE, 9, 41},
    {"mlp, cross-entropy", &MLP, LIPS_LOSS_CROSS_ENTROPY, 150, 42},
    {"mlp, squared loss", &MLP, LIPS_LOSS_MSE, 8, 43},
    {"deep mlp, cross-entropy", &DEEP, LIPS_LOSS_CROSS_ENTROPY, 9, 44},
    {"convnet, cross-entropy", &CONVNET, LIPS_LOSS_CROSS_ENTROPY, 20, 55},
    {"convnet with batch norm, squared loss", &CONVNET_BN, LIPS_LOSS_MSE, 7, 76},
    {"convnet with batch norm, cross-entropy", &CONVNET_BN, LIPS_LOSS_CROSS_ENTROPY, 18, 77},
};
enum { SUBJECTS = sizeof subjects / sizeof *subjects };

static void ok(lips_status st)
{
    if (st != LIPS_OK)
        print_error("%s\n", lips_error());
    assert_int_equal(st, LIPS_OK);
}

static double *take(int64_t n)
{
    double *p = calloc((size_t)(n > 0 ? n : 1), sizeof *p);
    assert_non_null(p);
    return p;
}

static lips_measure_args args_of(const tiny_net *t, const char *backend, lips_loss_kind loss,
                                 const char *metrics)
{
    lips_measure_args a = {.ops = lips_backend_find(backend),
                           .threads = 2,
                           .network = {.net = t->net,
                                       .params = t->params,
                                       .buffers = t->buffers,
                                       .epoch = -1,
                                       .loss = loss},
                           .inputs = {.n = t->n, .x = t->x, .label = t->label, .split = "inputs"}};
    ok(lips_metrics_parse(&a.metrics, metrics));
    return a;
}

static lips_measurement measure(const lips_measure_args *a)
{
    lips_measurement m;
    ok(lips_measure_run(&m, a));
    return m;
}

/* The record of a quantity, with its output (NULL: none) and layer (0: none). */
static const lips_record *record(const lips_measurement *m, const char *quantity,
                                 const char *output, int layer)
{
    for (int i = 0; i < m->n_records; i++) {
        const lips_record *r = &m->records[i];
        if (strcmp(r->quantity, quantity) == 0 && r->layer == layer &&
            (output ? r->output && strcmp(r->output, output) == 0 : !r->output))
            return r;
    }
    print_error("no record %s %s %d\n", quantity, output ? output : "-", layer);
    fail();
    return NULL;
}

static const lips_record *top_record(const lips_measurement *m, int rank)
{
    for (int i = 0; i < m->n_records; i++)
        if (strcmp(m->records[i].quantity, "hessian.top") == 0 && m->records[i].rank == rank)
            return &m->records[i];
    fail_msg("no hessian.top of rank %d", rank);
    return NULL;
}

static void near(const char *what, double got, double want, double tol)
{
    if (!(fabs(got - want) <= tol))
        print_error("%s: got %.17g want %.17g (tolerance %g)\n", what, got, want, tol);
    assert_true(fabs(got - want) <= tol);
}

/* ---- explicit matrices ---- */

/* Mean loss's gradient at the given parameters, plainly: the trainer's loss op and the network's
 * gradient on ref. */
static void plain_gradient(const tiny_net *t, lips_loss_kind loss, const double *params,
                           int64_t first, int64_t count, double *g)
{
    const lips_ops *ops = lips_backend_find("ref");
    lips_backend *be;
    lips_exec *ex;
    lips_tensor z, seed;
    void *p, *buffers = NULL, *grads;
    ok(ops->open(&be, 0));
    ok(lips_exec_create(&ex, t->net, be, &(lips_exec_spec){.cap = count, .t = 1}));
    ok(ops->alloc(be, &p, (size_t)t->p * sizeof(double)));
    ok(ops->alloc(be, &grads, (size_t)t->p * sizeof(double)));
    ok(ops->alloc(be, &buffers, (size_t)(t->n_buffers + 1) * sizeof(double)));
    ok(ops->write(be, p, 0, params, t->p));
    ok(ops->write(be, buffers, 0, t->buffers, t->n_buffers));
    lips_exec_set_params(ex, p, buffers);
    lips_exec_input(ex)->b = count;
    ok(ops->upload(be, lips_exec_input(ex), t->x + first * t->d, NULL));
    ok(lips_exec_forward(ex, false, &z));
    ok(lips_exec_seed(ex, 1, &seed));
    ok(ops->loss(be, &(lips_loss_args){.kind = loss,
                                       .z = z,
                                       .labels = t->label + first,
                                       .dz = &seed,
                                       .scale = 1.0 / (double)count}));
    ok(lips_exec_grad(ex, grads));
    ok(ops->read(be, g, grads, 0, t->p));
    lips_exec_free(ex);
    ops->release(be, p);
    ops->release(be, grads);
    ops->release(be, buffers);
    ops->close(be);
}

/* (P,P) by central differences of the gradient: truncation h^2 and rounding 2^-52 / h, both near
 * 1e-10. */
static double *hessian_by_differences(const tiny_net *t, lips_loss_kind loss, int64_t n)
{
    const double h = 1e-5;
    double *m = take(t->p * t->p), *up = take(t->p), *down = take(t->p), *at = take(t->p);
    memcpy(at, t->params, (size_t)t->p * sizeof *at);
    for (int64_t i = 0; i < t->p; i++) {
        at[i] = t->params[i] + h;
        plain_gradient(t, loss, at, 0, n, up);
        at[i] = t->params[i] - h;
        plain_gradient(t, loss, at, 0, n, down);
        at[i] = t->params[i];
        for (int64_t j = 0; j < t->p; j++)
            m[i * t->p + j] = (up[j] - down[j]) / (2 * h);
    }
    free(up), free(down), free(at);
    return m;
}

/* Gauss-Newton matrix from the logits' Jacobians by central differences. */
static double *ggn_by_differences(const tiny_net *t, lips_loss_kind loss, int64_t n)
{
    int64_t k = t->k, p = t->p;
    double *m = take(p * p), *jp = take(k * p), *z = take(k), *s = take(k * k);
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        tiny_net_differences(t, i, NULL, jp, z);
        for (int64_t j = 0; j < k; j++)
            sum += exp(z[j]);
        for (int64_t a = 0; a < k; a++)
            for (int64_t b = 0; b < k; b++) {
                double pa = exp(z[a]) / sum, pb = exp(z[b]) / sum;
                s[a * k + b] =
                    loss == LIPS_LOSS_MSE ? (double)(a == b) : (double)(a == b) * pa - pa * pb;
            }
        for (int64_t a = 0; a < k; a++)
            for (int64_t b = 0; b < k; b++)
                for (int64_t r = 0; r < p; r++)
                    for (int64_t c = 0; c < p; c++)
                        m[r * p + c] += s[a * k + b] * jp[a * p + r] * jp[b * p + c] / (double)n;
    }
    free(jp), free(z), free(s);
    return m;
}

/* Vectors in the memory of a backend, for calls with the host's: they are copied in and out. */
typedef struct device_vectors {
    lips_backend *be;
    int64_t n;
    double *in, *out, *shared;
} device_vectors;

static device_vectors vectors_on(lips_backend *be, int64_t n)
{
    void *p[3];
    const size_t bytes = (size_t)n * sizeof(double);
    ok(be->ops->alloc(be, &p[0], bytes));
    ok(be->ops->alloc(be, &p[1], bytes));
    ok(be->ops->alloc_shared(be, &p[2], bytes));
    return (device_vectors){.be = be, .n = n, .in = p[0], .out = p[1], .shared = p[2]};
}

static void vectors_free(device_vectors *d)
{
    d->be->ops->release(d->be, d->in);
    d->be->ops->release(d->be, d->out);
    d->be->ops->release(d->be, d->shared);
}

static void fetch_out(const device_vectors *d, double *out)
{
    const size_t bytes = (size_t)d->n * sizeof *out;
    ok(d->be->ops->fetch(d->be, d->shared, d->out, bytes, 0));
    ok(d->be->ops->await(d->be, 0));
    memcpy(out, d->shared, bytes);
}

static void product(lips_curvature *c, const device_vectors *d, double *out, const double *v,
                    bool gauss_newton)
{
    ok(d->be->ops->put(d->be, d->in, v, (size_t)d->n * sizeof *v));
    ok(lips_curvature_product(c, d->be, d->out, d->in, gauss_newton));
    fetch_out(d, out);
}

static double *by_products(const tiny_net *t, const lips_measure_args *a, int64_t n,
                           bool gauss_newton)
{
    lips_survey *s;
    lips_curvature *c;
    double *m = take(t->p * t->p), *v = take(t->p);
    ok(lips_survey_create(&s, a));
    ok(lips_curvature_create(&c, s, n, 1 << 30));
    device_vectors d = vectors_on(lips_curvature_backend(c), t->p);
    for (int64_t i = 0; i < t->p; i++) {
        v[i] = 1;
        product(c, &d, m + i * t->p, v, gauss_newton);
        v[i] = 0;
    }
    vectors_free(&d);
    lips_curvature_free(c);
    lips_survey_free(s);
    free(v);
    return m;
}

/* Ascending eigenvalues; m becomes the eigenvectors, by row. */
static double *dsyev(double *m, int64_t p)
{
    double *w = take(p);
    assert_int_equal(LAPACKE_dsyev(LAPACK_COL_MAJOR, 'V', 'U', (lapack_int)p, m, (lapack_int)p, w),
                     0);
    return w;
}

/* ---- the tests ---- */

/* Products against differences; then every record against the explicit matrices. */
static void check_eigen(const lips_measurement *m, const tiny_net *t, const struct subject *s,
                        double *h, double *g)
{
    int64_t p = t->p, top = p < 10 ? p : 10;
    double *w = dsyev(h, p), scale = fmax(fabs(w[0]), fabs(w[p - 1]));
    char what[160];
    for (int64_t i = 0; i < top; i++) {
        snprintf(what, sizeof what, "%s: eigenvalue %d", s->name, (int)i + 1);
        const lips_record *r = top_record(m, (int)i + 1);
        near(what, r->value, w[p - 1 - i], 1e-7 * scale);
        assert_true(r->residual * fabs(r->value) <= 1e-4 * scale || isnan(r->residual));
    }
    near(s->name, record(m, "hessian.lambda_max", NULL, 0)->value, w[p - 1], 1e-7 * scale);
    double *wg = dsyev(g, p);
    near(s->name, record(m, "ggn.lambda_max", NULL, 0)->value, wg[p - 1], 1e-7 * wg[p - 1]);
    /* The share of each minibatch's gradient; here minibatches of 128 or all samples. */
    int64_t size = t->n < 128 ? t->n : 128;
    double *grad = take(p), norm = 0, along = 0;
    plain_gradient(t, s->loss, t->params, 0, size, grad);
    for (int64_t j = 0; j < p; j++)
        norm += grad[j] * grad[j];
    for (int64_t i = 0; i < top; i++) {
        double dot = 0;
        for (int64_t j = 0; j < p; j++)
            dot += grad[j] * h[(p - 1 - i) * p + j];
        along += dot * dot;
    }
    const lips_record *r = record(m, "hessian.alignment", NULL, 0);
    assert_int_equal(r->form, LIPS_FORM_STATS);
    assert_int_equal(r->n, size);
    /* Within an eigenspace that the last of them cuts, the vectors are not determined. */
    if (top == p || w[p - top] - w[p - top - 1] > 1e-3 * scale)
        near(s->name, r->mean, along / norm, 1e-3);
    free(w), free(wg), free(grad);
}

static void check_traces(const lips_measurement *m, const tiny_net *t, const double *h,
                         const double *g)
{
    const lips_segment *seg;
    int count = lips_net_segments(t->net, &seg);
    double total = 0, ggn = 0, layer[8] = {0};
    for (int s = 0; s < count; s++)
        for (int64_t i = seg[s].offset; i < seg[s].offset + seg[s].count; i++) {
            layer[seg[s].layer] += h[i * t->p + i];
            total += h[i * t->p + i];
            ggn += g[i * t->p + i];
        }
    near("trace", record(m, "hessian.trace", NULL, 0)->value, total, 1e-11 * fabs(total));
    near("Gauss-Newton trace", record(m, "ggn.trace", NULL, 0)->value, ggn, 1e-11 * fabs(total));
    near("equal", total, ggn, 1e-11 * fabs(total));
    for (int l = 1; l <= lips_net_layers(t->net); l++)
        near("layer's trace", record(m, "hessian.trace", NULL, l)->value, layer[l],
             1e-11 * fabs(total));
}

static void explicit_matrices(void **state)
{
    (void)state;
    for (int i = 0; i < SUBJECTS; i++) {
        const struct subject *s = &subjects[i];
        tiny_net t = tiny_net_create(s->spec, s->n, s->seed);
        lips_measure_args a = args_of(&t, "ref", s->loss, "hessian,ggn");
        lips_measurement m = measure(&a);
        double *h = by_products(&t, &a, s->n, false), *g = by_products(&t, &a, s->n, true);
        double *hd = hessian_by_differences(&t, s->loss, s->n);
        double *gd = ggn_by_differences(&t, s->loss, s->n);
        assert_true(cmp_check(s->name, h, hd, t.p * t.p, 1e-7));
        assert_true(cmp_check(s->name, g, gd, t.p * t.p, 1e-7));
        check_traces(&m, &t, h, g);
        check_eigen(&m, &t, s, h, g);
        free(h), free(g), free(hd), free(gd);
        lips_measurement_free(&m);
        tiny_net_free(&t);
    }
}

static void same_records(const lips_measurement *a, const lips_measurement *b)
{
    char x[2048], y[2048];
    assert_int_equal(a->n_records, b->n_records);
    for (int i = 0; i < a->n_records; i++) {
        lips_record_json(&a->records[i], x, sizeof x);
        lips_record_json(&b->records[i], y, sizeof y);
        assert_string_equal(x, y);
    }
}

static void threads_do_not_matter(void **state)
{
    (void)state;
    const lips_model_spec *specs[] = {&MLP, &CONVNET_BN};
    const char *backends[] = {"ref", tested_fast()};
    for (int i = 0; i < 2; i++)
        for (int b = 0; b < 2; b++) {
            tiny_net t = tiny_net_create(specs[i], tested_samples(backends[b], 300, 20), 7);
            lips_measure_args a =
                args_of(&t, backends[b], LIPS_LOSS_CROSS_ENTROPY, "hessian,ggn,bound.landscape");
            a.threads = 1;
            lips_measurement one = measure(&a);
            for (a.threads = 2; a.threads <= 5; a.threads += 3) {
                lips_measurement more = measure(&a);
                same_records(&one, &more);
                lips_measurement_free(&more);
            }
            lips_measurement_free(&one);
            tiny_net_free(&t);
        }
}

/* Blocks that keep nothing between the products give the same bits, also after a gradient. */
static void keeping_does_not_matter(void **state)
{
    (void)state;
    tiny_net t = tiny_net_create(&CONVNET, 40, 12);
    lips_measure_args a = args_of(&t, tested_fast(), LIPS_LOSS_CROSS_ENTROPY, "hessian");
    lips_survey *s;
    lips_curvature *c;
    double *kept = take(t.p), *anew = take(t.p), *g = take(t.p), norm = 0;
    ok(lips_survey_create(&s, &a));
    for (int keep = 0; keep < 2; keep++) {
        double *out = keep ? kept : anew;
        ok(lips_curvature_create(&c, s, 40, keep ? 1 << 30 : 0));
        device_vectors d = vectors_on(lips_curvature_backend(c), t.p);
        product(c, &d, out, t.params, false);
        ok(lips_curvature_gradient(c, d.be, d.out, 3, 20));
        fetch_out(&d, g);
        product(c, &d, out, t.params, false);
        vectors_free(&d);
        lips_curvature_free(c);
    }
    for (int64_t i = 0; i < t.p; i++)
        norm += kept[i] * kept[i];
    assert_true(norm > 0);
    assert_memory_equal(kept, anew, (size_t)t.p * sizeof *kept);
    free(kept), free(anew), free(g);
    lips_survey_free(s);
    tiny_net_free(&t);
}

/* The measured samples beyond curvature_n are in the trace and in the gradients, not in the
 * eigenvalues. */
static void subset(void **state)
{
    (void)state;
    tiny_net t = tiny_net_create(&MLP, 640, 8);
    lips_measure_args a = args_of(&t, "ref", LIPS_LOSS_CROSS_ENTROPY, "hessian");
    a.curvature_n = 500;
    lips_measurement all = measure(&a);
    assert_int_equal(record(&all, "hessian.lambda_max", NULL, 0)->n, 500);
    assert_int_equal(record(&all, "hessian.trace", NULL, 0)->n, 640);
    assert_int_equal(record(&all, "hessian.alignment", NULL, 0)->n, 640);
    a.inputs.n = 500;
    lips_measurement first = measure(&a);
    assert_true(record(&all, "hessian.lambda_max", NULL, 0)->value ==
                record(&first, "hessian.lambda_max", NULL, 0)->value);
    lips_measurement_free(&all);
    lips_measurement_free(&first);
    tiny_net_free(&t);
}

static void agrees_with_ref(void **state)
{
    (void)state;
    for (int i = 0; i < SUBJECTS; i++) {
        const struct subject *s = &subjects[i];
        tiny_net t = tiny_net_create(s->spec, s->n, 60 + (uint64_t)i);
        lips_measure_args a = args_of(&t, "ref", s->loss, "hessian,ggn");
        lips_measure_args b = args_of(&t, tested_fast(), s->loss, "hessian,ggn");
        lips_measurement ref = measure(&a), fast = measure(&b);
        assert_int_equal(ref.n_records, fast.n_records);
        double top = record(&ref, "hessian.lambda_max", NULL, 0)->value;
        for (int r = 0; r < ref.n_records; r++) {
            const lips_record *x = &ref.records[r], *y = &fast.records[r];
            bool trace = strstr(x->quantity, "trace");
            if (x->form == LIPS_FORM_VALUE)
                near(x->quantity, y->value, x->value, trace ? 1e-4 * x->value : 1e-4 * top);
        }
        lips_measurement_free(&ref);
        lips_measurement_free(&fast);
        tiny_net_free(&t);
    }
}

/* Every record has a form; none of a finite network's is a number that is not one. */
static void all_finite(const lips_measurement *m)
{
    for (int i = 0; i < m->n_records; i++) {
        const lips_record *r = &m->records[i];
        bool good = r->form == LIPS_FORM_NULL    ? r->reason != NULL
                    : r->form == LIPS_FORM_VALUE ? isfinite(r->value) != 0
                                                 : isfinite(r->mean) != 0;
        if (!good)
            print_error("%s %s: not finite\n", r->quantity, r->output ? r->output : "");
        assert_true(good);
    }
}

static void bad_input(void **state)
{
    (void)state;
    const char *metrics = "hessian,ggn,bound.landscape,E";
    tiny_net t = tiny_net_create(&MLP, 6, 9);
    lips_measure_args a = args_of(&t, tested_fast(), LIPS_LOSS_CROSS_ENTROPY, metrics);
    a.inputs.label = NULL;
    lips_measurement m = measure(&a);
    all_finite(&m);
    assert_int_equal(record(&m, "hessian.lambda_max", NULL, 0)->form, LIPS_FORM_NULL);
    assert_int_equal(record(&m, "hessian.trace", NULL, 2)->form, LIPS_FORM_NULL);
    assert_int_equal(record(&m, "ggn.trace", NULL, 2)->form, LIPS_FORM_VALUE);
    assert_int_equal(record(&m, "ggn.lambda_max", NULL, 0)->form, LIPS_FORM_VALUE);
    lips_measurement_free(&m);
    a.inputs.label = t.label;
    /* A network of zeros: logits 0, every derivative but the last layer's bias dead. */
    for (int64_t i = 0; i < t.p; i++)
        t.params[i] = 0;
    m = measure(&a);
    all_finite(&m);
    assert_int_equal(record(&m, "bound.landscape", "input.left", 0)->form, LIPS_FORM_NULL);
    lips_measurement_free(&m);
    t.params[3] = NAN;
    m = measure(&a);
    assert_true(isnan(top_record(&m, 3)->value));
    lips_measurement_free(&m);
    tiny_net_free(&t);
    /* One class: the loss is constant. */
    lips_model_spec one = MLP;
    one.classes = 1;
    t = tiny_net_create(&one, 1, 10);
    a = args_of(&t, "ref", LIPS_LOSS_CROSS_ENTROPY, metrics);
    m = measure(&a);
    all_finite(&m);
    assert_true(record(&m, "hessian.lambda_max", NULL, 0)->value == 0);
    assert_true(record(&m, "hessian.trace", NULL, 0)->value == 0);
    assert_int_equal(record(&m, "hessian.alignment", NULL, 0)->form, LIPS_FORM_NULL);
    lips_measurement_free(&m);
    tiny_net_free(&t);
}

/* An input that is not a number must not look like one behind a ReLU. */
static void nan_input(void **state)
{
    (void)state;
    tiny_net t = tiny_net_create(&MLP, 6, 11);
    lips_measure_args a = args_of(&t, tested_fast(), LIPS_LOSS_CROSS_ENTROPY, "hessian,ggn");
    t.x[8] = NAN;
    lips_measurement m = measure(&a);
    const char *names[] = {"hessian.lambda_max", "ggn.lambda_max", "hessian.trace", "ggn.trace"};
    for (int i = 0; i < 4; i++)
        assert_true(isnan(record(&m, names[i], NULL, 0)->value));
    assert_true(isnan(record(&m, "hessian.alignment", NULL, 0)->mean));
    lips_measurement_free(&m);
    tiny_net_free(&t);
}

/* ---- Lanczos alone ---- */

/* On ref, whose vectors are the host's. */
static lips_backend *on_host(void)
{
    lips_backend *be;
    ok(lips_backend_find("ref")->open(&be, 0));
    return be;
}

typedef struct diagonal {
    int64_t n;
    const double *d;
} diagonal;

static lips_status apply_diagonal(void *user, double *out, const double *v)
{
    const diagonal *m = user;
    for (int64_t i = 0; i < m->n; i++)
        out[i] = m->d[i] * v[i];
    return LIPS_OK;
}

/* Equal eigenvalues are all found, zeros and negative ones too. */
static void multiple_eigenvalues(void **state)
{
    (void)state;
    enum { N = 40 };
    lips_backend *be = on_host();
    double d[N];
    for (int i = 0; i < N; i++)
        d[i] = i < 3 ? 5 : i < 7 ? 2 : i < 9 ? 1e-3 : i < 20 ? 0 : -3.0 - 0.1 * i;
    diagonal m = {.n = N, .d = d};
    lips_eigenpairs e;
    ok(lips_lanczos(&e, &(lips_lanczos_args){.be = be,
                                             .apply = apply_diagonal,
                                             .user = &m,
                                             .n = N,
                                             .k = 12,
                                             .tolerance = 1e-8,
                                             .noise = 1e-12}));
    assert_int_equal(e.found, 12);
    for (int i = 0; i < 12; i++)
        near("multiple eigenvalue", e.value[i], d[i], 1e-9);
    for (int i = 0; i < 12; i++)
        for (int j = 0; j <= i; j++) {
            double s = 0;
            for (int64_t k = 0; k < N; k++)
                s += e.vector[i * N + k] * e.vector[j * N + k];
            near("orthonormal", s, i == j, 1e-10);
        }
    lips_eigenpairs_free(&e);
    memset(d, 0, sizeof d);
    ok(lips_lanczos(
        &e, &(lips_lanczos_args){
                .be = be, .apply = apply_diagonal, .user = &m, .n = N, .k = 3, .tolerance = 1e-4}));
    assert_int_equal(e.found, 3);
    for (int i = 0; i < 3; i++)
        assert_true(e.value[i] == 0 && e.residual[i] == 0);
    lips_eigenpairs_free(&e);
    be->ops->close(be);
}

/* Copies of the top eigenvalue beside a dense bulk that begins 3 % below it: n entries evenly in
 * 0..0.97, then `copies` ones. */
static void copies_above_a_bulk(void **state)
{
    (void)state;
    enum { N = 3000, K = 10 };
    lips_backend *be = on_host();
    double *d = take(N);
    for (int copies = 1; copies <= 12; copies += copies < 3 ? 1 : 3) {
        for (int i = 0; i < N; i++)
            d[i] = i < N - copies ? 0.97 * i / (N - copies - 1) : 1;
        diagonal m = {.n = N, .d = d};
        lips_eigenpairs e;
        ok(lips_lanczos(&e, &(lips_lanczos_args){.be = be,
                                                 .apply = apply_diagonal,
                                                 .user = &m,
                                                 .n = N,
                                                 .k = K,
                                                 .tolerance = 1e-4,
                                                 .noise = 1e-12}));
        assert_int_equal(e.found, K);
        for (int i = 0; i < K; i++)
            near(i < copies ? "a copy" : "the bulk", e.value[i], d[N - 1 - i], 1e-3);
        lips_eigenpairs_free(&e);
    }
    be->ops->close(be);
    free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(multiple_eigenvalues),
        cmocka_unit_test(copies_above_a_bulk),
        cmocka_unit_test(explicit_matrices),
        cmocka_unit_test(threads_do_not_matter),
        cmocka_unit_test(keeping_does_not_matter),
        cmocka_unit_test(subset),
        cmocka_unit_test(agrees_with_ref),
        cmocka_unit_test(bad_input),
        cmocka_unit_test(nan_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
