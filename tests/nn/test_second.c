/*
 * Second order: Hessian products against differences of gradients, symmetry, Gauss-Newton products
 * against J'HJ, float backends against ref.
 */
#include "../lib/backends.h"
#include "../lib/cmocka_all.h"
#include "../lib/compare.h"
#include "../lib/netcase.h"
#include "../lib/opcase.h"
#include "nn/second.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { B = 5 };

static const lips_exec_spec plan = {.cap = 7, .t = 1, .training = true};

typedef struct second_case {
    netcase n;
    lips_second *second;
    void *dev_v, *dev_out;
    double *z; /* (B,K) logits */
} second_case;

/* dL/dz of the mean cross-entropy, or, given zdot, (d2L/dz2) zdot. In place of zdot. */
static void loss_cotangent(const second_case *c, double *out, const double *zdot)
{
    int64_t k = c->n.classes;
    for (int64_t b = 0; b < B; b++) {
        const double *z = c->z + b * k;
        double sum = 0, mean = 0;
        for (int64_t i = 0; i < k; i++)
            sum += exp(z[i]);
        for (int64_t i = 0; i < k; i++)
            mean += zdot ? exp(z[i]) / sum * zdot[b * k + i] : 0;
        for (int64_t i = 0; i < k; i++) {
            double p = exp(z[i]) / sum;
            out[b * k + i] = (zdot ? p * (zdot[b * k + i] - mean) : p - (i == c->n.labels[b])) / B;
        }
    }
}

static void open_case(second_case *c, const char *backend, int model)
{
    const lips_ops *ops = lips_backend_find(backend);
    lips_tensor z, seed;
    netcase_open(&c->n, ops, &netcase_models[model].spec, &plan);
    netcase_push(&c->n);
    netcase_forward(&c->n, 0, B, false, &z);
    c->z = netcase_values(&c->n, &z);
    opcase_ok(lips_second_create(&c->second, c->n.ex));
    opcase_ok(ops->alloc(c->n.be, &c->dev_v, (size_t)c->n.n_params * ops->real_bytes));
    opcase_ok(ops->alloc(c->n.be, &c->dev_out, (size_t)c->n.n_params * ops->real_bytes));
    double *dz = netcase_random(0, B * c->n.classes);
    loss_cotangent(c, dz, NULL);
    opcase_ok(lips_second_seed(c->second, &seed));
    opcase_ok(ops->upload_f64(c->n.be, &seed, dz));
    opcase_ok(lips_second_primal(c->second));
    free(dz);
}

static void close_case(second_case *c)
{
    lips_second_free(c->second);
    c->n.ops->release(c->n.be, c->dev_v);
    c->n.ops->release(c->n.be, c->dev_out);
    free(c->z);
    netcase_close(&c->n);
}

/* zdot = J v; caller frees. */
static double *tangent(second_case *c, const double *v)
{
    lips_tensor zdot;
    opcase_ok(c->n.ops->write(c->n.be, c->dev_v, 0, v, c->n.n_params));
    opcase_ok(lips_second_jvp(c->second, c->dev_v, &zdot));
    return netcase_values(&c->n, &zdot);
}

/* out (P) = Hessian (or Gauss-Newton) product of the mean cross-entropy of the B samples. */
static void product(second_case *c, const double *v, bool gauss_newton, double *out)
{
    const lips_ops *ops = c->n.ops;
    lips_tensor seed;
    double *zdot = tangent(c, v);
    loss_cotangent(c, zdot, zdot);
    opcase_ok(lips_second_seed_dot(c->second, &seed));
    opcase_ok(ops->upload_f64(c->n.be, &seed, zdot));
    opcase_ok(ops->zero(c->n.be, c->dev_out, (size_t)c->n.n_params * ops->real_bytes));
    opcase_ok(lips_second_vjp(c->second, gauss_newton ? NULL : c->dev_v, c->dev_out));
    opcase_ok(ops->read(c->n.be, out, c->dev_out, 0, c->n.n_params));
    free(zdot);
}

static double dot(const double *a, const double *b, int64_t n)
{
    double s = 0;
    for (int64_t i = 0; i < n; i++)
        s += a[i] * b[i];
    return s;
}

