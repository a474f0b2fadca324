/* The measuring pass on ref against brute force: Jacobians by central differences, norms by
 * LAPACK's SVD. */
#include "measure/measure.h"
#include "../lib/tiny_net.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* Central differences with h = 2^-17: rounding 2^-52 |z| / h = 3e-11 |z|, truncation h^2 = 6e-11
 * times third derivatives of order 1 (products of L layers' parameters are multilinear: none), so
 * 1e-7 of the norm leaves room for the constants. */
static const double TOL = 1e-7;

static lips_measurement measure(const tiny_net *t, const char *metrics, lips_loss_kind loss)
{
    lips_measurement m;
    lips_measure_args a = {.ops = lips_backend_find("ref"),
                           .threads = 2,
                           .per_sample = true,
                           .batch = 3,
                           .network = {.net = t->net,
                                       .params = t->params,
                                       .buffers = t->buffers,
                                       .init = t->init,
                                       .epoch = -1,
                                       .loss = loss},
                           .inputs = {.n = t->n, .x = t->x, .label = t->label, .split = "inputs"}};
    assert_int_equal(lips_metrics_parse(&a.metrics, metrics), LIPS_OK);
    lips_status st = lips_measure_run(&m, &a);
    if (st != LIPS_OK)
        print_error("%s\n", lips_error());
    assert_int_equal(st, LIPS_OK);
    return m;
}

static const double *samples(const lips_measurement *m, const char *name)
{
    for (int i = 0; i < m->n_samples; i++)
        if (strcmp(m->samples[i].name, name) == 0)
            return m->samples[i].v;
    print_error("no per-sample vector %s\n", name);
    fail();
    return NULL;
}

static const double *layer_samples(const lips_measurement *m, const char *quantity,
                                   const char *layer)
{
    char name[160];
    snprintf(name, sizeof name, "%s/%s", quantity, layer);
    return samples(m, name);
}

static void near(double got, double expected, double scale)
{
    if (!(fabs(got - expected) <= TOL * scale))
        print_error("got %.17g expected %.17g (scale %g)\n", got, expected, scale);
    assert_true(fabs(got - expected) <= TOL * scale);
}

/* c (m,n) = a (m,k) b (k,n) */
static void multiply(double *c, const double *a, const double *b, int64_t m, int64_t k, int64_t n)
{
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double s = 0;
            for (int64_t l = 0; l < k; l++)
                s += a[i * k + l] * b[l * n + j];
            c[i * n + j] = s;
        }
}

static void plain_softmax(double *p, const double *z, int64_t k)
{
    double sum = 0;
    for (int64_t i = 0; i < k; i++)
        sum += p[i] = exp(z[i]);
    for (int64_t i = 0; i < k; i++)
        p[i] /= sum;
}

/* Section B and landscape.input_grad of sample i from the explicit K x D Jacobian. */
static void check_maps(const lips_measurement *m, const tiny_net *t, int64_t i, const double *jx,
                       const double *z, lips_loss_kind loss)
{
    int64_t k = t->k, d = t->d, y = t->label[i];
    double *p = malloc((size_t)(k + k * k + k * d + k) * sizeof *p);
    assert_non_null(p);
    double *map = p + k, *mj = map + k * k, *u = mj + k * d;
    double op = tiny_spectral(jx, k, d);
    near(samples(m, "jacobian.op/logits")[i], op, op);
    near(samples(m, "jacobian.fro/logits")[i], tiny_frobenius(jx, k * d), op);
    plain_softmax(p, z, k);
    for (int64_t r = 0; r < k; r++)
        for (int64_t c = 0; c < k; c++)
            map[r * k + c] = (r == c) * p[r] - p[r] * p[c];
    multiply(mj, map, jx, k, k, d);
    near(samples(m, "jacobian.op/softmax")[i], tiny_spectral(mj, k, d), op);
    near(samples(m, "jacobian.fro/softmax")[i], tiny_frobenius(mj, k * d), op);
    for (int64_t r = 0; r < k; r++)
        for (int64_t c = 0; c < k; c++)
            map[r * k + c] = (r == c) - p[c];
    multiply(mj, map, jx, k, k, d);
    near(samples(m, "jacobian.op/log_softmax")[i], tiny_spectral(mj, k, d), op);
    near(samples(m, "jacobian.fro/log_softmax")[i], tiny_frobenius(mj, k * d), op);
    near(samples(m, "jacobian.op/target_logit")[i], tiny_frobenius(jx + y * d, d), op);
    for (int64_t r = 0; r < k; r++)
        u[r] = (loss == LIPS_LOSS_MSE ? z[r] : p[r]) - (r == y);
    multiply(mj, u, jx, 1, k, d);
    double grad = tiny_frobenius(mj, d);
    near(samples(m, "jacobian.op/loss")[i], grad, op);
    near(samples(m, "jacobian.fro/loss")[i], grad, op);
    near(samples(m, "landscape.input_grad/norm")[i], grad, op);
    near(samples(m, "landscape.input_grad/norm_sq")[i], grad * grad, op * op);
    double l = loss == LIPS_LOSS_MSE ? 0.5 * pow(tiny_frobenius(u, k), 2) : -log(p[y]);
    near(samples(m, "loss")[i], l, fmax(l, 1));
    free(p);
}

