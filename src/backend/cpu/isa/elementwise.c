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

/* Rows of the window are summed apart, so that an 8 x 8 mean rounds 16 times, not 64. */
void LIPS_ISA_FN(lips_cpu_pool)(float *y, const float *x, const lips_cpu_pool *p)
{
    int64_t inner = p->t * p->lanes, row = p->ow * p->kw * inner;
    vf scale = vf_set1((float)(1.0 / (double)(p->kh * p->kw)));
    for (int64_t cy = 0; cy < p->c * p->oh; cy++)
        for (int64_t ox = 0; ox < p->ow; ox++)
            for (int64_t i = 0; i < inner; i += VF_LANES) {
                const float *from = x + cy * p->kh * row + ox * p->kw * inner + i;
                vf sum = vf_zero();
                for (int64_t ky = 0; ky < p->kh; ky++) {
                    vf part = vf_load(from + ky * row);
                    for (int64_t kx = 1; kx < p->kw; kx++)
                        part = vf_add(part, vf_load(from + ky * row + kx * inner));
                    sum = vf_add(sum, part);
                }
                vf_store(y + (cy * p->ow + ox) * inner + i, vf_mul(sum, scale));
            }
}

void LIPS_ISA_FN(lips_cpu_unpool)(float *dx, const float *dy, const float *mask,
                                  const lips_cpu_pool *p)
{
    int64_t inner = p->t * p->lanes, w = p->ow * p->kw, rows = p->c * p->oh * p->kh;
    vf scale = vf_set1((float)(1.0 / (double)(p->kh * p->kw)));
    for (int64_t r = 0; r < rows; r++)
        for (int64_t x = 0; x < w; x++) {
            const float *from = dy + (r / p->kh * p->ow + x / p->kw) * inner;
            const float *m = mask ? mask + (r * w + x) * p->lanes : NULL;
            float *to = dx + (r * w + x) * inner;
            for (int64_t i = 0; i < p->t; i++)
                for (int64_t l = 0; l < p->lanes; l += VF_LANES) {
                    vf v = vf_mul(vf_load(from + i * p->lanes + l), scale);
                    vf_store(to + i * p->lanes + l, m ? vf_where_pos(vf_load(m + l), v) : v);
                }
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
