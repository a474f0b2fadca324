/*
 * Graphs in which a value has several readers, with a layer kind that is defined here alone: y = a
 * + b.
 */
#include "../lib/backends.h"
#include "../lib/cmocka_all.h"
#include "../lib/compare.h"
#include "../lib/netcase.h"
#include "../lib/opcase.h"

#include <math.h>
#include <stdlib.h>

static lips_status sum_setup(lips_net *net, lips_node *node, const lips_node_spec *spec,
                             lips_value *out)
{
    (void)spec;
    const lips_value *x = &net->values[node->in[0]];
    out->c = x->c, out->h = x->h, out->w = x->w;
    return LIPS_OK;
}

static lips_status sum_forward(const lips_call *c)
{
    LIPS_TRY(c->be->ops->add(c->be, &c->y, &c->x[0], &c->x[1]));
    return lips_relu_in_place(c);
}

static lips_status sum_jvp(const lips_call *c, const lips_tensor *xdot, const lips_tensor *ydot)
{
    LIPS_TRY(c->be->ops->add(c->be, ydot, &xdot[0], &xdot[1]));
    return lips_mask_tangent(c, ydot);
}

/* dx = dy, as 0 + dy: there is no copy of tensors. */
static lips_status sum_vjp(const lips_call *c, int which, const lips_tensor *dy,
                           const lips_tensor *dx, const lips_tensor *mask)
{
    (void)which;
    LIPS_TRY(c->be->ops->fill(c->be, dx, 0));
    LIPS_TRY(c->be->ops->add(c->be, dx, dx, dy));
    if (!mask)
        return LIPS_OK;
    return c->be->ops->relu_mask(c->be, &(lips_relu_args){.y = *dx, .x = *dx, .mask = mask});
}

static const lips_kind sum_kind = {.name = "sum",
                                   .n_in = 2,
                                   .setup = sum_setup,
                                   .forward = sum_forward,
                                   .jvp = sum_jvp,
                                   .vjp = sum_vjp};

/* conv+relu -> a; conv(a) + a, relu -> b; b + b -> c (one value twice); c + norm(b), relu -> c;
 * c + conv+relu(c); global pool; linear. */
static lips_net *branched(void)
{
    lips_model_spec spec = {.kind = "branched", .width = 3, .classes = 3, .c = 2, .h = 4, .w = 4};
    const lips_conv_geom g = {3, 1, 1};
    lips_net *net;
    int a, b, c, v;
    opcase_ok(lips_net_begin(&net, &spec));
    lips_node_spec conv = {
        .kind = &lips_kind_conv, .name = "one", .units = 3, .geom = g, .bias = true, .relu = true};
    opcase_ok(lips_net_add(net, &conv, &a));
    conv =
        (lips_node_spec){.kind = &lips_kind_conv, .name = "two", .in = {a}, .units = 3, .geom = g};
    opcase_ok(lips_net_add(net, &conv, &v));
    opcase_ok(
        lips_net_add(net, &(lips_node_spec){.kind = &sum_kind, .in = {v, a}, .relu = true}, &b));
    opcase_ok(lips_net_add(net, &(lips_node_spec){.kind = &sum_kind, .in = {b, b}}, &c));
    opcase_ok(lips_net_add(
        net, &(lips_node_spec){.kind = &lips_kind_batchnorm, .name = "norm", .in = {b}}, &v));
    opcase_ok(
        lips_net_add(net, &(lips_node_spec){.kind = &sum_kind, .in = {c, v}, .relu = true}, &c));
    conv = (lips_node_spec){
        .kind = &lips_kind_conv, .name = "three", .in = {c}, .units = 3, .geom = g, .relu = true};
    opcase_ok(lips_net_add(net, &conv, &v));
    opcase_ok(lips_net_add(net, &(lips_node_spec){.kind = &sum_kind, .in = {c, v}}, &v));
    opcase_ok(lips_net_add(net, &(lips_node_spec){.kind = &lips_kind_avgpool, .in = {v}}, &v));
    opcase_ok(lips_net_add(
        net,
        &(lips_node_spec){
            .kind = &lips_kind_linear, .name = "fc", .in = {v}, .units = 3, .bias = true},
        &v));
    opcase_ok(lips_net_finish(net, v));
    return net;
}

enum { BRANCH_B = 4 };
static const lips_exec_spec branch_exec = {.cap = 6, .t = 2, .training = true};

/* Gradient on ref, after central differences have agreed with it. Caller frees. */
static double *branched_gradient(void)
{
    netcase c;
    const double step = 1e-6;
    netcase_open_net(&c, lips_backend_find("ref"), branched(), &branch_exec);
    double *got = netcase_random(0, c.n_params), *want = netcase_random(0, c.n_params);
    netcase_grad(&c, BRANCH_B, false, got);
    for (int64_t n = 0; n < c.n_params; n++) {
        double at = c.params[n];
        c.params[n] = at + step;
        double hi = netcase_loss(&c, BRANCH_B, false);
        c.params[n] = at - step;
        want[n] = (hi - netcase_loss(&c, BRANCH_B, false)) / (2 * step);
        c.params[n] = at;
    }
    assert_true(cmp_check("branched gradient", got, want, c.n_params, 1e-6));
    free(want);
    netcase_close(&c);
    return got;
}

static double dot(const double *a, const double *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

static void test_branches(void **state)
{
    (void)state;
    double *want = branched_gradient();
    for (int i = 0; tested_backend(i); i++) {
        netcase c;
        bool ref = tested_backend(i)->real_bytes == 8;
        netcase_open_net(&c, tested_backend(i), branched(), &branch_exec);
        double *got = netcase_random(0, c.n_params);
        netcase_grad(&c, BRANCH_B, false, got);
        assert_true(cmp_check("branched gradient", got, want, c.n_params, ref ? 1e-14 : 2e-5));
        lips_tensor z, xdot, ydot, dx;
        int64_t nx = BRANCH_B * c.features, nz = BRANCH_B * c.classes;
        double *v = netcase_random(50, nx), *u = netcase_random(51, nz);
        netcase_forward(&c, 0, BRANCH_B, false, &z);
        opcase_ok(lips_exec_tangent(c.ex, 1, &xdot));
        opcase_ok(c.ops->upload_f64(c.be, &xdot, v));
        opcase_ok(lips_exec_jvp(c.ex, 1, &ydot));
        double *jv = netcase_values(&c, &ydot);
        netcase_seed(&c, 1, u);
        opcase_ok(lips_exec_vjp(c.ex, &(lips_vjp_args){.t = 1, .want_input = true, .dx = &dx}));
        double *ju = netcase_values(&c, &dx), left = dot(u, jv, nz), right = dot(v, ju, nx);
        assert_true(fabs(left - right) <= (ref ? 1e-10 : 1e-4) * fabs(left));
        free(got), free(v), free(u), free(jv), free(ju);
        netcase_close(&c);
    }
    free(want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_branches)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
