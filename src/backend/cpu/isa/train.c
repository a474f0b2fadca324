/*
 * Cross-entropy, SGD, Adam.
 *
 * The softmax is computed in f64 with m = max z and e_k = exp(z_k - m):
 *   loss    log1p(sum of e_k but the maximum's) + m - z_y, so that a loss of 1e-9 keeps its digits
 *   dz_k    scale e_k / sum e;   dz_y  -scale (sum of e_k but the label's) / sum e
 * f32 would lose both to cancellation on an interpolating network. Non-finite logits give a NaN
 * loss.
 */
#include "backend/cpu/isa/kernels.h"

#include <math.h>
#include <string.h>

enum { B = LIPS_CPU_LANES };

/* v = exp(v) for v <= 0, relative error below 2^-50: 2^n exp(r), |r| <= log(2)/2, Taylor to r^13 /
 * 13! (remainder 5e-18). Below -700 it is exp(-700) = 1e-304, which adds nothing to a sum that has
 * a 1. NaN stays. */
static void exp_block(double v[B])
{
    static const double inv_factorial[] = {1.0 / 6227020800,
                                           1.0 / 479001600,
                                           1.0 / 39916800,
                                           1.0 / 3628800,
                                           1.0 / 362880,
                                           1.0 / 40320,
                                           1.0 / 5040,
                                           1.0 / 720,
                                           1.0 / 120,
                                           1.0 / 24,
                                           1.0 / 6,
                                           0.5,
                                           1.0,
                                           1.0};
    /* Adding 1.5 * 2^52 rounds to an integer, which then stands in the low bits. */
    const double magic = 0x1.8p52, log2e = 0x1.71547652b82fep0;
    const double ln2_high = 0x1.62e42fefa3800p-1, ln2_low = 0x1.ef35793c76730p-45;
    for (int l = 0; l < B; l++) {
        double x = v[l] < -700 ? -700 : v[l];
        double shifted = x * log2e + magic, n = shifted - magic;
        double r = (x - n * ln2_high) - n * ln2_low, p = inv_factorial[0];
        for (int k = 1; k < 14; k++)
            p = p * r + inv_factorial[k];
        int64_t bits;
        memcpy(&bits, &shifted, sizeof bits);
        bits = (int64_t)((uint64_t)bits << 52) + INT64_C(0x3ff0000000000000);
        double power;
        memcpy(&power, &bits, sizeof power);
        v[l] = p * power;
    }
}

/* Largest logit of each lane and where it stands first. */
static void find_max(double max[B], int64_t at[B], const lips_cpu_ce *p)
{
    for (int l = 0; l < B; l++) {
        max[l] = (double)p->z[l];
        at[l] = 0;
    }
    for (int64_t k = 1; k < p->classes; k++)
        for (int l = 0; l < B; l++) {
            double z = (double)p->z[k * p->stride + l];
            at[l] = z > max[l] ? k : at[l];
            max[l] = z > max[l] ? z : max[l];
        }
}

typedef struct softmax_sums {
    double all[B], rest[B],
        others[B];   /* of e: every class; all but the maximum; all but the label */
    double label[B]; /* z of the label */
} softmax_sums;

static void add_class(softmax_sums *s, int64_t k, const double max[B], const int64_t at[B],
                      const int64_t label[B], const lips_cpu_ce *p)
{
    const float *z = p->z + k * p->stride;
    double e[B];
    for (int l = 0; l < B; l++)
        e[l] = (double)z[l] - max[l];
    exp_block(e);
    for (int l = 0; l < B; l++) {
        s->all[l] += e[l];
        s->rest[l] += k == at[l] ? 0 * e[l] : e[l]; /* 0 * NaN keeps a NaN */
        s->others[l] += k == label[l] ? 0 : e[l];
        s->label[l] = k == label[l] ? (double)z[l] : s->label[l];
    }
    for (int l = 0; p->dz && l < B; l++)
        p->dz[k * p->stride + l] = (float)e[l];
}

