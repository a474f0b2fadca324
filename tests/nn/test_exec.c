/* Execution: the memory plan, what a backend must offer, batches smaller than planned, refusals. */
#include "../lib/backends.h"
#include "../lib/cmocka_all.h"
#include "../lib/compare.h"
#include "../lib/netcase.h"
#include "../lib/opcase.h"
#include "nn/plan.h"
#include "nn/second.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- planned bytes are the allocated bytes ---- */

/* A backend with a counting allocator. One test uses it, in one thread. */
static struct {
    const lips_ops *real;
    size_t bytes;
    int calls;
} counted;

static lips_status counting_alloc(lips_backend *be, void **out, size_t bytes)
{
    counted.bytes += bytes;
    counted.calls++;
    return counted.real->alloc(be, out, bytes);
}

static void test_plan_is_what_is_allocated(void **state)
{
    (void)state;
    static const lips_exec_spec specs[] = {
        {1, 0, false}, {17, 0, false}, {17, 0, true}, {5, 3, false}, {16, 10, true}};
    for (int i = 0; tested_backend(i); i++)
        for (int m = 0; m < netcase_offered(tested_backend(i)); m++) {
            lips_net *net;
            size_t bytes[5];
            opcase_ok(lips_net_create(&net, &netcase_models[m].spec));
            for (int k = 0; k < 5; k++) {
                lips_backend *be;
                lips_exec *ex;
                lips_ops ops = *tested_backend(i);
                ops.alloc = counting_alloc;
                counted.real = tested_backend(i);
                counted.bytes = 0, counted.calls = 0;
                opcase_ok(tested_backend(i)->open(&be, 0));
                be->ops = &ops;
                opcase_ok(lips_exec_plan_bytes(net, be, &specs[k], &bytes[k]));
                assert_int_equal(counted.calls, 0);
                opcase_ok(lips_exec_create(&ex, net, be, &specs[k]));
                assert_int_equal(counted.calls, 1);
                assert_true(counted.bytes == bytes[k]);
                lips_exec_free(ex);
                be->ops = tested_backend(i);
                be->ops->close(be);
            }
            assert_true(bytes[1] <=
                        bytes[2]); /* no backward pass: values make room for later ones */
            if (net->n_values > 4)
                assert_true(bytes[1] < bytes[2]);
            lips_net_free(net);
        }
}

static void test_place(void **state)
{
    (void)state;
    for (uint32_t seed = 0; seed < 50; seed++) {
        enum { N = 20 };
        lips_span s[N];
        double *r = netcase_random(100 + seed, 3 * N);
        size_t sum = 0, most = 0;
        for (int i = 0; i < N; i++) {
            s[i].bytes = (size_t)(fabs(r[3 * i]) * 1000);
            s[i].from = (int)(fabs(r[3 * i + 1]) * 10);
            s[i].to = s[i].from + (int)(fabs(r[3 * i + 2]) * 5);
            sum += lips_plan_round(s[i].bytes);
        }
        size_t total = lips_plan_place(s, N);
        for (int i = 0; i < N; i++) {
            most = s[i].offset + s[i].bytes > most ? s[i].offset + s[i].bytes : most;
            assert_true(s[i].offset % LIPS_PLAN_ALIGN == 0);
            for (int k = 0; k < i; k++) {
                bool together = s[i].from <= s[k].to && s[k].from <= s[i].to;
                bool apart = s[i].offset >= s[k].offset + s[k].bytes ||
                             s[k].offset >= s[i].offset + s[i].bytes;
                assert_true(!together || apart);
            }
        }
        assert_true(most == total && total <= sum);
        free(r);
    }
}

/* ---- what a backend must offer ---- */

static lips_status layer_grams(void *user, const lips_layer_event *event)
{
    netcase *c = user;
    double theta[2][4 * 3 * 3] = {{0}};
    return lips_layer_gram(c->ex, event, theta[0], theta[1]);
}

