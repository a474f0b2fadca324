/*
 * Kernels that walk over memory, called directly at addresses that no tensor of the cuda backend
 * has (not 16-byte aligned, so one value at a time), and at sizes around a pack, a warp and a
 * block; against plain loops. The values beside the output stay as they were.
 */
#include "support.h"

#include "kernels/gelu.h"
#include "kernels/reduce.h"
#include "kernels/relu.h"
#include "kernels/tensor.h"

#include <cmath>
#include <math.h>
#include <string.h>

namespace
{

typedef std::vector<float> Floats;

const int64_t SIZES[] = {1, 2, 3, 4, 5, 31, 32, 33, 127, 128, 129, 255, 256, 257, 1023, 1025};
const float FENCE = -12345;

Floats values(int64_t n, int seed)
{
    Floats v((size_t)n);
    for (size_t i = 0; i < v.size(); i++)
        v[i] = (float)((int)((i * 37 + (size_t)seed * 11) % 101) - 50) / 16;
    return v;
}

/* n values in device memory, `shift` values behind an aligned address, a fence on both sides. */
struct Shifted {
    int64_t n, shift;
    Device<float> memory;
    Shifted(const Floats &v, int64_t by) : n((int64_t)v.size()), shift(by), memory(fenced(v, by))
    {
    }
    static Floats fenced(const Floats &v, int64_t by)
    {
        Floats all((size_t)by + v.size() + 4 + 4, FENCE);
        std::copy(v.begin(), v.end(), all.begin() + 4 + by);
        return all;
    }
    float *p() const
    {
        return memory.p + 4 + shift;
    }
    Floats read() const
    {
        const Floats all = memory.read();
        for (size_t i = 0; i < all.size(); i++)
            if ((int64_t)i < 4 + shift || (int64_t)i >= 4 + shift + n)
                assert_true(all[i] == FENCE);
        return Floats(all.begin() + 4 + shift, all.begin() + 4 + shift + n);
    }
};

void same(const char *what, int64_t n, int64_t shift, const Floats &got, const Floats &want)
{
    for (size_t i = 0; i < want.size(); i++)
        if (got[i] != want[i])
            fail_msg("%s: n %d, shifted by %d: [%d] is %g, must be %g", what, (int)n, (int)shift,
                     (int)i, (double)got[i], (double)want[i]);
}

/* Calls f(n, shift of the output, shift of the inputs). */
template <class F> void walk(F f)
{
    const int64_t shifts[][2] = {{0, 0}, {1, 1}, {0, 3}, {2, 0}};
    for (int64_t n : SIZES)
        for (const int64_t *s : shifts)
            f(n, s[0], s[1]);
}

void test_maps(void **)
{
    walk([](int64_t n, int64_t to, int64_t from) {
        const Floats x = values(n, 1);
        Floats relu(x), gelu(x);
        for (size_t i = 0; i < x.size(); i++) {
            relu[i] = x[i] < 0 ? 0 : x[i];
            gelu[i] = (float)((double)x[i] * 0.5 * erfc(-(double)x[i] * sqrt(0.5)));
        }
        Shifted in(x, from), out(Floats((size_t)n), to);
        assert_int_equal(lips_cuda_relu(out.p(), in.p(), n, 0), LIPS_OK);
        same("relu", n, to, out.read(), relu);
        assert_int_equal(lips_cuda_gelu(out.p(), in.p(), n, 0), LIPS_OK);
        const Floats got = out.read();
        for (size_t i = 0; i < got.size(); i++) /* one rounding to f32, then f64's */
            assert_true(fabs((double)(got[i] - gelu[i])) <= 1.2e-7 * fabs((double)gelu[i]));
    });
}

/* Floats of both signs from the least to beyond 16, evenly by their bits, then what is special. */
Floats all_magnitudes()
{
    Floats x;
    for (uint32_t bits = 0; bits < 0x41880000u; bits += 4001)
        for (uint32_t sign = 0; sign < 2; sign++) {
            const uint32_t b = bits | sign << 31;
            float f;
            memcpy(&f, &b, sizeof f);
            x.push_back(f);
        }
    for (float f : {14.5f, -14.5f, 1e30f, -1e30f, INFINITY, -INFINITY, NAN})
        x.push_back(f);
    return x;
}

/* Distance in units of the last place of `want`; of the least float where that is denormal. */
double units(float got, double want)
{
    int e;
    frexp(want, &e);
    return fabs((double)got - want) / ldexp(1, (e < -125 ? -125 : e) - 24);
}

/* The bounds that kernels/normal.h states. */
void test_normal(void **)
{
    const Floats x = all_magnitudes();
    const int64_t n = (int64_t)x.size();
    Shifted in(x, 0), ones(Floats(x.size(), 1), 0), out(Floats(x.size()), 0);
    assert_int_equal(lips_cuda_gelu(out.p(), in.p(), n, 0), LIPS_OK);
    const Floats gelu = out.read();
    assert_int_equal(lips_cuda_gelu_slope(out.p(), ones.p(), in.p(), 1, 1, n, 0), LIPS_OK);
    const Floats slope = out.read();
    for (size_t i = 0; i < x.size(); i++) {
        const double v = (double)x[i], phi = 0.5 * erfc(-v * sqrt(0.5));
        const double want = v * phi, turn = phi + v * exp(-0.5 * v * v) * sqrt(0.5 / M_PI);
        if (std::isfinite(want) ? !(units(gelu[i], want) <= 1.75)
                                : (double)gelu[i] != want && !(want != want && gelu[i] != gelu[i]))
            fail_msg("gelu(%.9g) is %.9g, must be %.9g", v, (double)gelu[i], want);
        if (std::isfinite(v) ? !(fabs((double)slope[i] - turn) <= 2.5 * 0x1p-24)
                             : !std::isnan(slope[i]))
            fail_msg("gelu'(%.9g) is %.9g, must be %.9g", v, (double)slope[i], turn);
    }
}

void test_fill_and_add(void **)
{
    walk([](int64_t n, int64_t to, int64_t from) {
        const Floats a = values(n, 2), b = values(n, 3);
        Floats sum(a);
        for (size_t i = 0; i < sum.size(); i++)
            sum[i] += b[i];
        Shifted in(a, from), other(b, from), out(Floats((size_t)n), to);
        assert_int_equal(lips_cuda_add(out.p(), in.p(), other.p(), n, 0), LIPS_OK);
        same("add", n, to, out.read(), sum);
        assert_int_equal(lips_cuda_fill(out.p(), 2.5f, n, 0), LIPS_OK);
        same("fill", n, to, out.read(), Floats((size_t)n, 2.5f));
    });
}

/* Multiples of 1/16 below 2^3: squares are multiples of 2^-8, so that every order is exact. */
void test_sum(void **)
{
    walk([](int64_t n, int64_t, int64_t from) {
        const Floats a = values(n, 4), b = values(n, 5);
        double difference = 0, square = 0;
        for (size_t i = 0; i < a.size(); i++) {
            difference += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
            square += (double)a[i] * (double)a[i];
        }
        Shifted in(a, from), other(b, from);
        Device<double> out(1), scratch(lips_cuda_diff_sumsq_bytes(n) / sizeof(double));
        assert_int_equal(lips_cuda_diff_sumsq(out.p, in.p(), other.p(), n, scratch.p, 0), LIPS_OK);
        assert_true(out.read()[0] == difference);
        assert_int_equal(lips_cuda_diff_sumsq(out.p, in.p(), nullptr, n, scratch.p, 0), LIPS_OK);
        assert_true(out.read()[0] == square);
    });
}

} // namespace

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_maps),
        cmocka_unit_test(test_normal),
        cmocka_unit_test(test_fill_and_add),
        cmocka_unit_test(test_sum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