/* Columns [offset, offset + count) of jp (k,p) as a (k,count) matrix. */
static double *columns(const double *jp, const tiny_net *t, const lips_segment *s)
{
    double *out = malloc((size_t)(t->k * s->count) * sizeof *out);
    assert_non_null(out);
    for (int64_t k = 0; k < t->k; k++)
        memcpy(out + k * s->count, jp + k * t->p + s->offset, (size_t)s->count * sizeof *out);
    return out;
}

static void check_block(const lips_measurement *m, int64_t i, const char *quantity,
                        const char *layer, const double *j, int64_t rows, int64_t cols)
{
    char name[64];
    double op = tiny_spectral(j, rows, cols);
    snprintf(name, sizeof name, "%s.op", quantity);
    near(layer_samples(m, name, layer)[i], op, op);
    snprintf(name, sizeof name, "%s.fro", quantity);
    near(layer_samples(m, name, layer)[i], tiny_frobenius(j, rows * cols), op);
}

/* Section C and parameter-gradient norms of sample i from the explicit K x P Jacobian. */
static void check_params(const lips_measurement *m, const tiny_net *t, int64_t i, const double *jp,
                         const double *z, lips_loss_kind loss)
{
    int64_t k = t->k, y = t->label[i];
    const lips_segment *seg;
    lips_net_segments(t->net, &seg);
    double *p = malloc((size_t)(2 * k + t->p) * sizeof *p);
    assert_non_null(p);
    double *u = p + k, *grad = u + k;
    plain_softmax(p, z, k);
    for (int64_t r = 0; r < k; r++)
        u[r] = (loss == LIPS_LOSS_MSE ? z[r] : p[r]) - (r == y);
    multiply(grad, u, jp, 1, k, t->p);
    double norm = tiny_frobenius(grad, t->p), scale = tiny_frobenius(jp, k * t->p);
    near(samples(m, "landscape.param_grad/norm")[i], norm, scale);
    near(samples(m, "landscape.param_grad/norm_sq")[i], norm * norm, scale * scale);
    for (int l = 1; l <= lips_net_layers(t->net); l++) {
        const lips_layer_info *info = lips_net_layer(t->net, l);
        const lips_segment *w = &seg[info->weight];
        double *j = columns(jp, t, w);
        check_block(m, i, "layer.param_jacobian", info->name, j, k, w->count);
        double part = tiny_frobenius(grad + w->offset, w->count);
        near(layer_samples(m, "layer.loss_grad_param.fro", info->name)[i], part, scale);
        if (l == 1)
            near(samples(m, "landscape.param_grad_layer1/norm")[i], part, scale);
        free(j);
        if (info->bias < 0)
            continue;
        const lips_segment *b = &seg[info->bias];
        j = columns(jp, t, b);
        check_block(m, i, "layer.bias_jacobian", info->name, j, k, b->count);
        if (!info->conv) { /* the bias Jacobian is delta_l, so theta_l' delta_l is at hand */
            int64_t in = w->count / b->count;
            double *through = malloc((size_t)(k * in) * sizeof *through),
                   *row = calloc((size_t)in, sizeof *row);
            assert_true(through && row);
            multiply(through, j, t->params + w->offset, k, b->count, in);
            check_block(m, i, "layer.input_jacobian", info->name, through, k, in);
            multiply(row, u, through, 1, k, in);
            near(layer_samples(m, "layer.loss_grad_input.fro", info->name)[i],
                 tiny_frobenius(row, in), scale);
            free(through), free(row);
        }
        free(j);
    }
    free(p);
}

/* Measures metrics alone; every value agrees with m's to rounding. */
static void same_values(const tiny_net *t, const lips_measurement *m, const char *metrics,
                        lips_loss_kind loss)
{
    lips_measurement alone = measure(t, metrics, loss);
    assert_true(alone.n_samples > 0);
    for (int s = 0; s < alone.n_samples; s++) {
        const double *all = samples(m, alone.samples[s].name);
        double scale =
            samples(m, "jacobian.fro/logits")[0] + samples(m, "landscape.param_grad/norm")[0];
        for (int64_t i = 0; i < t->n; i++)
            assert_true(fabs(alone.samples[s].v[i] - all[i]) <= 1e-11 * (all[i] + 1e-3 * scale));
    }
    lips_measurement_free(&alone);
}