/* On ref, whose shared memory is any memory. */
static void every_pass(netcase *c)
{
    enum { B = 4, T = 3 };
    lips_tensor z, xdot, dx, seed;
    double norms[B * T * T] = {0}, *grads = netcase_random(0, c->n_params);
    double *v = netcase_random(5, B * T * c->features);
    lips_second *second;
    netcase_grad(c, B, true, grads);
    netcase_forward(c, 0, B, false, &z);
    opcase_ok(lips_exec_tangent(c->ex, T, &xdot));
    opcase_ok(c->ops->upload_f64(c->be, &xdot, v));
    opcase_ok(lips_exec_jvp(c->ex, T, &z));
    double *u = netcase_random(6, B * T * c->classes);
    netcase_seed(c, T, u);
    opcase_ok(lips_exec_vjp(c->ex, &(lips_vjp_args){.t = T,
                                                    .want_input = true,
                                                    .dx = &dx,
                                                    .visit = layer_grams,
                                                    .want_dx = true,
                                                    .user = c,
                                                    .theta_norm = norms}));
    opcase_ok(lips_second_create(&second, c->ex));
    netcase_forward(c, 0, B, false, &z);
    opcase_ok(lips_second_seed(second, &seed));
    opcase_ok(c->ops->upload_f64(c->be, &seed, u));
    opcase_ok(lips_second_primal(second));
    opcase_ok(lips_second_jvp(second, c->dev_params, &z));
    opcase_ok(lips_second_seed_dot(second, &seed));
    opcase_ok(c->ops->zero(c->be, c->dev_grads, (size_t)c->n_params * sizeof(double)));
    opcase_ok(lips_second_vjp(second, c->dev_params, c->dev_grads));
    lips_second_free(second);
    free(grads), free(v), free(u);
}

typedef void (*any_fn)(void);

/* The common ones, and those of the node's kind: is slot one of them? */
static bool is_needed(const lips_net *net, size_t slot)
{
    for (int n = 0; n < net->n_nodes; n++)
        for (const lips_need *need = net->nodes[n].kind->needs; need->op; need++)
            if (need->slot == slot)
                return true;
    static const size_t common[] = {offsetof(lips_ops, relu_forward), offsetof(lips_ops, relu_mask),
                                    offsetof(lips_ops, add), offsetof(lips_ops, fill)};
    for (int i = 0; i < 4; i++)
        if (common[i] == slot)
            return true;
    return false;
}

/* Each missing entry of the table is refused by name; without all the entries that a network does
 * not list, every pass of it runs. */
static void test_missing_ops(void **state)
{
    (void)state;
    static const lips_exec_spec all_passes = {4, 3, true};
    const lips_ops *real = lips_backend_find("ref");
    for (int m = 0; m < netcase_n_models; m++) {
        lips_ops poor = *real;
        netcase c;
        lips_net *net;
        int refused = 0;
        opcase_ok(lips_net_create(&net, &netcase_models[m].spec));
        for (size_t slot = offsetof(lips_ops, add); slot < sizeof(lips_ops);
             slot += sizeof(any_fn)) {
            any_fn none = NULL;
            if (!is_needed(net, slot)) {
                memcpy((char *)&poor + slot, &none, sizeof none);
                continue;
            }
            lips_ops lacking = *real;
            lips_backend *be;
            lips_exec *ex;
            memcpy((char *)&lacking + slot, &none, sizeof none);
            opcase_ok(real->open(&be, 0));
            be->ops = &lacking;
            assert_int_equal(lips_exec_create(&ex, net, be, &all_passes), LIPS_ERR_UNSUPPORTED);
            assert_non_null(strstr(lips_error(), "backend ref has no "));
            refused++;
            be->ops = real;
            real->close(be);
        }
        assert_true(refused > 4);
        poor.loss = real->loss;
        lips_net_free(net);
        netcase_open(&c, real, &netcase_models[m].spec, &all_passes);
        c.be->ops = &poor;
        every_pass(&c);
        c.be->ops = real;
        netcase_close(&c);
    }
}

/* ---- b < cap ---- */

