/* Sums in f64. The order is fixed by the shape and the instruction set. */
#include "backend/cpu/isa/f64.h"
#include "backend/cpu/isa/kernels.h"

/* Four running sums hide the latency of an addition. */
enum { CHAINS = 4 };

static double add_up(const vd s[CHAINS])
{
    double part[VD_LANES], total = 0;
    vd_store(part, vd_add(vd_add(s[0], s[1]), vd_add(s[2], s[3])));
    for (int l = 0; l < VD_LANES; l++)
        total += part[l];
    return total;
}

static vd difference(const float *a, const float *b)
{
    vd x = vd_load_f32(a);
    return b ? vd_sub(x, vd_load_f32(b)) : x;
}

double LIPS_ISA_FN(lips_cpu_diff_sumsq)(const float *a, const float *b, int64_t n)
{
    vd s[CHAINS] = {vd_set1(0), vd_set1(0), vd_set1(0), vd_set1(0)};
    int64_t i = 0;
    for (; i + CHAINS * VD_LANES <= n; i += CHAINS * VD_LANES)
        for (int k = 0; k < CHAINS; k++) {
            vd d = difference(a + i + k * VD_LANES, b ? b + i + k * VD_LANES : NULL);
            s[k] = vd_fma(d, d, s[k]);
        }
    double total = add_up(s);
    for (; i < n; i++) {
        double d = (double)a[i] - (b ? (double)b[i] : 0.0);
        total += d * d;
    }
    return total;
}

double LIPS_ISA_FN(lips_cpu_sum)(const float *x, int64_t n)
{
    vd s[CHAINS] = {vd_set1(0), vd_set1(0), vd_set1(0), vd_set1(0)};
    int64_t i = 0;
    for (; i + CHAINS * VD_LANES <= n; i += CHAINS * VD_LANES)
        for (int k = 0; k < CHAINS; k++)
            s[k] = vd_add(s[k], vd_load_f32(x + i + k * VD_LANES));
    for (; i < n; i += VD_LANES) /* 16 reals are half a round of avx512 */
        s[0] = vd_add(s[0], vd_load_f32(x + i));
    return add_up(s);
}

/* The three sums over blocks: even and odd places run in two chains. */
typedef struct lane_acc {
    vd even[VD_PER_BLOCK], odd[VD_PER_BLOCK];
} lane_acc;

static lane_acc lane_begin(void)
{
    lane_acc a;
    for (int k = 0; k < VD_PER_BLOCK; k++)
        a.even[k] = a.odd[k] = vd_set1(0);
    return a;
}

static void lane_end(double s[LIPS_CPU_LANES], const lane_acc *a)
{
    for (int k = 0; k < VD_PER_BLOCK; k++)
        vd_store(s + k * VD_LANES,
                 vd_add(vd_load(s + k * VD_LANES), vd_add(a->even[k], a->odd[k])));
}

void LIPS_ISA_FN(lips_cpu_lane_sum)(double s[LIPS_CPU_LANES], const float *x, int64_t stride,
                                    int64_t n)
{
    lane_acc a = lane_begin();
    int64_t i = 0;
    for (; i + 2 <= n; i += 2, x += 2 * stride)
        for (int k = 0; k < VD_PER_BLOCK; k++) {
            a.even[k] = vd_add(a.even[k], vd_load_f32(x + k * VD_LANES));
            a.odd[k] = vd_add(a.odd[k], vd_load_f32(x + stride + k * VD_LANES));
        }
    for (int k = 0; i < n && k < VD_PER_BLOCK; k++)
        a.even[k] = vd_add(a.even[k], vd_load_f32(x + k * VD_LANES));
    lane_end(s, &a);
}

static vd add_square(const float *x, vd center, vd sum)
{
    vd d = vd_sub(vd_load_f32(x), center);
    return vd_fma(d, d, sum);
}

void LIPS_ISA_FN(lips_cpu_lane_sumsq)(double s[LIPS_CPU_LANES], const float *x, int64_t stride,
                                      double center, int64_t n)
{
    lane_acc a = lane_begin();
    vd c = vd_set1(center);
    int64_t i = 0;
    for (; i + 2 <= n; i += 2, x += 2 * stride)
        for (int k = 0; k < VD_PER_BLOCK; k++) {
            a.even[k] = add_square(x + k * VD_LANES, c, a.even[k]);
            a.odd[k] = add_square(x + stride + k * VD_LANES, c, a.odd[k]);
        }
    for (int k = 0; i < n && k < VD_PER_BLOCK; k++)
        a.even[k] = add_square(x + k * VD_LANES, c, a.even[k]);
    lane_end(s, &a);
}

void LIPS_ISA_FN(lips_cpu_lane_moments)(double s[LIPS_CPU_LANES], double d[LIPS_CPU_LANES],
                                        const float *y, int64_t y_stride, const float *x,
                                        int64_t x_stride, double center, int64_t n)
{
    lane_acc sum = lane_begin(), dot = lane_begin();
    vd c = vd_set1(center);
    int64_t i = 0;
    for (; i + 2 <= n; i += 2, y += 2 * y_stride, x += 2 * x_stride)
        for (int k = 0; k < VD_PER_BLOCK; k++) {
            vd even = vd_load_f32(y + k * VD_LANES), odd = vd_load_f32(y + y_stride + k * VD_LANES);
            vd x_even = vd_load_f32(x + k * VD_LANES);
            vd x_odd = vd_load_f32(x + x_stride + k * VD_LANES);
            sum.even[k] = vd_add(sum.even[k], even);
            sum.odd[k] = vd_add(sum.odd[k], odd);
            dot.even[k] = vd_fma(even, vd_sub(x_even, c), dot.even[k]);
            dot.odd[k] = vd_fma(odd, vd_sub(x_odd, c), dot.odd[k]);
        }
    for (int k = 0; i < n && k < VD_PER_BLOCK; k++) {
        vd last = vd_load_f32(y + k * VD_LANES);
        sum.even[k] = vd_add(sum.even[k], last);
        dot.even[k] = vd_fma(last, vd_sub(vd_load_f32(x + k * VD_LANES), c), dot.even[k]);
    }
    lane_end(s, &sum);
    lane_end(d, &dot);
}
