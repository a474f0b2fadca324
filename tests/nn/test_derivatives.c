/*
 * Whole networks: gradients against central differences, jvp against vjp, Grams against per-sample
 * Jacobians, on every backend. Float backends are compared with ref.
 */
#include "../lib/backends.h"
#include "../lib/cmocka_all.h"
#include "../lib/compare.h"
#include "../lib/netcase.h"
#include "../lib/opcase.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { T = 3, B = 5 };

static const lips_exec_spec all_passes = {.cap = 7, .t = T, .training = true};

static bool is_ref(const lips_ops *ops)
{
    return ops->real_bytes == 8;
}

/* Rounding of a network of a few layers: 1e-4 leaves room for masks at the kink to agree, not to
 * flip. */
static double tolerance(const lips_ops *ops)
{
    return is_ref(ops) ? 1e-12 : 2e-5;
}

static void case_name(char *out, size_t size, const char *what, int model, bool training,
                      const char *on)
{
    snprintf(out, size, "%s, %s, %s mode, %s", what, netcase_models[model].name,
             training ? "training" : "evaluation", on);
}

/* ---- loss gradient against central differences (ref) ---- */

static void test_gradient_ref(void **state)
{
    (void)state;
    for (int m = 0; m < netcase_n_models; m++)
        for (int training = 0; training < 2; training++) {
            netcase c;
            netcase_open(&c, lips_backend_find("ref"), &netcase_models[m].spec, &all_passes);
            double *got = netcase_random(0, c.n_params), *want = netcase_random(0, c.n_params);
            netcase_grad(&c, B, training, got);
            for (int64_t i = 0; i < c.n_params; i++) {
                double at = c.params[i], step = 1e-6;
                c.params[i] = at + step;
                double hi = netcase_loss(&c, B, training);
                c.params[i] = at - step;
                want[i] = (hi - netcase_loss(&c, B, training)) / (2 * step);
                c.params[i] = at;
            }
            char name[200];
            case_name(name, sizeof name, "loss gradient", m, training, "ref");
            assert_true(cmp_check(name, got, want, c.n_params, 1e-6));
            free(got), free(want);
            netcase_close(&c);
        }
}

/* ---- jvp: central differences along a direction; adjoint identity ---- */

typedef struct tangents {
    double *xdot, *ydot, *u, *dx; /* (B,T,features), (B,T,K), (B,T,K), (B,T,features) */
} tangents;

static tangents run_both(netcase *c, bool training)
{
    tangents r = {.xdot = netcase_random(20, B * T * c->features),
                  .u = netcase_random(21, B * T * c->classes)};
    lips_tensor z, xdot, ydot, dx;
    netcase_push(c);
    netcase_forward(c, 0, B, training, &z);
    opcase_ok(lips_exec_tangent(c->ex, T, &xdot));
    opcase_ok(c->ops->upload_f64(c->be, &xdot, r.xdot));
    opcase_ok(lips_exec_jvp(c->ex, T, &ydot));
    r.ydot = netcase_values(c, &ydot);
    netcase_seed(c, T, r.u);
    opcase_ok(lips_exec_vjp(
        c->ex, &(lips_vjp_args){.t = T, .want_input = true, .dx = &dx, .training = training}));
    r.dx = netcase_values(c, &dx);
    return r;
}

static void tangents_free(tangents *r)
{
    free(r->xdot), free(r->ydot), free(r->u), free(r->dx);
}

/* ydot of tangent t by differences of the logits. */
static void difference_along(netcase *c, bool training, const double *xdot, int64_t t, double *out)
{
    double *x = c->x, *moved = netcase_random(0, NETCASE_BATCH * c->features), step = 1e-6;
    double *value[2];
    for (int side = 0; side < 2; side++) {
        for (int64_t b = 0; b < B; b++)
            for (int64_t i = 0; i < c->features; i++)
                moved[b * c->features + i] =
                    x[b * c->features + i] +
                    (side ? -step : step) * xdot[(b * T + t) * c->features + i];
        lips_tensor z;
        c->x = moved;
        netcase_push(c);
        netcase_forward(c, 0, B, training, &z);
        c->x = x;
        value[side] = netcase_values(c, &z);
    }
    for (int64_t i = 0; i < B * c->classes; i++)
        out[i] = (value[0][i] - value[1][i]) / (2 * step);
    free(moved), free(value[0]), free(value[1]);
}