static void check_network(const lips_model_spec *spec, lips_loss_kind loss, uint64_t seed)
{
    tiny_net t = tiny_net_create(spec, 7, seed);
    lips_measurement m = measure(&t, "all", loss);
    double *jx = malloc((size_t)(t.k * (t.d + t.p + 1)) * sizeof *jx);
    assert_non_null(jx);
    double *jp = jx + t.k * t.d, *z = jp + t.k * t.p;
    for (int64_t i = 0; i < t.n; i += 3) {
        tiny_net_differences(&t, i, jx, jp, z);
        check_maps(&m, &t, i, jx, z, loss);
        check_params(&m, &t, i, jp, z, loss);
        const char *first = lips_net_layer(t.net, 1)->name;
        check_block(&m, i, "layer.input_jacobian", first, jx, t.k, t.d);
        double norm = 0;
        for (int64_t j = 0; j < t.d; j++)
            norm += (double)t.x[i * t.d + j] * (double)t.x[i * t.d + j];
        near(layer_samples(&m, "layer.act_norm", first)[i], sqrt(norm), 1);
    }
    /* the loss pass alone (T = 1), and norms at the input alone (through the first layer's
     * triangular factor where that pays), agree with what one pass for everything gives */
    same_values(&t, &m, "landscape.input_grad,landscape.param_grad", loss);
    same_values(&t, &m, "landscape.input_grad", loss);
    same_values(&t, &m, "jacobian,landscape.param_grad", loss);
    lips_measurement_free(&m);
    free(jx);
    tiny_net_free(&t);
}

static void mlp(void **state)
{
    (void)state;
    check_network(
        &(lips_model_spec){
            .kind = "mlp", .width = 5, .depth = 2, .classes = 4, .c = 1, .h = 2, .w = 3},
        LIPS_LOSS_CROSS_ENTROPY, 1);
    check_network(
        &(lips_model_spec){
            .kind = "mlp", .width = 1, .depth = 1, .classes = 3, .c = 2, .h = 1, .w = 2},
        LIPS_LOSS_MSE, 2);
    check_network(
        &(lips_model_spec){
            .kind = "mlp", .width = 3, .depth = 0, .classes = 2, .c = 3, .h = 1, .w = 1},
        LIPS_LOSS_CROSS_ENTROPY, 3);
}

static void convnet(void **state)
{
    (void)state;
    check_network(
        &(lips_model_spec){.kind = "convnet", .width = 2, .classes = 3, .c = 2, .h = 4, .w = 4},
        LIPS_LOSS_CROSS_ENTROPY, 4);
    check_network(&(lips_model_spec){.kind = "convnet",
                                     .width = 1,
                                     .classes = 3,
                                     .c = 1,
                                     .h = 8,
                                     .w = 4,
                                     .batch_norm = true},
                  LIPS_LOSS_MSE, 5);
}

/* Few units on many inputs: the pass ends in the first layer's triangular factor. */
static void narrow_first_layer(void **state)
{
    (void)state;
    check_network(
        &(lips_model_spec){
            .kind = "mlp", .width = 3, .depth = 2, .classes = 5, .c = 1, .h = 5, .w = 5},
        LIPS_LOSS_CROSS_ENTROPY, 7);
    check_network(
        &(lips_model_spec){
            .kind = "mlp", .width = 1, .depth = 1, .classes = 4, .c = 2, .h = 2, .w = 4},
        LIPS_LOSS_CROSS_ENTROPY, 8);
    check_network(
        &(lips_model_spec){
            .kind = "mlp", .width = 9, .depth = 0, .classes = 2, .c = 1, .h = 4, .w = 4},
        LIPS_LOSS_MSE, 9);
}

static double record(const lips_measurement *m, const char *quantity, const char *output, int layer)
{
    for (int i = 0; i < m->n_records; i++) {
        const lips_record *r = &m->records[i];
        if (strcmp(r->quantity, quantity) == 0 && r->layer == layer &&
            (!output || (r->output && strcmp(r->output, output) == 0))) {
            assert_int_equal(r->form, LIPS_FORM_VALUE);
            return r->value;
        }
    }
    print_error("no record %s %s %d\n", quantity, output ? output : "-", layer);
    fail();
    return NAN;
}

