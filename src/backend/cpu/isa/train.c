/*
 * Cross-entropy, SGD, Adam.
 *
 * The softmax is computed in f64 with m = max z and e_k = exp(z_k - m):
 *   loss    log1p(sum of e_k but the maximum's) + m - z_y, so that a loss of 1e-9 keeps its digits
 *   dz_k    scale e_k / sum e;   dz_y  -scale (sum of e_k but the label's) / sum e
 * f32 would lose both to cancellation on an interpolating network. Non-finite logits give a NaN
 * loss.
 */
#include "backend/cpu/isa/f64.h"
#include "backend/cpu/isa/kernels.h"

#include <math.h>
#include <string.h>

/* Largest logit of each sample, and the first class that has it. */
static vd find_max(vd *at, const float *z, const lips_cpu_ce *p)
{
    vd max = vd_load_f32(z);
    *at = vd_set1(0);
    for (int64_t k = 1; k < p->classes; k++) {
        vd zk = vd_load_f32(z + k * p->stride);
        *at = vd_if_greater(zk, max, vd_set1((double)k), *at);
        max = vd_if_greater(zk, max, zk, max);
    }
    return max;
}

/* Sums of e over every class, all but the maximum, all but the label; and z of the label. */
typedef struct softmax_sums {
    vd all, rest, others, label_z;
} softmax_sums;

/* e goes to dz, if that is wanted. */
static softmax_sums add_classes(const float *z, float *dz, vd max, vd at, vd label,
                                const lips_cpu_ce *p)
{
    const vd zero = vd_set1(0);
    softmax_sums s = {zero, zero, zero, zero};
    for (int64_t k = 0; k < p->classes; k++) {
        vd zk = vd_load_f32(z + k * p->stride), here = vd_set1((double)k);
        vd e = vd_exp(vd_sub(zk, max));
        s.all = vd_add(s.all, e);
        s.rest = vd_add(s.rest, vd_if_equal(at, here, zero, e));
        s.others = vd_add(s.others, vd_if_equal(label, here, zero, e));
        s.label_z = vd_if_equal(label, here, zk, s.label_z);
        if (dz)
            vd_store_f32(dz + k * p->stride, e);
    }
    return s;
}

/* Sample by sample, VD_LANES at once. */
static void cross_entropy(const lips_cpu_ce *p, int64_t first, const double label[VD_LANES],
                          double loss[VD_LANES], double pred[VD_LANES])
{
    const float *z = p->z + first;
    float *dz = p->dz ? p->dz + first : NULL;
    vd at, max = find_max(&at, z, p), y = vd_load(label);
    vd_store(pred, at);
    if (!p->labels)
        return;
    softmax_sums s = add_classes(z, dz, max, at, y, p);
    /* all - all: nothing, but a NaN of the maximum's own e. */
    vd rest = vd_add(s.rest, vd_sub(s.all, s.all));
    vd_store(loss, vd_add(vd_log1p(rest), vd_sub(max, s.label_z)));
    vd factor = vd_div(vd_set1(p->scale), s.all);
    vd at_label = vd_mul(vd_sub(vd_set1(0), factor), s.others);
    for (int64_t k = 0; dz && k < p->classes; k++) {
        vd v = vd_mul(factor, vd_load_f32(dz + k * p->stride));
        vd_store_f32(dz + k * p->stride, vd_if_equal(y, vd_set1((double)k), at_label, v));
    }
}

void LIPS_ISA_FN(lips_cpu_cross_entropy)(const lips_cpu_ce *p)
{
    double label[LIPS_CPU_LANES] = {0}, loss[LIPS_CPU_LANES], pred[LIPS_CPU_LANES];
    for (int64_t l = 0; p->labels && l < p->samples; l++)
        label[l] = (double)p->labels[l];
    for (int64_t l = 0; l < LIPS_CPU_LANES; l += VD_LANES)
        cross_entropy(p, l, label + l, loss + l, pred + l);
    for (int64_t l = 0; l < p->samples; l++) {
        if (p->loss)
            p->loss[l] = loss[l];
        if (p->pred)
            p->pred[l] = (int64_t)pred[l];
    }
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
    vf inv_root = vf_set1((float)(1 / sqrt(correction2))), eps = vf_set1((float)a->eps);
    vf step = vf_set1((float)(-a->lr / correction1)), wd = vf_set1((float)a->weight_decay);
    for (int64_t i = 0; i < a->n; i += VF_LANES) {
        int64_t n = a->n - i;
        vf old = load_some(p + i, n), grad = load_some(g + i, n);
        if (a->weight_decay != 0)
            grad = vf_fma(wd, old, grad);
        vf first = vf_fma(rest1, grad, vf_mul(beta1, load_some(m + i, n)));
        vf second = vf_fma(vf_mul(rest2, grad), grad, vf_mul(beta2, load_some(v + i, n)));
        vf scale = vf_fma(vf_sqrt(second), inv_root, eps);
        store_some(m + i, n, first);
        store_some(v + i, n, second);
        store_some(p + i, n, vf_fma(step, vf_div(first, scale), old));
    }
}