static void test_jvp_ref(void **state)
{
    (void)state;
    for (int m = 0; m < netcase_n_models; m++)
        for (int training = 0; training < 2; training++) {
            netcase c;
            netcase_open(&c, lips_backend_find("ref"), &netcase_models[m].spec, &all_passes);
            tangents r = run_both(&c, training);
            double *want = netcase_random(0, B * c.classes),
                   *got = netcase_random(0, B * c.classes);
            char name[200];
            case_name(name, sizeof name, "jvp", m, training, "ref");
            for (int64_t t = 0; t < T; t++) {
                difference_along(&c, training, r.xdot, t, want);
                for (int64_t b = 0; b < B; b++)
                    for (int64_t k = 0; k < c.classes; k++)
                        got[b * c.classes + k] = r.ydot[(b * T + t) * c.classes + k];
                assert_true(cmp_check(name, got, want, B * c.classes, 1e-6));
            }
            free(want), free(got);
            tangents_free(&r);
            netcase_close(&c);
        }
}

/* <u, J v> = <J' u, v>, summed over the batch (batch statistics mix the samples). */
static void test_adjoint(void **state)
{
    (void)state;
    for (int i = 0; tested_backend(i); i++)
        for (int m = 0; m < netcase_offered(tested_backend(i)); m++)
            for (int training = 0; training < 2; training++) {
                netcase c;
                netcase_open(&c, tested_backend(i), &netcase_models[m].spec, &all_passes);
                tangents r = run_both(&c, training);
                for (int64_t t = 0; t < T; t++) {
                    double left = 0, right = 0, size = 0;
                    for (int64_t b = 0; b < B; b++) {
                        for (int64_t k = 0; k < c.classes; k++) {
                            int64_t at = (b * T + t) * c.classes + k;
                            left += r.u[at] * r.ydot[at];
                            size += fabs(r.u[at] * r.ydot[at]);
                        }
                        for (int64_t k = 0; k < c.features; k++) {
                            int64_t at = (b * T + t) * c.features + k;
                            right += r.dx[at] * r.xdot[at];
                            size += fabs(r.dx[at] * r.xdot[at]);
                        }
                    }
                    double tol = is_ref(c.ops) ? 1e-10 : 1e-5;
                    if (!(fabs(left - right) <= tol * size))
                        fail_msg("%s, %s: <u,Jv> %.17g, <J'u,v> %.17g", c.ops->name,
                                 netcase_models[m].name, left, right);
                }
                tangents_free(&r);
                netcase_close(&c);
            }
}

/* ---- float backends against ref ---- */

static void test_backends_agree(void **state)
{
    (void)state;
    for (int i = 0; tested_backend(i); i++)
        for (int m = 0; m < netcase_offered(tested_backend(i)); m++)
            for (int training = 0; training < 2; training++) {
                netcase c[2];
                double *grad[2], *buffers[2];
                tangents r[2];
                for (int k = 0; k < 2; k++) {
                    netcase_open(&c[k], k ? lips_backend_find("ref") : tested_backend(i),
                                 &netcase_models[m].spec, &all_passes);
                    grad[k] = netcase_random(0, c[k].n_params);
                    buffers[k] = netcase_random(0, c[k].n_buffers);
                    netcase_grad(&c[k], B, training, grad[k]);
                    opcase_ok(
                        c[k].ops->read(c[k].be, buffers[k], c[k].dev_buffers, 0, c[k].n_buffers));
                    r[k] = run_both(&c[k], training);
                }
                char name[200];
                double tol = tolerance(c[0].ops);
                case_name(name, sizeof name, "against ref", m, training, c[0].ops->name);
                assert_true(cmp_check(name, grad[0], grad[1], c[0].n_params, tol));
                assert_true(cmp_check(name, r[0].ydot, r[1].ydot, B * T * c[0].classes, tol));
                assert_true(cmp_check(name, r[0].dx, r[1].dx, B * T * c[0].features, tol));
                if (c[0].n_buffers)
                    assert_true(cmp_check(name, buffers[0], buffers[1], c[0].n_buffers, tol));
                for (int k = 0; k < 2; k++) {
                    free(grad[k]), free(buffers[k]);
                    tangents_free(&r[k]);
                    netcase_close(&c[k]);
                }
            }
}