static double mean(const double *v, int64_t n)
{
    double s = 0;
    for (int64_t i = 0; i < n; i++)
        s += v[i] / (double)n;
    return s;
}

/* bound.layer from the per-sample values and LAPACK's norm of the weight (fully connected layers).
 */
static void check_bound(const lips_measurement *m, const tiny_net *t, int l)
{
    const lips_layer_info *info = lips_net_layer(t->net, l);
    const lips_segment *seg;
    lips_net_segments(t->net, &seg);
    const double *in = layer_samples(m, "layer.input_jacobian.op", info->name);
    const double *param = layer_samples(m, "layer.param_jacobian.op", info->name);
    const double *act = layer_samples(m, "layer.act_norm", info->name);
    const double *w = t->params + seg[info->weight].offset;
    int64_t count = seg[info->weight].count;
    double theta = tiny_spectral(w, info->o, count / info->o), h = act[0], over = 0;
    for (int64_t i = 0; i < t->n; i++) {
        h = fmin(h, act[i]);
        over += in[i] * act[i] > theta * param[i] * (1 + 1e-6);
    }
    double left = mean(in, t->n), right = theta / h * mean(param, t->n);
    near(record(m, "bound.layer", "left", l), left, left);
    near(record(m, "bound.layer", "right", l), right, right);
    near(record(m, "bound.layer", "ratio", l), left / right, 1);
    near(record(m, "bound.layer", "violations", l), over / (double)t->n, 1);
    assert_true(over == 0); /* a Kronecker product: it holds for each sample */
    near(record(m, "layer.weight_op", NULL, l), theta, theta);
    near(record(m, "layer.weight_op_reshaped", NULL, l), theta, theta);
    near(record(m, "layer.weight_fro", NULL, l), tiny_frobenius(w, count), theta);
}

static double relative_distance(const tiny_net *t, int64_t offset, int64_t count)
{
    double moved = 0;
    for (int64_t i = offset; i < offset + count; i++)
        moved += (t->params[i] - t->init[i]) * (t->params[i] - t->init[i]);
    return sqrt(moved) / tiny_frobenius(t->init + offset, count);
}

static void records_follow_from_samples(void **state)
{
    (void)state;
    lips_model_spec spec = {
        .kind = "mlp", .width = 6, .depth = 2, .classes = 3, .c = 1, .h = 2, .w = 2};
    tiny_net t = tiny_net_create(&spec, 9, 33);
    /* a confident network: some samples' softmax is degenerate, some predictions are right */
    const lips_segment *seg;
    lips_net_segments(t.net, &seg);
    const lips_segment *last = &seg[lips_net_layer(t.net, 3)->weight];
    for (int64_t i = 0; i < last->count; i++)
        t.params[last->offset + i] *= 64;
    lips_measurement m = measure(&t, "all", LIPS_LOSS_CROSS_ENTROPY);
    const double *loss = samples(&m, "loss"), *error = samples(&m, "error");
    const double *top = samples(&m, "logit_hessian.max");
    double worst = loss[0], flat = 0;
    for (int64_t i = 0; i < t.n; i++) {
        worst = fmax(worst, loss[i]);
        flat += top[i] < 1e-6;
    }
    assert_true(flat > 0 && flat < (double)t.n);
    near(record(&m, "loss", NULL, 0), mean(loss, t.n), worst);
    near(record(&m, "error", NULL, 0), mean(error, t.n), 1);
    assert_true(mean(error, t.n) > 0 && mean(error, t.n) < 1);
    near(record(&m, "landscape.loss_max", NULL, 0), worst, worst);
    near(record(&m, "logit_hessian.degenerate", NULL, 0), flat / (double)t.n, 1);
    near(record(&m, "distance.total", NULL, 0), relative_distance(&t, 0, t.p), 1);
    for (int l = 1; l <= 3; l++) {
        const lips_segment *w = &seg[lips_net_layer(t.net, l)->weight];
        near(record(&m, "distance.layer", NULL, l), relative_distance(&t, w->offset, w->count),
             100);
        check_bound(&m, &t, l);
    }
    lips_measurement_free(&m);
    tiny_net_free(&t);
}

static void one_output(void **state)
{
    (void)state;
    check_network(
        &(lips_model_spec){
            .kind = "mlp", .width = 6, .depth = 1, .classes = 1, .c = 1, .h = 1, .w = 1},
        LIPS_LOSS_MSE, 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mlp),
        cmocka_unit_test(convnet),
        cmocka_unit_test(narrow_first_layer),
        cmocka_unit_test(records_follow_from_samples),
        cmocka_unit_test(one_output),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
