/*
 * Layer norm over the channels of each place, vectorised over samples (tokens.h).
 *
 * Work split  per place: statistics of its channels in f64, one pass; then its stacked values in
 * groups of GROUP (places in groups where t = 1), two passes over the channels, which lie far apart
 * but stay in the first or second cache Precision   mean and variance in f64 (differences to the
 * first channel, so that no digits cancel where the mean is large); means of tangents and
 * cotangents in f32 chains over channels Order       channels ascending: the same bits whatever the
 * groups
 */
#include "backend/cpu/isa/f64.h"
#include "backend/cpu/isa/token_kernels.h"

#include <math.h>

enum { GROUP = 4, LANES = LIPS_CPU_LANES };

/* in: channel 0 of one place; next: floats from channel to channel. */
VF_INLINE void place_stats(lips_ln_stats *st, const float *in, int64_t next, int64_t channels,
                           double eps)
{
    const double count = (double)channels;
    for (int h = 0; h < LANES; h += VD_LANES) {
        vd first = vd_load_f32(in + h), sum = vd_set1(0), square = vd_set1(0);
        for (int64_t c = 1; c < channels; c++) {
            vd d = vd_sub(vd_load_f32(in + c * next + h), first);
            sum = vd_add(sum, d);
            square = vd_fma(d, d, square);
        }
        double s[VD_LANES], q[VD_LANES], f[VD_LANES];
        vd_store(s, sum);
        vd_store(q, square);
        vd_store(f, first);
        for (int l = 0; l < VD_LANES; l++) {
            double off = s[l] / count, mean = f[l] + off, var = q[l] / count - off * off;
            double r = 1 / sqrt((var < 0 ? 0 : var) + eps); /* a constant place, rounded */
            float center = (float)mean;
            st->center[h + l] = center;
            st->r[h + l] = (float)r;
            st->rest[h + l] = (float)(((double)center - mean) * r);
        }
    }
}

void LIPS_ISA_FN(lips_cpu_ln_stats)(lips_ln_stats *st, const lips_ln_run *run, int64_t first,
                                    int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        place_stats(&st[i], run->in + (first + i) * run->lanes, run->places * run->lanes,
                    run->channels, run->eps);
}

/* xhat of the lanes h.. */
VF_INLINE vf hat(const float *in, const lips_ln_stats *st, int h)
{
    return vf_fma(vf_sub(vf_load(in + h), vf_load(st->center + h)), vf_load(st->r + h),
                  vf_load(st->rest + h));
}

void LIPS_ISA_FN(lips_cpu_ln_forward)(const lips_ln_run *run)
{
    const int64_t next = run->places * run->lanes;
    for (int64_t p = 0; p < run->places; p++) {
        const float *in = run->in + p * run->lanes;
        float *y = run->y + p * run->lanes;
        lips_ln_stats st;
        place_stats(&st, in, next, run->channels, run->eps);
        for (int64_t c = 0; c < run->channels; c++)
            for (int h = 0; h < LANES; h += VF_LANES)
                vf_store(y + c * next + h,
                         vf_fma(vf_set1(run->after[c]), hat(in + c * next, &st, h),
                                vf_set1(run->beta[c])));
    }
}

/* n values (a constant where this is inlined) that lie `lanes` apart in x and y, with inputs and
 * statistics in_step and st_step apart: 0 where they belong to one place. Lanes h.. */