static void test_hessian_differences(void **state)
{
    (void)state;
    for (int m = 0; m < netcase_n_models; m++) {
        second_case c;
        open_case(&c, "ref", m);
        int64_t p = c.n.n_params;
        double *v = netcase_random(30, p), *got = netcase_random(0, p), *hi = netcase_random(0, p),
               *lo = netcase_random(0, p), step = 1e-6;
        product(&c, v, false, got);
        for (int64_t i = 0; i < p; i++)
            c.n.params[i] += step * v[i];
        netcase_grad(&c.n, B, false, hi);
        for (int64_t i = 0; i < p; i++)
            c.n.params[i] -= 2 * step * v[i];
        netcase_grad(&c.n, B, false, lo);
        for (int64_t i = 0; i < p; i++)
            hi[i] = (hi[i] - lo[i]) / (2 * step);
        char name[120];
        snprintf(name, sizeof name, "Hessian product, %s", netcase_models[m].name);
        assert_true(cmp_check(name, got, hi, p, 1e-6));
        free(v), free(got), free(hi), free(lo);
        close_case(&c);
    }
}

/* <u, H v> = <v, H u>, and the same of the Gauss-Newton matrix. */
static void test_symmetry(void **state)
{
    (void)state;
    for (int m = 0; m < netcase_n_models; m++)
        for (int gauss_newton = 0; gauss_newton < 2; gauss_newton++) {
            second_case c;
            open_case(&c, "ref", m);
            int64_t p = c.n.n_params;
            double *u = netcase_random(31, p), *v = netcase_random(32, p),
                   *w = netcase_random(0, p);
            product(&c, v, gauss_newton, w);
            double uhv = dot(u, w, p), scale = sqrt(dot(u, u, p) * dot(w, w, p));
            product(&c, u, gauss_newton, w);
            assert_true(fabs(uhv - dot(v, w, p)) <= 1e-12 * scale);
            assert_true(scale > 0);
            free(u), free(v), free(w);
            close_case(&c);
        }
}

/* <u, G v> = sum_b <J u, H_L J v>: two tangent passes, no cotangent. */
static void test_gauss_newton(void **state)
{
    (void)state;
    for (int m = 0; m < netcase_n_models; m++) {
        second_case c;
        open_case(&c, "ref", m);
        int64_t p = c.n.n_params;
        double *u = netcase_random(33, p), *v = netcase_random(34, p), *gv = netcase_random(0, p);
        product(&c, v, true, gv);
        double *ju = tangent(&c, u), *jv = tangent(&c, v);
        loss_cotangent(&c, jv, jv);
        double want = dot(ju, jv, B * c.n.classes);
        assert_true(fabs(dot(u, gv, p) - want) <= 1e-11 * sqrt(dot(u, u, p) * dot(gv, gv, p)));
        free(u), free(v), free(gv), free(ju), free(jv);
        close_case(&c);
    }
}

/* Rounding of float through a few layers. */
static void test_backends_agree(void **state)
{
    (void)state;
    for (int b = 0; tested_backend(b); b++)
        for (int m = 0; m < netcase_offered(tested_backend(b)); m++) {
            second_case c, ref;
            open_case(&c, tested_backend(b)->name, m);
            open_case(&ref, "ref", m);
            int64_t p = c.n.n_params;
            double *v = netcase_random(35, p), *got = netcase_random(0, p),
                   *want = netcase_random(0, p);
            char name[120];
            for (int gauss_newton = 0; gauss_newton < 2; gauss_newton++) {
                product(&c, v, gauss_newton, got);
                product(&ref, v, gauss_newton, want);
                snprintf(name, sizeof name, "%s product, %s, %s",
                         gauss_newton ? "Gauss-Newton" : "Hessian", netcase_models[m].name,
                         tested_backend(b)->name);
                assert_true(cmp_check(name, got, want, p, 2e-5));
            }
            free(v), free(got), free(want);
            close_case(&c);
            close_case(&ref);
        }
}

static void test_refusals(void **state)
{
    (void)state;
    netcase n;
    lips_second *second = NULL;
    lips_tensor t;
    netcase_open(&n, lips_backend_find("ref"), &netcase_models[1].spec,
                 &(lips_exec_spec){.cap = 3, .t = 0});
    assert_int_equal(lips_second_create(&second, n.ex), LIPS_ERR_USAGE);
    netcase_close(&n);
    netcase_open(&n, lips_backend_find("ref"), &netcase_models[1].spec, &plan);
    opcase_ok(lips_second_create(&second, n.ex));
    assert_int_equal(lips_second_seed(second, &t), LIPS_ERR_USAGE); /* before a forward */
    netcase_push(&n);
    netcase_forward(&n, 0, B, false, &t);
    assert_int_equal(lips_second_vjp(second, n.dev_params, n.dev_grads), LIPS_ERR_USAGE);
    lips_second_free(second);
    lips_second_free(NULL);
    netcase_close(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hessian_differences),
        cmocka_unit_test(test_symmetry),
        cmocka_unit_test(test_gauss_newton),
        cmocka_unit_test(test_backends_agree),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