typedef struct outcome {
    double *z, *dx, *grads;
} outcome;

static outcome run_batch(netcase *c, int64_t b, bool training)
{
    enum { T = 2 };
    outcome o = {.grads = netcase_random(0, c->n_params)};
    lips_tensor z, dx;
    netcase_grad(c, b, training, o.grads);
    netcase_push(c);
    netcase_forward(c, 0, b, training, &z);
    o.z = netcase_values(c, &z);
    double *u = netcase_random(7, b * T * c->classes);
    netcase_seed(c, T, u);
    opcase_ok(lips_exec_vjp(
        c->ex, &(lips_vjp_args){.t = T, .want_input = true, .dx = &dx, .training = training}));
    o.dx = netcase_values(c, &dx);
    free(u);
    return o;
}

static void outcome_free(outcome *o)
{
    free(o->z), free(o->dx), free(o->grads);
}

static void test_batch_below_cap(void **state)
{
    (void)state;
    const int64_t b = 3;
    for (int i = 0; tested_backend(i); i++)
        for (int m = 0; m < netcase_offered(tested_backend(i)); m++)
            for (int training = 0; training < 2; training++) {
                netcase c[3]; /* fresh; used before; another cap */
                outcome o[3];
                for (int k = 0; k < 3; k++) {
                    netcase_open(
                        &c[k], tested_backend(i), &netcase_models[m].spec,
                        &(lips_exec_spec){.cap = k == 2 ? b : 19, .t = 2, .training = true});
                    if (k == 1) {
                        /* Large values everywhere, in the places that b leaves unused too. */
                        for (int64_t n = 0; n < 19 * c[k].features; n++)
                            c[k].x[n] *= 1e3;
                        outcome full = run_batch(&c[k], 19, training);
                        outcome_free(&full);
                        for (int64_t n = 0; n < 19 * c[k].features; n++)
                            c[k].x[n] = c[0].x[n];
                    }
                    o[k] = run_batch(&c[k], b, training);
                }
                size_t nz = (size_t)(b * c[0].classes), nx = (size_t)(b * 2 * c[0].features);
                assert_memory_equal(o[0].z, o[1].z, nz * sizeof(double));
                assert_memory_equal(o[0].dx, o[1].dx, nx * sizeof(double));
                assert_memory_equal(o[0].grads, o[1].grads, (size_t)c[0].n_params * sizeof(double));
                double tol = tested_backend(i)->real_bytes == 8 ? 1e-13 : 1e-5;
                assert_true(cmp_check("z, other cap", o[2].z, o[0].z, (int64_t)nz, tol));
                assert_true(cmp_check("dx, other cap", o[2].dx, o[0].dx, (int64_t)nx, tol));
                assert_true(
                    cmp_check("grads, other cap", o[2].grads, o[0].grads, c[0].n_params, tol));
                for (int k = 0; k < 3; k++) {
                    outcome_free(&o[k]);
                    netcase_close(&c[k]);
                }
            }
}

/* A forward-only plan computes the same logits; each sample is its own in evaluation mode. */
static void test_forward_only(void **state)
{
    (void)state;
    for (int i = 0; tested_backend(i); i++)
        for (int m = 0; m < netcase_offered(tested_backend(i)); m++) {
            netcase c[2];
            lips_tensor z;
            double *v[3];
            netcase_open(&c[0], tested_backend(i), &netcase_models[m].spec,
                         &(lips_exec_spec){.cap = 9, .t = 1});
            netcase_open(&c[1], tested_backend(i), &netcase_models[m].spec,
                         &(lips_exec_spec){.cap = 9});
            for (int k = 0; k < 2; k++) {
                netcase_forward(&c[k], 0, 9, false, &z);
                v[k] = netcase_values(&c[k], &z);
            }
            int64_t n = c[0].classes;
            assert_memory_equal(v[0], v[1], (size_t)(9 * n) * sizeof(double));
            netcase_forward(&c[1], 4, 1, false, &z);
            v[2] = netcase_values(&c[1], &z);
            assert_true(cmp_check("one sample", v[2], v[0] + 4 * n, n, 1e-6));
            for (int k = 0; k < 3; k++)
                free(v[k]);
            netcase_close(&c[0]), netcase_close(&c[1]);
        }
}

