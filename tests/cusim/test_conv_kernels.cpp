/*
 * The own kernels of convolutions and linear layers on the emulated device, called directly: every
 * implementation and precision, sizes around the tiles, against plain f64 loops over rounded
 * operands; the same bits in every order of threads.
 */
#include "support.h"

#include "kernels/batched_product.h"
#include "kernels/conv.h"
#include "kernels/linear.h"

#include <math.h>
#include <random>
#include <string>
#include <unistd.h>

extern "C" {
#include "../lib/compare.h"
}

namespace
{

typedef std::vector<float> Floats;
typedef std::vector<double> Doubles;

enum Kernel { TILE, PATCH, WGMMA, NARROW };
const char *const KERNELS[] = {"tile", "patch", "wgmma", "narrow"};

/* Products of operands that both round to s bits differ by up to 2^(1-s) from exact ones; the
 * expected values are taken of the rounded operands, so that what is left are the sums in f32 (cut
 * by the tensor cores, at most 9 * 70 / 8 times: 80 x 2^-24), and for f32 the split (2^-22). */
const double BOUND[] = {1e-6, 5e-6, 5e-6};

std::mt19937 generator(0xc0);

Floats random_floats(size_t n, bool integers)
{
    Floats v(n);
    for (float &f : v)
        f = integers ? (float)((int)(generator() % 7) - 3)
                     : (float)((double)generator() / 4294967296.0 * 2 - 1);
    return v;
}

/* What the precision makes of an operand. */
double operand(float f, lips_precision p)
{
    if (p == LIPS_PRECISION_F32)
        return f;
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    if (p == LIPS_PRECISION_TF32)
        u = (u + 0x1000u) & 0xffffe000u;
    else
        u = (u + 0x7fffu + (u >> 16 & 1)) & 0xffff0000u;
    memcpy(&f, &u, sizeof f);
    return f;
}

Doubles operands(const Floats &v, lips_precision p)
{
    Doubles d(v.size());
    for (size_t i = 0; i < v.size(); i++)
        d[i] = operand(v[i], p);
    return d;
}

struct Case {
    lips_cuda_conv s;
    lips_precision precision;
    Kernel kernel;
    bool integers;
    std::string name() const
    {
        char text[256];
        snprintf(text, sizeof text,
                 "%s precision %d b=%d t=%d (%d,%d,%d)->%d r=%d stride=%d pad=%d%s",
                 KERNELS[kernel], precision, (int)s.b, (int)s.t, (int)s.c, (int)s.h, (int)s.w,
                 (int)s.o, (int)s.r, (int)s.stride, (int)s.pad, integers ? " integers" : "");
        return text;
    }
};

/* Calls f(input place, output place, weight) for every product, places without t and channel. */
template <class F> void walk(const lips_cuda_conv &s, F f)
{
    for (int64_t b = 0; b < s.b; b++)
        for (int64_t p = 0; p < s.oh; p++)
            for (int64_t q = 0; q < s.ow; q++)
                for (int64_t i = 0; i < s.r; i++)
                    for (int64_t j = 0; j < s.r; j++) {
                        const int64_t y = p * s.stride + i - s.pad, x = q * s.stride + j - s.pad;
                        if (y >= 0 && y < s.h && x >= 0 && x < s.w)
                            f((b * s.h + y) * s.w + x, (b * s.oh + p) * s.ow + q, i * s.r + j);
                    }
}

size_t in_size(const lips_cuda_conv &s)
{
    return (size_t)(s.b * s.h * s.w * s.c);
}
size_t out_size(const lips_cuda_conv &s)
{
    return (size_t)(s.b * s.oh * s.ow * s.o);
}
size_t weight_size(const lips_cuda_conv &s)
{
    return (size_t)(s.o * s.c * s.r * s.r);
}

void judge(const Case &c, const char *what, const Floats &got, const Doubles &want)
{
    const Doubles g(got.begin(), got.end());
    const std::string text = std::string(what) + " " + c.name();
    /* FFMA is f32 whatever was asked, so that its operands were not rounded. */
    if (!cmp_check(text.c_str(), g.data(), want.data(), (int64_t)g.size(),
                   c.integers ? 0 : BOUND[c.precision]))
        fail_msg("%s", text.c_str());
}

lips_precision effective(const Case &c)
{
    return c.kernel == NARROW ? LIPS_PRECISION_F32 : c.precision;
}

Floats run_apply(const Case &c, lips_cuda_conv_apply_args a, const Floats &w, size_t n)
{
    const size_t images = std::max(lips_cuda_conv_patch_bytes(&c.s, a.vjp, c.precision),
                                   lips_cuda_conv_wgmma_bytes(&c.s, a.vjp, c.precision));
    Device<float> packed(std::max(weight_size(c.s), images / 4));
    Device<float> weight(w), dst(n);
    a.shape = c.s;
    a.precision = c.precision;
    a.dst = dst.p;
    a.weight = weight.p;
    if (c.kernel == TILE) {
        assert_int_equal(lips_cuda_conv_pack(packed.p, weight.p, &c.s, a.vjp, 0), LIPS_OK);
        a.weight = packed.p;
        assert_int_equal(lips_cuda_conv_apply(&a, 0), LIPS_OK);
    } else if (c.kernel == PATCH) {
        assert_int_equal(lips_cuda_conv_patch_pack(packed.p, weight.p, &c.s, a.vjp, c.precision, 0),
                         LIPS_OK);
        a.weight = packed.p;
        assert_int_equal(lips_cuda_conv_patch(&a, 0), LIPS_OK);
    } else if (c.kernel == WGMMA) {
        assert_int_equal(lips_cuda_conv_wgmma_pack(packed.p, weight.p, &c.s, a.vjp, c.precision, 0),
                         LIPS_OK);
        a.weight = packed.p;
        assert_int_equal(lips_cuda_conv_wgmma(&a, 0), LIPS_OK);
    } else
        assert_int_equal(lips_cuda_conv_narrow(&a, 0), LIPS_OK);
    return dst.read();
}

void case_forward(const Case &c)
{
    const lips_cuda_conv &s = c.s;
    const size_t t = (size_t)s.t, ch = (size_t)s.c, o = (size_t)s.o;
    const Floats x = random_floats(in_size(s) * t, c.integers);
    const Floats w = random_floats(weight_size(s), c.integers), bias = random_floats(o, c.integers);
    const Doubles xd = operands(x, effective(c)), wd = operands(w, effective(c));
    Doubles want(out_size(s) * t);
    walk(s, [&](int64_t in, int64_t out, int64_t place) {
        for (size_t k = 0; k < t; k++)
            for (size_t n = 0; n < o; n++)
                for (size_t i = 0; i < ch; i++)
                    want[((size_t)out * t + k) * o + n] +=
                        xd[((size_t)in * t + k) * ch + i] *
                        wd[(n * ch + i) * (size_t)(s.r * s.r) + (size_t)place];
    });
    Device<float> dx(x), db(bias);
    lips_cuda_conv_apply_args a = {};
    a.src = dx.p;
    judge(c, "forward", run_apply(c, a, w, want.size()), want);
    for (size_t i = 0; i < want.size(); i++)
        want[i] = fmax(0, want[i] + (double)bias[i % o]);
    a.bias = db.p;
    a.relu = true;
    judge(c, "forward with bias and relu", run_apply(c, a, w, want.size()), want);
}

void case_vjp(const Case &c)
{
    const lips_cuda_conv &s = c.s;
    const size_t t = (size_t)s.t, ch = (size_t)s.c, o = (size_t)s.o;
    const Floats y = random_floats(out_size(s) * t, c.integers);
    const Floats w = random_floats(weight_size(s), c.integers);
    const Floats mask = random_floats(in_size(s), c.integers);
    const Doubles yd = operands(y, effective(c)), wd = operands(w, effective(c));
    Doubles want(in_size(s) * t);
    walk(s, [&](int64_t in, int64_t out, int64_t place) {
        for (size_t k = 0; k < t; k++)
            for (size_t n = 0; n < o; n++)
                for (size_t i = 0; i < ch; i++)
                    want[((size_t)in * t + k) * ch + i] +=
                        yd[((size_t)out * t + k) * o + n] *
                        wd[(n * ch + i) * (size_t)(s.r * s.r) + (size_t)place];
    });
    Device<float> dy(y), dm(mask);
    lips_cuda_conv_apply_args a = {};
    a.vjp = true;
    a.src = dy.p;
    judge(c, "vjp", run_apply(c, a, w, want.size()), want);
    for (size_t i = 0; i < want.size(); i++)
        if (!(mask[i / (t * ch) * ch + i % ch] > 0))
            want[i] = 0;
    a.mask = dm.p;
    judge(c, "masked vjp", run_apply(c, a, w, want.size()), want);
}

Floats run_grad(const Case &c, const Floats &x, const Floats &y, int64_t most)
{
    lips_cuda_conv_grad_args a = {};
    a.shape = c.s;
    a.precision = c.precision;
    a.parts = c.kernel == TILE ? lips_cuda_conv_grad_parts(&c.s, most)
                               : lips_cuda_conv_grad_narrow_parts(&c.s, most);
    assert_in_range(a.parts, 1, most);
    Floats start(weight_size(c.s));
    for (size_t i = 0; i < start.size(); i++)
        start[i] = (float)(i % 3);
    Device<float> dx(x), dy(y), dw(start), part(weight_size(c.s) * (size_t)a.parts);
    a.x = dx.p;
    a.dy = dy.p;
    a.dw = dw.p;
    a.part = part.p;
    assert_int_equal(
        c.kernel == TILE ? lips_cuda_conv_grad(&a, 0) : lips_cuda_conv_grad_narrow(&a, 0), LIPS_OK);
    return dw.read();
}

void case_grad(const Case &c)
{
    const lips_cuda_conv &s = c.s;
    const size_t ch = (size_t)s.c, o = (size_t)s.o;
    const Floats x = random_floats(in_size(s), c.integers);
    const Floats y = random_floats(out_size(s), c.integers);
    const Doubles xd = operands(x, effective(c)), yd = operands(y, effective(c));
    Doubles want(weight_size(s));
    for (size_t i = 0; i < want.size(); i++)
        want[i] = (double)(i % 3);
    walk(s, [&](int64_t in, int64_t out, int64_t place) {
        for (size_t n = 0; n < o; n++)
            for (size_t i = 0; i < ch; i++)
                want[(n * ch + i) * (size_t)(s.r * s.r) + (size_t)place] +=
                    xd[(size_t)in * ch + i] * yd[(size_t)out * o + n];
    });
    judge(c, "grad", run_grad(c, x, y, 1000), want);
    judge(c, "grad in one part", run_grad(c, x, y, 1), want);
}

/* b, t, h, w, c, o, r, stride, pad; channels and rows around the tiles of 32, 64 and 128. Those of
 * 3 x 3 and stride 1 have patches of one and of several stacked values, and ragged ones; images
 * smaller than the stride have phases without places. */
const int SHAPES[][9] = {
    {1, 1, 1, 1, 1, 1, 1, 1, 0},     {2, 1, 5, 4, 3, 7, 3, 1, 1},
    {3, 3, 6, 7, 4, 8, 3, 1, 1},     {1, 10, 5, 5, 8, 4, 3, 1, 1},
    {2, 2, 4, 4, 16, 32, 3, 1, 1},   {1, 2, 9, 7, 17, 33, 3, 1, 1},
    {1, 1, 8, 8, 64, 65, 3, 1, 1},   {1, 2, 6, 6, 68, 64, 3, 1, 1},
    {2, 1, 3, 3, 36, 132, 3, 1, 1},  {4, 1, 9, 8, 5, 9, 3, 2, 1},
    {2, 3, 8, 9, 12, 20, 3, 2, 1},   {3, 2, 8, 8, 16, 8, 1, 2, 0},
    {2, 4, 7, 7, 31, 63, 1, 1, 0},   {2, 2, 6, 5, 4, 3, 1, 1, 2},
    {2, 1, 9, 9, 3, 5, 5, 1, 2},     {2, 2, 11, 8, 20, 6, 5, 2, 2},
    {2, 1, 8, 8, 3, 12, 4, 4, 0},    {3, 2, 2, 2, 2, 2, 2, 2, 1},
    {2, 2, 7, 7, 3, 3, 3, 3, 1},     {33, 1, 1, 1, 127, 129, 1, 1, 0},
    {129, 1, 1, 1, 64, 10, 1, 1, 0}, {1, 1, 17, 40, 4, 8, 3, 1, 1},
    {1, 1, 18, 33, 24, 12, 3, 1, 1}, {3, 5, 4, 4, 36, 20, 3, 1, 1},
    {1, 3, 16, 16, 8, 68, 3, 1, 1},  {2, 2, 5, 6, 4, 2, 3, 1, 1},
    {2, 2, 1, 1, 3, 4, 3, 2, 1},     {2, 1, 1, 5, 4, 3, 1, 2, 0},
    {1, 1, 20, 17, 36, 40, 3, 1, 1}, {1, 15, 4, 4, 8, 68, 3, 1, 1},
};

Case make(const int *v, lips_precision precision, Kernel kernel, bool integers)
{
    Case c = {};
    c.s.b = v[0];
    c.s.t = v[1];
    c.s.h = v[2];
    c.s.w = v[3];
    c.s.c = v[4];
    c.s.o = v[5];
    c.s.r = v[6];
    c.s.stride = v[7];
    c.s.pad = v[8];
    c.s.oh = (c.s.h + 2 * c.s.pad - c.s.r) / c.s.stride + 1;
    c.s.ow = (c.s.w + 2 * c.s.pad - c.s.r) / c.s.stride + 1;
    c.precision = precision;
    c.kernel = kernel;
    c.integers = integers;
    return c;
}

enum Pass { FORWARD, VJP, GRAD };

bool offered(const lips_cuda_conv &s, Pass pass, Kernel kernel)
{
    if (kernel == PATCH)
        return pass != GRAD && lips_cuda_conv_patch_offers(&s, pass == VJP);
    if (kernel == WGMMA)
        return pass != GRAD && lips_cuda_conv_wgmma_offers(&s, pass == VJP);
    return true;
}

template <class F> void every_case(F f, Pass pass)
{
    for (const int *shape : SHAPES) {
        int v[9];
        memcpy(v, shape, sizeof v);
        if (pass == GRAD)
            v[1] = 1;
        const lips_cuda_conv s = make(v, LIPS_PRECISION_F32, PATCH, true).s;
        for (const Kernel kernel : {TILE, PATCH, WGMMA})
            for (int k = 0; k < 5; k++) { /* integers in f32 and bf16 */
                const lips_precision precision = (lips_precision)(k == 4 ? 2 : k % 3);
                if (offered(s, pass, kernel))
                    f(make(v, precision, kernel, k >= 3));
            }
        f(make(v, LIPS_PRECISION_F32, NARROW, false));
        f(make(v, LIPS_PRECISION_F32, NARROW, true));
    }
}

void test_forward(void **)
{
    every_case(case_forward, FORWARD);
}

void test_vjp(void **)
{
    every_case(case_vjp, VJP);
}

void test_grad(void **)
{
    every_case(case_grad, GRAD);
}

/* So many rows that a thread of the narrow kernel takes eight of them, and that there are enough
 * tiles of 128 x 64 and 128 x 128. */
void test_many_rows(void **)
{
    const int shapes[][9] = {{4, 69, 32, 31, 4, 8, 3, 1, 1},
                             {5, 54, 33, 31, 4, 2, 3, 1, 1},
                             {5, 54, 33, 31, 5, 2, 3, 1, 1}};
    for (const int *v : shapes) {
        case_forward(make(v, LIPS_PRECISION_F32, NARROW, true));
        case_vjp(make(v, LIPS_PRECISION_F32, NARROW, true));
    }
    const int wide[][9] = {{1, 1, 92, 92, 4, 132, 1, 1, 0}, {1, 2, 92, 92, 8, 64, 1, 1, 0}};
    for (const int *v : wide)
        for (int precision = 0; precision < 3; precision++)
            case_forward(make(v, (lips_precision)precision, TILE, false));
    const int back[][9] = {{1, 1, 92, 92, 132, 4, 1, 1, 0}, {1, 2, 92, 92, 64, 8, 1, 1, 0}};
    for (const int *v : back)
        case_vjp(make(v, LIPS_PRECISION_F32, TILE, true));
}

Floats run_linear_vjp(const int (&v)[4], lips_precision precision, const Floats &y, const Floats &w,
                      const Floats &m, size_t skew)
{
    /* A weight that lies off a 16-byte address takes the path of single floats. */
    Floats skewed(w.size() + skew);
    std::copy(w.begin(), w.end(), skewed.begin() + (long)skew);
    Device<float> dy(y), dw(skewed), mask(m), dx((size_t)(v[0] * v[1] * v[2]));
    lips_cuda_linear_vjp_args a = {};
    a.b = v[0];
    a.t = v[1];
    a.c = v[2];
    a.o = v[3];
    a.dx = dx.p;
    a.dy = dy.p;
    a.w = dw.p + skew;
    a.mask = m.empty() ? nullptr : mask.p;
    a.precision = precision;
    assert_int_equal(lips_cuda_linear_vjp(&a, 0), LIPS_OK);
    return dx.read();
}

void test_linear_vjp(void **)
{
    /* b, t, c, o */
    const int shapes[][4] = {{1, 1, 1, 1},     {31, 1, 32, 33}, {13, 10, 33, 16},
                             {2, 3, 64, 12},   {129, 1, 65, 4}, {5, 3, 132, 63},
                             {64, 2, 127, 31}, {1, 2, 28, 128}, {4230, 2, 132, 4}};
    for (const int(&v)[4] : shapes)
        for (int k = 0; k < 8; k++) {
            const lips_precision p = (lips_precision)(k % 4 % 3);
            const bool integers = k % 4 == 3;
            const size_t t = (size_t)v[1], ch = (size_t)v[2], o = (size_t)v[3];
            const size_t rows = (size_t)v[0] * t;
            const Floats y = random_floats(rows * o, integers), w = random_floats(o * ch, integers);
            const Floats m = random_floats((size_t)v[0] * ch, integers);
            const Doubles yd = operands(y, p), wd = operands(w, p);
            Doubles want(rows * ch);
            for (size_t r = 0; r < rows; r++)
                for (size_t i = 0; i < ch; i++)
                    for (size_t n = 0; n < o && m[r / t * ch + i] > 0; n++)
                        want[r * ch + i] += yd[r * o + n] * wd[n * ch + i];
            const Floats got = run_linear_vjp(v, p, y, w, m, (size_t)(k / 4));
            Case c = {};
            c.precision = p;
            c.integers = integers;
            c.s.b = v[0];
            c.s.t = v[1];
            c.s.c = v[2];
            c.s.o = v[3];
            judge(c, "linear vjp", got, want);
        }
}

/* Element (i,j) of matrix number `number`, and where it is: across says that i lie together. */
batched_product::operand lying(float *at, int64_t rows, int64_t columns, bool across)
{
    return {at, 0, 0, rows * columns, across ? 1 : columns, across ? rows : 1};
}

double element(const Floats &v, const batched_product::operand &o, int64_t number, int64_t i,
               int64_t j)
{
    return (double)v[(size_t)(number * o.stack + i * o.row + j * o.col)];
}

/* Two matrices of each tile and order, with copies of 16 and of 4 bytes, and two terms. */
void test_batched(void **)
{
    const int sizes[][3] = {{52, 48, 20}, {100, 20, 20}, {72, 76, 20},
                            {51, 47, 19}, {101, 19, 21}, {69, 71, 33}};
    for (const int(&v)[3] : sizes)
        for (int order = 0; order < 3; order++) {
            const int64_t m = v[0], n = v[1], k = v[2];
            const Floats a0 = random_floats((size_t)(2 * m * k), false), a1 = a0;
            const Floats b0 = random_floats((size_t)(2 * k * n), false);
            const Floats b1 = random_floats((size_t)(2 * k * n), false);
            Device<float> da0(a0), da1(a1), db0(b0), db1(b1), c((size_t)(2 * m * n));
            batched_product::product p = {};
            p.c = lying(c.p, m, n, false);
            p.a[0] = lying(da0.p, m, k, order == 2);
            p.a[1] = lying(da1.p, m, k, order == 2);
            p.b[0] = lying(db0.p, k, n, order == 0);
            p.b[1] = lying(db1.p, k, n, order == 0);
            p.terms = 2;
            p.m = v[0];
            p.n = v[1];
            p.k = v[2];
            p.alpha = 0.5f;
            p.heads = 1;
            p.stack = 2;
            Doubles want((size_t)(2 * m * n));
            for (int64_t at = 0; at < 2 * m * n; at++) {
                const int64_t number = at / (m * n), i = at / n % m, j = at % n;
                for (int64_t q = 0; q < k; q++)
                    want[(size_t)at] +=
                        0.5 * element(a0, p.a[0], number, i, q) *
                        (element(b0, p.b[0], number, q, j) + element(b1, p.b[1], number, q, j));
            }
            assert_int_equal(lips_cuda_batched_product(p, 2, 0), LIPS_OK);
            Case named = {};
            named.s.c = k;
            named.s.o = n;
            judge(named, "batched product", c.read(), want);
        }
}

/* b, t, c, o of linear layers whose sum goes in parts; the last has a part that is not whole. */
void test_split(void **)
{
    const int shapes[][4] = {{3, 2, 256, 1}, {5, 1, 300, 7}, {2, 3, 1030, 9}, {9, 2, 3072, 12}};
    for (const int(&v)[4] : shapes)
        for (int k = 0; k < 4; k++) {
            const bool vjp = k >= 2, integers = k % 2;
            const size_t t = (size_t)v[1], rows = (size_t)v[0] * t, depth = (size_t)v[2];
            const size_t n = (size_t)v[3];
            const Floats x = random_floats(rows * depth, integers);
            const Floats w = random_floats(depth * n, integers), bias = random_floats(n, integers);
            const Floats m = random_floats((size_t)v[0] * n, integers);
            Doubles want(rows * n);
            for (size_t r = 0; r < rows; r++)
                for (size_t i = 0; i < n; i++) {
                    double sum = 0;
                    for (size_t c = 0; c < depth; c++)
                        sum +=
                            (double)x[r * depth + c] * (double)w[vjp ? c * n + i : i * depth + c];
                    want[r * n + i] =
                        vjp ? (m[r / t * n + i] > 0 ? sum : 0) : fmax(0, sum + (double)bias[i]);
                }
            const int64_t parts = lips_cuda_linear_split_parts((int64_t)depth, (int64_t)n);
            assert_in_range(parts, 2, 16);
            Device<float> src(x), dw(w), db(bias), mask(m), dst(rows * n);
            Device<float> part(rows * n * (size_t)parts);
            lips_cuda_linear_split_args a = {};
            a.b = v[0];
            a.t = v[1];
            a.c = vjp ? v[3] : v[2];
            a.o = vjp ? v[2] : v[3];
            a.vjp = vjp;
            a.relu = !vjp;
            a.dst = dst.p;
            a.part = part.p;
            a.src = src.p;
            a.w = dw.p;
            a.bias = db.p;
            a.mask = mask.p;
            assert_int_equal(lips_cuda_linear_split(&a, 0), LIPS_OK);
            Case c = {};
            c.integers = integers;
            c.s.c = v[2];
            c.s.o = v[3];
            judge(c, vjp ? "split vjp" : "split forward", dst.read(), want);
        }
    assert_int_equal(lips_cuda_linear_split_parts(128, 1), 1);
    assert_int_equal(lips_cuda_linear_split_parts(1024, 1024), 1);
}

void test_ends(void **)
{
    const Floats y = {1, -2, 3, -4, 5, -6}, bias = {1, 0.5f, -4}, mask = {1, 0, NAN, -1, 2, 3};
    Device<float> a(y), b(bias), m(mask);
    assert_int_equal(lips_cuda_affine_end(a.p, b.p, true, 2, 3, 0), LIPS_OK);
    assert_true((a.read() == Floats{2, 0, 0, 0, 5.5f, 0}));
    Device<float> c(y);
    assert_int_equal(lips_cuda_affine_end(c.p, nullptr, false, 2, 3, 0), LIPS_OK);
    assert_true(c.read() == y);
    Device<float> d(Floats{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12});
    assert_int_equal(lips_cuda_mask_end(d.p, m.p, 2, 2, 3, 0), LIPS_OK);
    assert_true((d.read() == Floats{1, 0, 0, 4, 0, 0, 0, 8, 9, 0, 11, 12}));
}

/* Each kernel in each precision, NARROW in one: 10 of them. */
Kernel kernel_of(int k)
{
    static const Kernel kernels[] = {TILE, PATCH, WGMMA, NARROW};
    return kernels[k / 3];
}

/* NaN and infinity reach the outputs that read them, in every precision. */
void test_not_finite(void **)
{
    const int v[9] = {1, 1, 4, 4, 16, 40, 3, 1, 1};
    for (int k = 0; k < 10; k++) {
        const Case c = make(v, (lips_precision)(k % 3), kernel_of(k), false);
        Floats x = random_floats(in_size(c.s), false);
        const Floats w = random_floats(weight_size(c.s), false);
        x[5] = NAN;
        x[15 * 16] = INFINITY;
        Device<float> dx(x);
        lips_cuda_conv_apply_args a = {};
        a.src = dx.p;
        a.relu = true;
        const Floats y = run_apply(c, a, w, out_size(c.s));
        assert_true(isnan(y[0]) && isnan(y[39]) && isnan(y[5 * 40]));
        assert_true(isfinite(y[3 * 40]) && isfinite(y[12 * 40]));
        bool reached = false;
        for (int n = 0; n < 40; n++)
            reached = reached || !isfinite(y[(size_t)(15 * 40 + n)]);
        assert_true(reached);
    }
}

/* The bits of some outputs, printed by a run of this program in another order of threads. */
int print_bits()
{
    uint64_t hash = 1469598103934665603u;
    auto add = [&](const Floats &v) {
        for (float f : v) {
            uint32_t u;
            memcpy(&u, &f, sizeof u);
            hash = (hash ^ u) * 1099511628211u;
        }
    };
    for (const int *v : {SHAPES[3], SHAPES[5], SHAPES[10], SHAPES[21], SHAPES[28]})
        for (int k = 0; k < 10; k++) {
            Case c = make(v, (lips_precision)(k % 3), kernel_of(k), false);
            if (!offered(c.s, FORWARD, c.kernel))
                continue;
            Device<float> x(random_floats(in_size(c.s) * (size_t)c.s.t, false));
            const Floats w = random_floats(weight_size(c.s), false);
            lips_cuda_conv_apply_args a = {};
            a.src = x.p;
            add(run_apply(c, a, w, out_size(c.s) * (size_t)c.s.t));
            c.s.t = 1;
            if (offered(c.s, GRAD, c.kernel))
                add(run_grad(c, random_floats(in_size(c.s), false),
                             random_floats(out_size(c.s), false), 7));
        }
    printf("%016llx\n", (unsigned long long)hash);
    return 0;
}

std::string bits_in_order(const char *order)
{
    char program[512];
    const ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    assert_true(n > 0);
    program[n] = 0;
    const std::string command = std::string("CUSIM_ORDER=") + order + " '" + program + "' bits";
    FILE *f = popen(command.c_str(), "r");
    assert_non_null(f);
    char line[64] = "";
    assert_non_null(fgets(line, sizeof line, f));
    assert_int_equal(pclose(f), 0);
    return line;
}

void test_orders(void **)
{
    const std::string forward = bits_in_order("forward");
    assert_int_equal(forward.size(), 17);
    assert_string_equal(bits_in_order("reverse").c_str(), forward.c_str());
    assert_string_equal(bits_in_order("random:5").c_str(), forward.c_str());
}

void test_refusals(void **)
{
    const int v[9] = {1, 1, 4, 4, 4, 4, 3, 1, 1};
    Case c = make(v, LIPS_PRECISION_F32, TILE, false);
    lips_cuda_conv_apply_args a = {};
    a.shape = c.s;
    a.precision = (lips_precision)3;
    assert_int_equal(lips_cuda_conv_apply(&a, 0), LIPS_ERR_USAGE);
    assert_int_equal(lips_cuda_conv_patch(&a, 0), LIPS_ERR_USAGE);
    assert_int_equal(lips_cuda_conv_wgmma(&a, 0), LIPS_ERR_USAGE); /* 4 columns */
    a.shape.o = 36;
    assert_int_equal(lips_cuda_conv_wgmma(&a, 0), LIPS_ERR_USAGE);
    a.shape.o = 4;
    a.precision = LIPS_PRECISION_F32;
    a.src = (const float *)4;
    assert_int_equal(lips_cuda_conv_patch(&a, 0), LIPS_ERR_USAGE);
    a.src = nullptr;
    a.shape.c = 3;
    assert_int_equal(lips_cuda_conv_patch(&a, 0), LIPS_ERR_USAGE);
    a.shape.h = 20000;
    a.shape.oh = 20000;
    assert_int_equal(lips_cuda_conv_apply(&a, 0), LIPS_ERR_USAGE);
    a.shape.b = INT64_C(1) << 31;
    assert_int_equal(lips_cuda_conv_narrow(&a, 0), LIPS_ERR_USAGE);
    lips_cuda_conv_grad_args g = {};
    g.shape = a.shape;
    g.parts = 1;
    assert_int_equal(lips_cuda_conv_grad(&g, 0), LIPS_ERR_USAGE);
}

} // namespace

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "bits") == 0)
        return print_bits();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward),    cmocka_unit_test(test_vjp),
        cmocka_unit_test(test_grad),       cmocka_unit_test(test_many_rows),
        cmocka_unit_test(test_linear_vjp), cmocka_unit_test(test_batched),
        cmocka_unit_test(test_split),      cmocka_unit_test(test_ends),
        cmocka_unit_test(test_not_finite), cmocka_unit_test(test_orders),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