static void write_dz(const softmax_sums *s, const int64_t label[B], const lips_cpu_ce *p)
{
    double factor[B], at_label[B];
    for (int l = 0; l < B; l++) {
        factor[l] = l < p->samples ? p->scale / s->all[l] : 0;
        at_label[l] = -factor[l] * s->others[l];
    }
    for (int64_t k = 0; k < p->classes; k++)
        for (int l = 0; l < B; l++) {
            float *dz = p->dz + k * p->stride + l;
            double v = k == label[l] ? at_label[l] : factor[l] * (double)*dz;
            *dz = l < p->samples ? (float)v : 0.0f;
        }
}

void LIPS_ISA_FN(lips_cpu_cross_entropy)(const lips_cpu_ce *p)
{
    double max[B];
    int64_t at[B], label[B];
    softmax_sums s = {0};
    find_max(max, at, p);
    for (int64_t l = 0; p->pred && l < p->samples; l++)
        p->pred[l] = at[l];
    if (!p->labels)
        return;
    for (int64_t l = 0; l < B; l++)
        label[l] = l < p->samples ? p->labels[l] : 0;
    for (int64_t k = 0; k < p->classes; k++)
        add_class(&s, k, max, at, label, p);
    for (int64_t l = 0; p->loss && l < p->samples; l++)
        p->loss[l] = log1p(s.rest[l]) + (max[l] - s.label[l]);
    if (p->dz)
        write_dz(&s, label, p);
}

/* The last n < VF_LANES values go through buffers of one vector, so that a parameter's bits do not
 * depend on its place. */
VF_INLINE vf load_part(const float *p, int64_t n)
{
    float part[VF_LANES] = {0};
    memcpy(part, p, (size_t)n * sizeof *part);
    return vf_load(part);
}

VF_INLINE void store_part(float *p, int64_t n, vf v)
{
    float part[VF_LANES];
    vf_store(part, v);
    memcpy(p, part, (size_t)n * sizeof *part);
}

VF_INLINE vf load_some(const float *p, int64_t n)
{
    return n < VF_LANES ? load_part(p, n) : vf_load(p);
}

VF_INLINE void store_some(float *p, int64_t n, vf v)
{
    if (n < VF_LANES)
        store_part(p, n, v);
    else
        vf_store(p, v);
}

void LIPS_ISA_FN(lips_cpu_sgd)(const lips_sgd_args *a)
{
    float *p = a->p, *m = a->momentum != 0 ? a->m : NULL;
    const float *g = a->g;
    vf lr = vf_set1((float)-a->lr), mu = vf_set1((float)a->momentum),
       wd = vf_set1((float)a->weight_decay);
    for (int64_t i = 0; i < a->n; i += VF_LANES) {
        int64_t n = a->n - i;
        vf old = load_some(p + i, n), step = load_some(g + i, n);
        if (a->weight_decay != 0)
            step = vf_fma(wd, old, step);
        if (m) {
            step = vf_fma(mu, load_some(m + i, n), step);
            store_some(m + i, n, step);
        }
        store_some(p + i, n, vf_fma(lr, step, old));
    }
}

void LIPS_ISA_FN(lips_cpu_adam)(const lips_adam_args *a)
{
    float *p = a->p, *m = a->m, *v = a->v;
    const float *g = a->g;
    double correction1 = 1 - pow(a->beta1, (double)a->step),
           correction2 = 1 - pow(a->beta2, (double)a->step);
    vf beta1 = vf_set1((float)a->beta1), rest1 = vf_set1((float)(1 - a->beta1));
    vf beta2 = vf_set1((float)a->beta2), rest2 = vf_set1((float)(1 - a->beta2));
    vf root = vf_set1((float)sqrt(correction2)), eps = vf_set1((float)a->eps);
    vf step = vf_set1((float)(-a->lr / correction1)), wd = vf_set1((float)a->weight_decay);
    for (int64_t i = 0; i < a->n; i += VF_LANES) {
        int64_t n = a->n - i;
        vf old = load_some(p + i, n), grad = load_some(g + i, n);
        if (a->weight_decay != 0)
            grad = vf_fma(wd, old, grad);
        vf first = vf_fma(rest1, grad, vf_mul(beta1, load_some(m + i, n)));
        vf second = vf_fma(vf_mul(rest2, grad), grad, vf_mul(beta2, load_some(v + i, n)));
        vf scale = vf_add(vf_div(vf_sqrt(second), root), eps);
        store_some(m + i, n, first);
        store_some(v + i, n, second);
        store_some(p + i, n, vf_fma(step, vf_div(first, scale), old));
    }
}