/* ---- Grams through the visitor against per-sample Jacobians ---- */

enum { MAX_LAYERS = 32 };

typedef struct visits {
    netcase *c;
    double *theta_weight[MAX_LAYERS], *theta_bias[MAX_LAYERS]; /* shared memory, (B,T,T) */
    double *norm;
    int seen, last;
    bool want_dx;
} visits;

static lips_status visit(void *user, const lips_layer_event *e)
{
    visits *v = user;
    assert_true(e->layer == v->last - 1); /* last layer first, each once */
    assert_ptr_equal(e->info, lips_net_layer(v->c->net, e->layer));
    assert_true((e->dx != NULL) == v->want_dx);
    assert_true(e->x.t == 1 && e->delta.t == T && e->x.c == e->info->c && e->delta.c == e->info->o);
    v->last = e->layer;
    v->seen++;
    return lips_layer_gram(v->c->ex, e, v->theta_weight[e->layer], v->theta_bias[e->layer]);
}

static double *shared_doubles(netcase *c, int64_t n)
{
    void *p;
    opcase_ok(c->ops->alloc_shared(c->be, &p, (size_t)n * sizeof(double)));
    return p;
}

/* Gram of the T rows J' u over the parameters of one layer (weight, bias or both = all segments
 * with that layer), one sample at a time through the parameter gradient. */
static void gram_by_gradients(netcase *c, const double *u, int layer, lips_role role, double *theta)
{
    double *rows = netcase_random(0, T * c->n_params);
    for (int64_t b = 0; b < B; b++) {
        lips_tensor z;
        for (int64_t t = 0; t < T; t++) {
            netcase_forward(c, b, 1, false, &z);
            netcase_seed(c, 1, u + (b * T + t) * c->classes);
            opcase_ok(lips_exec_grad(c->ex, c->dev_grads));
            opcase_ok(c->ops->read(c->be, rows + t * c->n_params, c->dev_grads, 0, c->n_params));
        }
        for (int64_t t = 0; t < T; t++)
            for (int64_t s = 0; s < T; s++) {
                double sum = 0;
                for (int k = 0; k < c->net->n_segments; k++) {
                    const lips_segment *seg = &c->net->segments[k];
                    bool mine = seg->layer == layer && (!layer || seg->role == role);
                    for (int64_t p = seg->offset; mine && p < seg->offset + seg->count; p++)
                        sum += rows[t * c->n_params + p] * rows[s * c->n_params + p];
                }
                theta[(b * T + t) * T + s] = sum;
            }
    }
    free(rows);
}

static void check_grams(netcase *c, int m, bool want_dx)
{
    int layers = lips_net_layers(c->net);
    int64_t n = B * T * T;
    visits v = {.c = c, .last = layers + 1, .want_dx = want_dx, .norm = shared_doubles(c, n)};
    for (int l = 1; l <= layers; l++) {
        v.theta_weight[l] = shared_doubles(c, n);
        v.theta_bias[l] = shared_doubles(c, n);
    }
    double *u = netcase_random(30, B * T * c->classes), *want = netcase_random(0, n);
    lips_tensor z;
    netcase_forward(c, 0, B, false, &z);
    netcase_seed(c, T, u);
    opcase_ok(lips_exec_vjp(
        c->ex, &(lips_vjp_args){
                   .t = T, .visit = visit, .user = &v, .want_dx = want_dx, .theta_norm = v.norm}));
    opcase_ok(c->ops->sync(c->be));
    assert_int_equal(v.seen, layers);
    char name[200];
    for (int l = 0; l <= layers; l++)
        for (int bias = 0; bias < (l ? 2 : 1); bias++) {
            snprintf(name, sizeof name, "gram of layer %d %s, %s, %s", l, bias ? "bias" : "weight",
                     netcase_models[m].name, c->ops->name);
            gram_by_gradients(c, u, l, bias ? LIPS_ROLE_BIAS : LIPS_ROLE_WEIGHT, want);
            const double *got = !l ? v.norm : bias ? v.theta_bias[l] : v.theta_weight[l];
            assert_true(cmp_check(name, got, want, n, is_ref(c->ops) ? 1e-12 : 1e-4));
        }
    for (int l = 1; l <= layers; l++) {
        c->ops->release(c->be, v.theta_weight[l]);
        c->ops->release(c->be, v.theta_bias[l]);
    }
    c->ops->release(c->be, v.norm);
    free(u), free(want);
}

