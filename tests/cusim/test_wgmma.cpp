/*
 * Products of warpgroups on the emulated device (kernels/wgmma.h, products.h): layouts of the
 * operands against plain loops over integers, in every order of threads; and each way of using them
 * wrongly, which must be reported or give wrong values.
 */
#include "child.h"
#include "support.h"

#include "kernels/wgmma.h"

#include <random>

namespace
{

enum Mistake {
    NONE,
    NO_FENCE,
    LOADED_AFTER_FENCE,
    NO_PUBLISH,
    PUBLISHED_BEFORE_THE_COPY,
    A_CHANGED,
    D_READ,
    D_CHANGED,
    D_HELD_EARLY,
    B_CHANGED,
    B_COPIED_OVER,
    SWIZZLED,
    OUTSIDE,
    NO_WAIT,
    HALF_A_GROUP,
};

constexpr int THREADS = 256, STEPS = 3; /* two warpgroups, each with 64 rows; products of each */

template <bool BF16, int NI>
__device__ void product(float (&d)[NI][4], const uint32_t (&a)[4], uint64_t b)
{
    if constexpr (BF16)
        wgmma_bf16<NI>(d, a, b);
    else
        wgmma_tf32<NI>(d, a, b);
}

/* d (128, 8 NI) += a b over STEPS products: a (128, STEPS, 8 words), b the image in shared memory,
 * STEPS times 64 NI words, of which `leading` and `stride` tell. */
template <bool BF16, int NI, Mistake M>
__global__ void products(const uint32_t *a, const uint32_t *b, float *d, int leading, int stride)
{
    constexpr int WORDS = NI * 64;
    CU_DYN_SHARED(uint32_t, shared);
    CU_SHARED(uint32_t, rows, [THREADS / 2][12]);
    const int t = (int)threadIdx.x, lane = t % 32, warp = t / 32;
    const int row = warp * 16 + lane / 4;
    float acc[NI][4];
    uint32_t held[2][4];
    for (int i = t * 4; i < STEPS * WORDS; i += THREADS * 4)
        mma_copy_async<16>((float *)shared + i, (const float *)b + i, true);
    mma_copy_commit();
    if (M == PUBLISHED_BEFORE_THE_COPY)
        wgmma_publish();
    mma_copy_wait<0>();
    if (M != NO_PUBLISH && M != PUBLISHED_BEFORE_THE_COPY)
        wgmma_publish();
    for (int i = 0; i < NI * 4; i++)
        acc[i / 4][i % 4] = d[(row + i % 4 / 2 * 8) * NI * 8 + i / 4 * 8 + lane % 4 * 2 + i % 2];
    wgmma_hold<NI>(acc);
    uint64_t at =
        wgmma_descriptor(shared + (M == OUTSIDE ? 4 : 0), (unsigned)leading, (unsigned)stride);
    if (M == SWIZZLED)
        at |= (uint64_t)1 << 62;
    __syncthreads(); /* B is there */
    for (int s = 0; s < STEPS; s++) {
        wgmma_wait<1>();
        for (int i = t; i < THREADS / 2 * 8; i += THREADS)
            rows[i / 8][i % 8] = a[(i / 8 * STEPS + s) * 8 + i % 8];
        __syncthreads(); /* rows are there */
        if (M == LOADED_AFTER_FENCE)
            wgmma_fence();
        mma_ldmatrix_x4(held[s % 2], &rows[warp * 16 + lane % 16][lane / 16 * 4]);
        if (M != NO_FENCE && M != LOADED_AFTER_FENCE)
            wgmma_fence();
        if (M != HALF_A_GROUP || warp % 4 < 2)
            product<BF16, NI>(acc, held[s % 2], at + (uint64_t)(s * WORDS / 4));
        wgmma_commit();
        if (M == A_CHANGED)
            held[s % 2][3] = 0;
        if (M == D_READ && s == 0)
            d[row * NI * 8] = acc[0][0];
        if (M == D_CHANGED && s == 0)
            acc[NI - 1][0] = 1;
        if (M == B_CHANGED && s == 0)
            shared[t] = 0;
        if (M == B_COPIED_OVER && s == 0)
            mma_copy_async<16>((float *)shared + t * 4, (const float *)b + t * 4, true);
        __syncthreads(); /* rows are read */
    }
    if (M == D_HELD_EARLY)
        wgmma_hold<NI>(acc);
    if (M != NO_WAIT)
        wgmma_wait<0>();
    if (M != NO_WAIT)
        wgmma_hold<NI>(acc);
    mma_copy_commit();
    mma_copy_wait<0>();
    for (int i = 0; i < NI * 4; i++)
        if (M != D_READ || i > 0 || row % 2)
            d[(row + i % 4 / 2 * 8) * NI * 8 + i / 4 * 8 + lane % 4 * 2 + i % 2] =
                acc[i / 4][i % 4];
}

/* A word of operands: an integer as tf32, or two as bf16. */
uint32_t word_of(bool bf16, const int *v)
{
    const float f[2] = {(float)v[0], (float)v[1]};
    return bf16 ? mma_pack_bf16(f[0], f[1]) : mma_to_tf32(f[0]);
}

struct Problem {
    std::vector<uint32_t> a, b;
    std::vector<float> d, want;
};

/* The image of b: `leading` bytes between core matrices along k, `stride` along n. */
Problem make(bool bf16, int ni, int leading, int stride)
{
    const int per = bf16 ? 2 : 1, depth = 8 * per * STEPS, columns = ni * 8, rows = THREADS / 2;
    std::mt19937 random(7);
    std::vector<int> a((size_t)(rows * depth + 1)), b((size_t)(columns * depth + 1));
    for (int &v : a)
        v = (int)(random() % 15) - 7;
    for (int &v : b)
        v = (int)(random() % 15) - 7;
    Problem p;
    p.a.resize((size_t)(rows * STEPS * 8));
    p.b.resize((size_t)(STEPS * ni * 64));
    p.d.resize((size_t)(rows * columns));
    for (size_t i = 0; i < p.a.size(); i++)
        p.a[i] = word_of(bf16, &a[i * (size_t)per]);
    for (int n = 0; n < columns; n++)
        for (int w = 0; w < 8 * STEPS; w++) {
            const int byte =
                w / 8 * ni * 256 + w / 4 % 2 * leading + n / 8 * stride + n % 8 * 16 + w % 4 * 4;
            p.b[(size_t)byte / 4] = word_of(bf16, &b[(size_t)(n * depth + w * per)]);
        }
    for (float &v : p.d)
        v = (float)(random() % 100);
    p.want = p.d;
    for (int m = 0; m < rows; m++)
        for (int n = 0; n < columns; n++)
            for (int k = 0; k < depth; k++)
                p.want[(size_t)(m * columns + n)] +=
                    (float)(a[(size_t)(m * depth + k)] * b[(size_t)(n * depth + k)]);
    return p;
}

template <bool BF16, int NI, Mistake M> std::vector<float> run(const Problem &p, int l, int s)
{
    Device<uint32_t> a(p.a), b(p.b);
    Device<float> d(p.d);
    CU_LAUNCH((products<BF16, NI, M>), dim3(1), dim3(THREADS), STEPS * NI * 256, 0, a.p, b.p, d.p,
              l, s);
    return d.read();
}

template <bool BF16, int NI> void check_layout(int leading, int stride)
{
    const Problem p = make(BF16, NI, leading, stride);
    for (const char *order : {"forward", "reverse", "random:3"}) {
        const Outcome o = in_child(p.d.size(), "CUSIM_ORDER", order, [&](float *out) {
            const std::vector<float> got = run<BF16, NI, NONE>(p, leading, stride);
            std::copy(got.begin(), got.end(), out);
        });
        if (o.died || o.values != p.want)
            fail_msg("bf16 %d, %d columns, leading %d, stride %d, order %s: %s", BF16, NI * 8,
                     leading, stride, order, o.died ? o.text.c_str() : "other values");
    }
}

void test_layouts(void **)
{
    check_layout<true, 8>(128, 256);
    check_layout<true, 8>(1024, 128);
    check_layout<false, 8>(128, 256);
    check_layout<true, 16>(128, 256);
    check_layout<false, 16>(128, 256);
    check_layout<false, 16>(2048, 128);
}

/* text nullptr: wrong values instead of a report. */
template <Mistake M> void expect(const char *text)
{
    const Problem p = make(true, 8, 128, 256);
    for (const char *order : {"forward", "reverse"}) {
        const Outcome o = in_child(p.d.size(), "CUSIM_ORDER", order, [&](float *out) {
            const std::vector<float> got = run<true, 8, M>(p, 128, 256);
            std::copy(got.begin(), got.end(), out);
        });
        if (!text && !o.died && o.values != p.want)
            continue;
        if (!text || !o.died || o.text.find(text) == std::string::npos)
            fail_msg("mistake %d, order %s: no \"%s\" but: %s", M, order, text ? text : "values",
                     o.text.c_str());
    }
}

void test_mistakes(void **)
{
    expect<NO_FENCE>("without a wgmma.fence");
    expect<LOADED_AFTER_FENCE>("without a wgmma.fence");
    expect<NO_PUBLISH>("fence.proxy.async is missing");
    expect<PUBLISHED_BEFORE_THE_COPY>("fence.proxy.async is missing");
    expect<A_CHANGED>(nullptr);
    expect<D_READ>(nullptr);
    expect<D_CHANGED>("accumulators were touched");
    expect<D_HELD_EARLY>("accumulators are used");
    expect<B_CHANGED>("overwritten under way");
    expect<B_COPIED_OVER>("copy over B");
    expect<SWIZZLED>("asks for swizzle 1");
    expect<OUTSIDE>("not in the");
    expect<NO_WAIT>("ends with wgmma under way");
    expect<HALF_A_GROUP>("asked for different products");
}

/* A block that is no whole number of warpgroups. */
__global__ void few_threads(float *y)
{
    CU_DYN_SHARED(uint32_t, shared);
    float acc[8][4] = {};
    uint32_t a[4] = {};
    wgmma_fence();
    wgmma_bf16<8>(acc, a, wgmma_descriptor(shared, 128, 256));
    wgmma_commit();
    wgmma_wait<0>();
    y[threadIdx.x] = acc[0][0];
}

void test_block_of_few(void **)
{
    const Outcome o = in_child(1, "CUSIM_ORDER", "forward", [](float *) {
        Device<float> y(96);
        CU_LAUNCH(few_threads, dim3(1), dim3(96), 2048, 0, y.p);
        cudaDeviceSynchronize();
    });
    assert_true(o.died);
    assert_non_null(strstr(o.text.c_str(), "no whole warpgroups"));
}

} // namespace

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layouts),
        cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_block_of_few),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
