/* Bias, ReLU, masks, pooling, affine maps of channels: each reads and writes its operands once. */
#include "backend/cpu/isa/kernels.h"

void LIPS_ISA_FN(lips_cpu_add)(float *y, const float *a, const float *b, int64_t n)
{
    for (int64_t i = 0; i < n; i += VF_LANES)
        vf_store(y + i, vf_add(vf_load(a + i), vf_load(b + i)));
}

void LIPS_ISA_FN(lips_cpu_relu)(float *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += VF_LANES)
        vf_store(y + i, vf_relu(vf_load(x + i)));
}

void LIPS_ISA_FN(lips_cpu_mask)(float *y, const float *x, const float *mask, int64_t rows,
                                int64_t t, int64_t lanes)
{
    if (t == 1) { /* one long row */
        for (int64_t i = 0; i < rows * lanes; i += VF_LANES)
            vf_store(y + i, vf_where_pos(vf_load(mask + i), vf_load(x + i)));
        return;
    }
    for (int64_t r = 0; r < rows; r++)
        for (int64_t l = 0; l < lanes; l += VF_LANES) {
            vf m = vf_load(mask + r * lanes + l);
            for (int64_t i = 0; i < t; i++) {
                int64_t at = (r * t + i) * lanes + l;
                vf_store(y + at, vf_where_pos(m, vf_load(x + at)));
            }
        }
}

void LIPS_ISA_FN(lips_cpu_bias)(float *y, const float *bias, bool relu, int64_t rows, int64_t n)
{
    for (int64_t r = 0; r < rows; r++, y += n) {
        vf b = vf_set1(bias ? bias[r] : 0.0f);
        if (relu)
            for (int64_t i = 0; i < n; i += VF_LANES)
                vf_store(y + i, vf_relu(vf_add(vf_load(y + i), b)));
        else
            for (int64_t i = 0; i < n; i += VF_LANES)
                vf_store(y + i, vf_add(vf_load(y + i), b));
    }
}

/* kh, kw are constants where this is inlined. Rows of the window are summed apart, so that an 8 x 8
 * mean rounds 16 times, not 64. */
VF_INLINE void pool(float *restrict y, const float *restrict x, const lips_cpu_pool *p, int64_t kh,
                    int64_t kw)
{
    int64_t inner = p->t * p->lanes, row = p->ow * kw * inner;
    vf scale = vf_set1((float)(1.0 / (double)(kh * kw)));
    for (int64_t cy = 0; cy < p->c * p->oh; cy++, x += kh * row)
        for (int64_t ox = 0; ox < p->ow; ox++)
            for (int64_t i = 0; i < inner; i += VF_LANES) {
                const float *from = x + ox * kw * inner + i;
                vf sum = vf_zero();
                for (int64_t ky = 0; ky < kh; ky++) {
                    vf part = vf_load(from + ky * row);
                    for (int64_t kx = 1; kx < kw; kx++)
                        part = vf_add(part, vf_load(from + ky * row + kx * inner));
                    sum = vf_add(sum, part);
                }
                vf_store(y + (cy * p->ow + ox) * inner + i, vf_mul(sum, scale));
            }
}

void LIPS_ISA_FN(lips_cpu_pool)(float *y, const float *x, const lips_cpu_pool *p)
{
    if (p->kh == 2 && p->kw == 2)
        pool(y, x, p, 2, 2);
    else
        pool(y, x, p, p->kh, p->kw);
}

/* One row of the image, window by window. */
VF_INLINE void unpool_row(float *restrict dx, const float *restrict dy, const float *restrict mask,
                          const lips_cpu_pool *p, int64_t kw, vf scale)
{
    int64_t t = p->t, lanes = p->lanes;
    for (int64_t ox = 0; ox < p->ow; ox++, dy += t * lanes, dx += kw * t * lanes)
        for (int64_t i = 0; i < t; i++)
            for (int64_t l = 0; l < lanes; l += VF_LANES) {
                vf v = vf_mul(vf_load(dy + i * lanes + l), scale);
                for (int64_t kx = 0; kx < kw; kx++) {
                    int64_t at = (ox * kw + kx) * lanes + l;
                    vf_store(dx + (kx * t + i) * lanes + l,
                             mask ? vf_where_pos(vf_load(mask + at), v) : v);
                }
            }
}

void LIPS_ISA_FN(lips_cpu_unpool)(float *dx, const float *dy, const float *mask,
                                  const lips_cpu_pool *p)
{
    int64_t w = p->ow * p->kw;
    vf scale = vf_set1((float)(1.0 / (double)(p->kh * p->kw)));
    for (int64_t cy = 0; cy < p->c * p->oh; cy++, dy += p->ow * p->t * p->lanes)
        for (int64_t ky = 0; ky < p->kh; ky++, dx += w * p->t * p->lanes) {
            if (p->kw == 2 && mask)
                unpool_row(dx, dy, mask, p, 2, scale);
            else
                unpool_row(dx, dy, mask, p, p->kw, scale);
            mask += mask ? w * p->lanes : 0;
        }
}

void LIPS_ISA_FN(lips_cpu_affine)(float *y, const float *x, float center, float a, float b,
                                  int64_t n)
{
    vf vcenter = vf_set1(center), va = vf_set1(a), vb = vf_set1(b);
    for (int64_t i = 0; i < n; i += VF_LANES)
        vf_store(y + i, vf_fma(vf_sub(vf_load(x + i), vcenter), va, vb));
}

void LIPS_ISA_FN(lips_cpu_affine2)(const lips_cpu_affine2 *p)
{
    vf center = vf_set1(p->center), a = vf_set1(p->a), b = vf_set1(p->b), c = vf_set1(p->c);
    for (int64_t i = 0; i < p->n; i++)
        for (int64_t l = 0; l < LIPS_CPU_LANES; l += VF_LANES) {
            vf x = vf_sub(vf_load(p->x + i * p->x_stride + l), center);
            int64_t at = i * p->dy_stride + l;
            vf_store(p->y + at, vf_fma(vf_load(p->dy + at), a, vf_fma(x, b, c)));
        }
}