static void test_grams(void **state)
{
    (void)state;
    for (int i = 0; tested_backend(i); i++)
        for (int m = 0; m < netcase_offered(tested_backend(i)); m++) {
            netcase c;
            /* One gradient per sample, cotangent and layer: resnet18's twenty layers would take a
             * minute there, and are convnet's. */
            if (strcmp(netcase_models[m].spec.kind, "resnet18") == 0 &&
                backend_is_emulated(tested_backend(i)))
                continue;
            netcase_open(&c, tested_backend(i), &netcase_models[m].spec, &all_passes);
            check_grams(&c, m, false);
            check_grams(&c, m, true);
            netcase_close(&c);
        }
}

/* ---- dx of the visitor: through the layer alone, before the mask ---- */

typedef struct layer_dx {
    netcase *c;
    double *dx[MAX_LAYERS];
} layer_dx;

static lips_status keep_dx(void *user, const lips_layer_event *e)
{
    layer_dx *v = user;
    v->dx[e->layer] = netcase_values(v->c, e->dx);
    return LIPS_OK;
}

/* mlp of depth 1: theta_2' u and theta_1' (mask * theta_2' u), by hand. */
static void test_visitor_dx(void **state)
{
    (void)state;
    netcase c;
    netcase_open(&c, lips_backend_find("ref"), &netcase_models[1].spec, &all_passes);
    double *u = netcase_random(40, B * T * c.classes);
    lips_tensor z, dx;
    layer_dx v = {.c = &c};
    netcase_forward(&c, 0, B, false, &z);
    netcase_seed(&c, T, u);
    opcase_ok(lips_exec_vjp(
        c.ex,
        &(lips_vjp_args){
            .t = T, .visit = keep_dx, .user = &v, .want_dx = true, .want_input = true, .dx = &dx}));
    double *at_input = netcase_values(&c, &dx);
    int64_t d = c.features, w = c.net->spec.width, k = c.classes;
    const double *w1 = c.params, *b1 = w1 + w * d, *w2 = b1 + w;
    for (int64_t row = 0; row < B * T; row++)
        for (int64_t i = 0; i < d; i++) {
            double first = 0;
            for (int64_t j = 0; j < w; j++) {
                double hidden = b1[j], second = 0;
                for (int64_t n = 0; n < d; n++)
                    hidden += w1[j * d + n] * c.x[row / T * d + n];
                for (int64_t o = 0; o < k; o++)
                    second += w2[o * w + j] * u[row * k + o];
                assert_true(fabs(v.dx[2][row * w + j] - second) <= 1e-12);
                first += hidden > 0 ? w1[j * d + i] * second : 0;
            }
            assert_true(fabs(v.dx[1][row * d + i] - first) <= 1e-12);
            assert_true(at_input[row * d + i] == v.dx[1][row * d + i]);
        }
    free(u), free(at_input), free(v.dx[1]), free(v.dx[2]);
    netcase_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradient_ref), cmocka_unit_test(test_jvp_ref),
        cmocka_unit_test(test_adjoint),      cmocka_unit_test(test_backends_agree),
        cmocka_unit_test(test_grams),        cmocka_unit_test(test_visitor_dx),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
