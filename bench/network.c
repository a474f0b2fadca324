#include "network.h"

#include "common.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void *bench_take(int64_t n, size_t size)
{
    void *p = calloc((size_t)n, size);
    if (!p)
        bench_ok(lips_fail(LIPS_ERR_MEMORY, "bench: out of memory"));
    return p;
}

float bench_uniform(uint64_t seed, int64_t i)
{
    uint64_t z = ((seed << 40) + (uint64_t)i) * UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    z ^= z >> 31;
    return (float)((double)(z >> 40) * 0x1p-23 - 1.0);
}

void bench_fill_params(const lips_net *net, double *params)
{
    const lips_segment *seg;
    int count = lips_net_segments(net, &seg);
    for (int p = 0; p < count; p++) {
        int64_t fan_in = seg[p].ndim > 1 ? seg[p].count / seg[p].shape[0] : 0;
        float scale = fan_in ? (float)sqrt(6.0 / (double)fan_in) : 0.1f;
        for (int64_t i = 0; i < seg[p].count; i++)
            params[seg[p].offset + i] = (double)(bench_uniform(100 + (uint64_t)p, i) * scale +
                                                 (seg[p].role == LIPS_ROLE_NORM_WEIGHT));
    }
}

void bench_fill_samples(const lips_net *net, int64_t n, float *x, int64_t *label)
{
    const lips_model_spec *s = lips_net_spec(net);
    for (int64_t i = 0; i < n * s->c * s->h * s->w; i++)
        x[i] = bench_uniform(1, i);
    for (int64_t i = 0; i < n; i++)
        label[i] = i % s->classes;
}

lips_model_spec bench_model(const char *kind, int64_t w, int64_t classes)
{
    const bool mlp = strcmp(kind, "mlp") == 0;
    return (lips_model_spec){.kind = kind,
                             .width = w,
                             .depth = strcmp(kind, "vit") == 0 ? 6 : 1,
                             .classes = classes,
                             .c = mlp ? 1 : 3,
                             .h = mlp ? 28 : 32,
                             .w = mlp ? 28 : 32};
}

void bench_network_make(bench_network *out, const lips_model_spec *spec, int64_t n)
{
    *out = (bench_network){.n = n};
    bench_ok(lips_net_create(&out->net, spec));
    out->params = bench_take(lips_net_params(out->net), sizeof *out->params);
    out->x = bench_take(n * spec->c * spec->h * spec->w, sizeof *out->x);
    out->label = bench_take(n, sizeof *out->label);
    bench_fill_params(out->net, out->params);
    bench_fill_samples(out->net, n, out->x, out->label);
}

void bench_network_free(bench_network *b)
{
    free(b->params), free(b->x), free(b->label);
    lips_net_free(b->net);
}

lips_measure_args bench_measure_args(const bench_network *b, const bench_measuring *m, int64_t n)
{
    lips_measure_args a = {.ops = lips_backend_find(m->backend),
                           .arithmetic = m->arithmetic,
                           .threads = m->threads,
                           .batch = strcmp(m->backend, "ref") == 0 ? 1 : 0,
                           .network = {.net = b->net, .params = b->params, .epoch = -1},
                           .inputs = {.n = n, .x = b->x, .label = b->label, .split = "inputs"}};
    bench_ok(lips_metrics_parse(&a.metrics, m->metrics));
    return a;
}

static lips_measurement measured(lips_measure_args a)
{
    lips_measurement out;
    bench_ok(lips_measure_run(&out, &a));
    return out;
}

lips_measurement bench_measure(const bench_network *b, const bench_measuring *m, int64_t n)
{
    return measured(bench_measure_args(b, m, n));
}

double bench_measure_error(const bench_network *b, const bench_measuring *m, int64_t n, double tol,
                           int64_t *wrong)
{
    const bench_measuring reference = {
        .backend = "ref", .metrics = m->metrics, .threads = m->threads};
    lips_measure_args ours = bench_measure_args(b, m, n);
    lips_measure_args theirs = bench_measure_args(b, &reference, n);
    ours.per_sample = theirs.per_sample = true;
    lips_measurement got = measured(ours), want = measured(theirs);
    float *narrow = bench_take(n, sizeof *narrow);
    double worst = 0;
    for (int s = 0; s < want.n_samples; s++) {
        for (int64_t i = 0; i < n; i++)
            narrow[i] = (float)got.samples[s].v[i];
        const double error = bench_error(narrow, want.samples[s].v, n, tol, wrong);
        worst = error > worst || isnan(error) ? error : worst;
    }
    free(narrow);
    lips_measurement_free(&got);
    lips_measurement_free(&want);
    return worst;
}
