/*
 * The layer norm kernels by their wrappers, against plain f64 loops: rows around one, two and four
 * packs a lane and beyond, few and many stacked values, places that are not aligned, means a
 * thousand spreads away from 0; sums per sample in one part and in several.
 */
#include "support.h"

#include "kernels/layer_norm.h"

#include <algorithm>
#include <math.h>

namespace
{

typedef std::vector<float> Floats;
typedef std::vector<double> Doubles;

const double EPS = 1e-6;
/* f32's roundings of xhat, of the product with gamma, of the sum; of f64 sums in another order. */
const double FEW_ROUNDINGS = 4 * 0x1p-24, F64 = 1e-12;

struct Shape {
    int64_t rows, t, c;
    int shift; /* values behind an aligned address */
};

const Shape SHAPES[] = {
    {5, 1, 1, 0},    {9, 3, 4, 0},    {33, 10, 12, 0}, {70, 9, 32, 0},  {6, 17, 33, 0},
    {40, 2, 64, 1},  {9, 3, 48, 0},   {7, 10, 64, 0},  {17, 3, 128, 0}, {5, 8, 132, 0},
    {4, 1, 256, 0},  {3, 9, 260, 0},  {9, 2, 300, 1},  {3, 2, 512, 0},  {2, 11, 516, 0},
    {3, 1, 1024, 0}, {2, 3, 1028, 0}, {600, 1, 24, 0}, {300, 4, 8, 0},  {1100, 1, 10, 0},
};

Floats values(int64_t n, int seed, double mean)
{
    Floats v((size_t)n);
    for (size_t i = 0; i < v.size(); i++)
        v[i] = (float)(mean + ((double)((i * 7919 + (size_t)seed * 104729) % 2003) - 1001) / 577);
    return v;
}

/* v behind `shift` other values. */
struct Placed {
    int shift;
    Device<float> memory;
    Placed(const Floats &v, int by) : shift(by), memory(moved(v, by))
    {
    }
    static Floats moved(const Floats &v, int by)
    {
        Floats all((size_t)by, NAN);
        all.insert(all.end(), v.begin(), v.end());
        return all;
    }
    float *p() const
    {
        return memory.p + shift;
    }
    Floats read() const
    {
        const Floats all = memory.read();
        return Floats(all.begin() + shift, all.end());
    }
};

template <class T>
void close(const char *what, const Shape &z, const std::vector<T> &got, const Doubles &want,
           double tolerance)
{
    double most = 0;
    for (double w : want)
        most = std::max(most, fabs(w));
    for (size_t i = 0; i < want.size(); i++)
        if (!(fabs((double)got[i] - want[i]) <= tolerance * most))
            fail_msg("%s: %d rows, T %d, C %d: [%d] is %.9g, must be %.9g", what, (int)z.rows,
                     (int)z.t, (int)z.c, (int)i, (double)got[i], want[i]);
}

/* xhat of all rows, and r. */
void normalised(const Shape &z, const Floats &x, Doubles &hat, Doubles &r)
{
    for (int64_t row = 0; row < z.rows; row++) {
        double mean = 0, var = 0;
        for (int64_t i = 0; i < z.c; i++)
            mean += (double)x[(size_t)(row * z.c + i)] / (double)z.c;
        for (int64_t i = 0; i < z.c; i++) {
            const double d = (double)x[(size_t)(row * z.c + i)] - mean;
            var += d * d / (double)z.c;
        }
        r.push_back(1 / sqrt(var + EPS));
        for (int64_t i = 0; i < z.c; i++)
            hat.push_back(((double)x[(size_t)(row * z.c + i)] - mean) * r.back());
    }
}

/* r P(gamma u), or gamma r P(u). */
Doubles projected(const Shape &z, const Floats &u, const Floats &gamma, const Doubles &hat,
                  const Doubles &r, bool before)
{
    Doubles out;
    for (int64_t at = 0; at < z.rows * z.t; at++) {
        const size_t row = (size_t)(at / z.t), c = (size_t)z.c;
        double mean = 0, along = 0;
        for (size_t i = 0; i < c; i++) {
            const double v = (double)u[(size_t)at * c + i] * (before ? (double)gamma[i] : 1);
            mean += v / (double)c;
            along += v * hat[row * c + i] / (double)c;
        }
        for (size_t i = 0; i < c; i++) {
            const double g = (double)gamma[i];
            const double v = (double)u[(size_t)at * c + i] * (before ? g : 1);
            out.push_back(r[row] * (v - mean - hat[row * c + i] * along) * (before ? 1 : g));
        }
    }
    return out;
}

struct Operands {
    Floats x, u, gamma, beta;
    Doubles hat, r;
    explicit Operands(const Shape &z)
        : x(values(z.rows * z.c, 1, z.rows % 2 ? 0 : 1000)), u(values(z.rows * z.t * z.c, 2, 0)),
          gamma(values(z.c, 3, 1)), beta(values(z.c, 4, 0))
    {
        normalised(z, x, hat, r);
    }
};

void test_rows(void **)
{
    for (const Shape &z : SHAPES) {
        const Operands o(z);
        Placed in(o.x, z.shift), u(o.u, z.shift), gamma(o.gamma, 1), beta(o.beta, 3);
        Placed y(Floats(o.x.size(), NAN), z.shift), out(Floats(o.u.size(), NAN), z.shift);
        const lips_cuda_ln a = {z.rows, z.t, z.c, gamma.p(), beta.p(), EPS};
        Doubles want;
        for (size_t i = 0; i < o.hat.size(); i++)
            want.push_back((double)o.gamma[i % (size_t)z.c] * o.hat[i] +
                           (double)o.beta[i % (size_t)z.c]);
        assert_int_equal(lips_cuda_ln_forward(&a, y.p(), in.p(), 0), LIPS_OK);
        close("forward", z, y.read(), want, FEW_ROUNDINGS);
        assert_int_equal(lips_cuda_ln_jvp(&a, out.p(), u.p(), in.p(), 0), LIPS_OK);
        close("jvp", z, out.read(), projected(z, o.u, o.gamma, o.hat, o.r, false), FEW_ROUNDINGS);
        assert_int_equal(lips_cuda_ln_vjp(&a, out.p(), u.p(), in.p(), 0), LIPS_OK);
        close("vjp", z, out.read(), projected(z, o.u, o.gamma, o.hat, o.r, true), FEW_ROUNDINGS);
    }
}

/* sums[s][t] = (sum dy xhat, sum dy) over the places of each of b samples. */
Doubles sums_of(const Shape &z, const Operands &o, int64_t b)
{
    const size_t c = (size_t)z.c, t = (size_t)z.t, places = (size_t)(z.rows / b);
    Doubles sums((size_t)b * t * 2 * c);
    for (size_t i = 0; i < o.u.size(); i++) {
        const size_t channel = i % c, k = i / c % t, row = i / (c * t);
        double *to = &sums[(row / places * t + k) * 2 * c + channel];
        to[0] += (double)o.u[i] * o.hat[row * c + channel];
        to[c] += (double)o.u[i];
    }
    return sums;
}

void test_sums(void **)
{
    bool several = false;
    for (const Shape &z : SHAPES) {
        const Operands o(z);
        const int64_t b = z.rows % 3 ? 1 : 3, places = z.rows / b;
        Placed in(o.x, z.shift), dy(o.u, z.shift);
        const lips_cuda_ln a = {z.rows, z.t, z.c, nullptr, nullptr, EPS};
        Device<double> sums(lips_cuda_ln_sums_bytes(&a, places) / sizeof(double));
        int64_t parts = 0;
        assert_int_equal(lips_cuda_ln_sums(&a, sums.p, &parts, dy.p(), in.p(), places, 0), LIPS_OK);
        const Doubles part = sums.read(), want = sums_of(z, o, b);
        const size_t sample = want.size() / (size_t)b;
        assert_true(parts >= 1 && want.size() * (size_t)parts <= part.size());
        several |= parts > 1;
        Doubles got(want.size());
        for (size_t i = 0; i < want.size() * (size_t)parts; i++)
            got[i / (sample * (size_t)parts) * sample + i % sample] += part[i];
        close("sums", z, got, want, F64);
    }
    assert_true(several);
}

void test_gradients(void **)
{
    for (Shape z : SHAPES) {
        z.t = 1;
        const Operands o(z);
        const size_t c = (size_t)z.c;
        Placed in(o.x, z.shift), dy(o.u, z.shift);
        Placed dgamma(Floats(c, 0), 1), dbeta(Floats(c, 0), 0);
        const lips_cuda_ln a = {z.rows, 1, z.c, nullptr, nullptr, EPS};
        Device<double> scratch(lips_cuda_ln_grad_bytes(&a) / sizeof(double));
        assert_int_equal(
            lips_cuda_ln_grad(&a, dgamma.p(), dbeta.p(), dy.p(), in.p(), nullptr, scratch.p, 0),
            LIPS_OK);
        const Doubles want = sums_of(z, o, 1);
        close("dgamma", z, dgamma.read(), Doubles(want.begin(), want.begin() + z.c), FEW_ROUNDINGS);
        close("dbeta", z, dbeta.read(), Doubles(want.begin() + z.c, want.end()), FEW_ROUNDINGS);
    }
}

} // namespace

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_gradients),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