/* Batch norm counts its batches, and only in training mode. */
static void test_batches_tracked(void **state)
{
    (void)state;
    for (int i = 0; tested_backend(i); i++) {
        netcase c;
        lips_tensor z;
        netcase_open(&c, tested_backend(i), &netcase_models[5].spec,
                     &(lips_exec_spec){.cap = 9, .training = true});
        for (int k = 0; k < 5; k++)
            netcase_forward(&c, 0, 4, k < 3, &z);
        const lips_segment *s;
        int n = lips_net_buffer_segments(c.net, &s), seen = 0;
        opcase_ok(c.ops->read(c.be, c.buffers, c.dev_buffers, 0, c.n_buffers));
        for (int k = 0; k < n; k++)
            if (s[k].role == LIPS_ROLE_BATCHES_TRACKED) {
                assert_true(c.buffers[s[k].offset] == 3);
                seen++;
            }
        assert_int_equal(seen, 4);
        netcase_close(&c);
    }
}

/* ---- refusals ---- */

static void refused(lips_status st, const char *text)
{
    if (st != LIPS_ERR_USAGE || !strstr(lips_error(), text))
        fail_msg("expected a refusal with \"%s\", got status %d: %s", text, (int)st, lips_error());
}

static void test_refusals(void **state)
{
    (void)state;
    netcase c, e;
    lips_tensor z, s;
    size_t bytes;
    const lips_ops *ref = lips_backend_find("ref");
    netcase_open(&c, ref, &netcase_models[5].spec,
                 &(lips_exec_spec){.cap = 4, .t = 2, .training = true});
    netcase_open(&e, ref, &netcase_models[5].spec, &(lips_exec_spec){.cap = 4});
    refused(lips_exec_seed(c.ex, 1, &s), "no forward");
    refused(lips_exec_grad(c.ex, c.dev_grads), "no forward");
    lips_exec_input(c.ex)->b = 0;
    refused(lips_exec_forward(c.ex, false, &z), "batch of 0");
    lips_exec_input(c.ex)->b = 5;
    refused(lips_exec_forward(c.ex, false, &z), "1..4");
    netcase_forward(&c, 0, 4, true, &z);
    refused(lips_exec_seed(c.ex, 3, &s), "1..2");
    refused(lips_exec_tangent(c.ex, 0, &s), "1..2");
    refused(lips_exec_grad(c.ex, NULL), "NULL");
    refused(lips_exec_vjp(c.ex, &(lips_vjp_args){.t = 1}), "evaluation mode after");
    refused(lips_layer_gram(c.ex, &(lips_layer_event){.layer = 9}, NULL, NULL), "no layer 9");
    refused(lips_exec_forward(e.ex, true, &z), "not planned");
    netcase_forward(&e, 0, 4, false, &z);
    refused(lips_exec_seed(e.ex, 1, &s), "stacked");
    lips_exec_set_params(e.ex, e.dev_params, NULL);
    refused(lips_exec_forward(e.ex, false, &z), "not set");
    refused(lips_exec_plan_bytes(c.net, c.be, &(lips_exec_spec){.cap = 0}, &bytes), "cap 0");
    refused(lips_exec_plan_bytes(c.net, c.be, &(lips_exec_spec){.cap = 1, .t = -1}, &bytes),
            "t -1");
    refused(lips_exec_plan_bytes(c.net, c.be, &(lips_exec_spec){.cap = INT64_C(1) << 46}, &bytes),
            "must");
    netcase_close(&c), netcase_close(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plan_is_what_is_allocated),
        cmocka_unit_test(test_place),
        cmocka_unit_test(test_missing_ops),
        cmocka_unit_test(test_batch_below_cap),
        cmocka_unit_test(test_forward_only),
        cmocka_unit_test(test_batches_tracked),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