VF_INLINE void map_group(const lips_ln_run *run, const lips_ln_stats *st, const float *in,
                         const float *x, float *y, int n, int64_t in_step, int st_step, int h)
{
    const int64_t next = run->places * run->lanes, wide = next * run->t, lanes = run->lanes;
    vf mean[GROUP], along[GROUP];
    const vf inverse = vf_set1((float)(1.0 / (double)run->channels));
#pragma GCC unroll 4
    for (int i = 0; i < n; i++)
        mean[i] = along[i] = vf_zero();
    for (int64_t c = 0; c < run->channels; c++) {
        const vf g = vf_set1(run->before ? run->before[c] : 1.0f);
#pragma GCC unroll 4
        for (int i = 0; i < n; i++) {
            vf u = vf_mul(g, vf_load(x + c * wide + i * lanes + h));
            mean[i] = vf_add(mean[i], u);
            along[i] = vf_fma(u, hat(in + c * next + i * in_step, st + i * st_step, h), along[i]);
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < n; i++) {
        mean[i] = vf_mul(mean[i], inverse);
        along[i] = vf_mul(along[i], inverse);
    }
    for (int64_t c = 0; c < run->channels; c++) {
        const vf g = vf_set1(run->before ? run->before[c] : 1.0f);
        const vf a = vf_set1(run->after ? run->after[c] : 1.0f);
#pragma GCC unroll 4
        for (int i = 0; i < n; i++) {
            const lips_ln_stats *s = st + i * st_step;
            vf u = vf_sub(vf_mul(g, vf_load(x + c * wide + i * lanes + h)), mean[i]);
            vf off = vf_mul(along[i], hat(in + c * next + i * in_step, s, h));
            vf_store(y + c * wide + i * lanes + h,
                     vf_mul(vf_mul(a, vf_load(s->r + h)), vf_sub(u, off)));
        }
    }
}

VF_INLINE void map_any(const lips_ln_run *run, const lips_ln_stats *st, const float *in,
                       const float *x, float *y, int64_t n, int64_t in_step, int st_step)
{
    for (int h = 0; h < LANES; h += VF_LANES) {
        switch (n) {
        case 1: map_group(run, st, in, x, y, 1, in_step, st_step, h); break;
        case 2: map_group(run, st, in, x, y, 2, in_step, st_step, h); break;
        case 3: map_group(run, st, in, x, y, 3, in_step, st_step, h); break;
        default: map_group(run, st, in, x, y, 4, in_step, st_step, h); break;
        }
    }
}

static int64_t at_most(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

void LIPS_ISA_FN(lips_cpu_ln_map)(const lips_ln_run *run)
{
    const int64_t lanes = run->lanes, step = run->t == 1 ? GROUP : 1;
    lips_ln_stats st[GROUP];
    for (int64_t p = 0; p < run->places; p += step) {
        const int64_t n = at_most(step, run->places - p);
        const float *in = run->in + p * lanes, *x = run->x + p * run->t * lanes;
        float *y = run->y + p * run->t * lanes;
        LIPS_ISA_FN(lips_cpu_ln_stats)(st, run, p, n);
        if (run->t == 1)
            map_any(run, st, in, x, y, n, lanes, 1);
        for (int64_t t = 0; run->t > 1 && t < run->t; t += GROUP)
            map_any(run, st, in, x + t * lanes, y + t * lanes, at_most(GROUP, run->t - t), 0, 0);
    }
}

void LIPS_ISA_FN(lips_cpu_ln_moments)(double s[16], double d[16], const float *dy, int64_t dy_step,
                                      const float *in, int64_t in_step, const lips_ln_stats *st,
                                      int64_t n)
{
    for (int h = 0; h < LANES; h += VD_LANES) {
        vd sum = vd_load(s + h), dot = vd_load(d + h);
        for (int64_t i = 0; i < n; i++) {
            vd v = vd_load_f32(dy + i * dy_step + h);
            vd x = vd_sub(vd_load_f32(in + i * in_step + h), vd_load_f32(st[i].center + h));
            x = vd_fma(x, vd_load_f32(st[i].r + h), vd_load_f32(st[i].rest + h));
            sum = vd_add(sum, v);
            dot = vd_fma(v, x, dot);
        }
        vd_store(s + h, sum);
        vd_store(d + h, dot);
    }
}

/* ---- second derivatives, t = 1 ---- */

void LIPS_ISA_FN(lips_cpu_ln_motion)(lips_ln_motion *motion, const lips_ln_stats *st,
                                     const lips_ln_run *run, int64_t first, int64_t n)
{
    const int64_t next = run->places * run->lanes;
    const vf inverse = vf_set1((float)(1.0 / (double)run->channels));
    for (int64_t i = 0; i < n; i++)
        for (int h = 0; h < LANES; h += VF_LANES) {
            const int64_t at = (first + i) * run->lanes;
            vf mean = vf_zero(), along = vf_zero();
            for (int64_t c = 0; c < run->channels; c++) {
                vf v = vf_load(run->dot + at + c * next + h);
                mean = vf_add(mean, v);
                along = vf_fma(v, hat(run->in + at + c * next, &st[i], h), along);
            }
            vf_store(motion[i].mean + h, vf_mul(mean, inverse));
            vf_store(motion[i].along + h, vf_mul(along, inverse));
        }
}

/* xhat' of the lanes h.., x = xhat */
VF_INLINE vf hat_dot(const float *dot, vf x, const lips_ln_stats *st, const lips_ln_motion *m,
                     int h)
{
    vf v = vf_sub(vf_load(dot + h), vf_load(m->mean + h));
    return vf_mul(vf_load(st->r + h), vf_sub(v, vf_mul(x, vf_load(m->along + h))));
}

void LIPS_ISA_FN(lips_cpu_ln_grad_dot)(double d[16], const float *dy, const lips_ln_run *run,
                                       const lips_ln_stats *st, const lips_ln_motion *motion,
                                       int64_t channel, int64_t first, int64_t n)
{
    const int64_t next = run->places * run->lanes;
    for (int64_t i = 0; i < n; i++) {
        const int64_t place = (first + i) * run->lanes, at = channel * next + place;
        float moved[LANES];
        for (int h = 0; h < LANES; h += VF_LANES)
            vf_store(moved + h,
                     hat_dot(run->dot + at, hat(run->in + at, &st[i], h), &st[i], &motion[i], h));
        for (int l = 0; l < LANES; l++)
            d[l] += (double)dy[place + l] * (double)moved[l];
    }
}

/* With u = before x: y = (r'/r) r P(u) - r (xhat' mean(xhat u) + xhat mean(xhat' u)), and r'/r = -r
 * mean(xhat dot). */
VF_INLINE void curve_place(const lips_ln_run *run, const lips_ln_stats *st, const lips_ln_motion *m,
                           int64_t at, int h)
{
    const int64_t next = run->places * run->lanes;
    const vf inverse = vf_set1((float)(1.0 / (double)run->channels));
    vf mean = vf_zero(), along = vf_zero(), along_dot = vf_zero();
    for (int64_t c = 0; c < run->channels; c++) {
        vf u = vf_mul(vf_set1(run->before[c]), vf_load(run->x + at + c * next + h));
        vf x = hat(run->in + at + c * next, st, h);
        mean = vf_add(mean, u);
        along = vf_fma(u, x, along);
        along_dot = vf_fma(u, hat_dot(run->dot + at + c * next, x, st, m, h), along_dot);
    }
    mean = vf_mul(mean, inverse);
    along = vf_mul(along, inverse);
    along_dot = vf_mul(along_dot, inverse);
    const vf r = vf_load(st->r + h), shrink = vf_mul(r, vf_load(m->along + h));
    for (int64_t c = 0; c < run->channels; c++) {
        vf u = vf_mul(vf_set1(run->before[c]), vf_load(run->x + at + c * next + h));
        vf x = hat(run->in + at + c * next, st, h);
        vf projected = vf_sub(vf_sub(u, mean), vf_mul(x, along));
        vf turned = vf_mul(hat_dot(run->dot + at + c * next, x, st, m, h), along);
        vf all = vf_fma(shrink, projected, vf_fma(x, along_dot, turned));
        vf_store(run->y + at + c * next + h, vf_sub(vf_zero(), vf_mul(r, all)));
    }
}

void LIPS_ISA_FN(lips_cpu_ln_vjp_dot)(const lips_ln_run *run)
{
    for (int64_t p = 0; p < run->places; p++) {
        lips_ln_stats st;
        lips_ln_motion m;
        LIPS_ISA_FN(lips_cpu_ln_stats)(&st, run, p, 1);
        LIPS_ISA_FN(lips_cpu_ln_motion)(&m, &st, run, p, 1);
        for (int h = 0; h < LANES; h += VF_LANES)
            curve_place(run, &st, &m, p * run->lanes, h);
    }
}
