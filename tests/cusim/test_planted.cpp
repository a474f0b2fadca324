/*
 * A test of the tests: mistakes planted in kernels (planted.h), each of which must be caught by the
 * detector named beside it, and their correct twins, which must give no report and the same bits in
 * every order of threads. Races are caught here by their results; test_race.sh has them named by
 * the race detector.
 */
#include "child.h"
#include "planted.h"
#include "support.h"

#include <algorithm>

using namespace planted;

namespace
{

const char *const ORDERS[] = {"forward", "reverse", "random:1", "random:2"};
const int N_ORDERS = 4;

std::vector<float> input()
{
    std::vector<float> x(N);
    for (int i = 0; i < N; i++)
        x[(size_t)i] = (float)(i + 1);
    return x;
}

Outcome run(const Case &c, bool good, const char *order)
{
    return in_child(N, "CUSIM_ORDER", order, [&](float *out) {
        Device<float> x(input()), y(N);
        c.run(good, x.p, y.p, nullptr);
        std::vector<float> got = y.read();
        std::copy(got.begin(), got.end(), out);
    });
}

/* The correct twin: no word, nothing unwritten, same bits in every order. */
void expect_clean(const Case &c)
{
    Outcome first = run(c, true, ORDERS[0]);
    for (const char *order : ORDERS) {
        Outcome o = run(c, true, order);
        if (o.died || o.text.find("kernel") != std::string::npos)
            fail_msg("%s, correct, order %s: %s", c.name, order, o.text.c_str());
        if (o.values != first.values)
            fail_msg("%s, correct: order %s gives other values", c.name, order);
        if (unwritten(o.values.data(), N) != 0)
            fail_msg("%s, correct, order %s: unwritten output", c.name, order);
    }
}

/* In a sanitized build, the sanitizer may be the first to see it. */
bool sanitized(const Outcome &o)
{
#ifdef __SANITIZE_ADDRESS__
    return o.text.find("AddressSanitizer: ") != std::string::npos ||
           o.text.find("runtime error: load of null pointer") != std::string::npos ||
           o.text.find("binding to misaligned address") != std::string::npos;
#else
    (void)o;
    return false;
#endif
}

bool says(const Outcome &o, const char *text)
{
    return sanitized(o) || o.text.find(text) != std::string::npos;
}

/* Stops with a message that has the text, in every order. */
void expect_report(const Case &c, const char *text)
{
    expect_clean(c);
    for (const char *order : ORDERS) {
        Outcome o = run(c, false, order);
        if (!o.died || !says(o, text))
            fail_msg("%s, order %s: no report \"%s\" but: %s", c.name, order, text, o.text.c_str());
        if (!says(o, c.name))
            fail_msg("%s: the report does not name the kernel: %s", c.name, o.text.c_str());
    }
}

/* Some order gives values that differ from the correct twin's. */
void expect_wrong_values(const Case &c)
{
    expect_clean(c);
    Outcome good = run(c, true, ORDERS[0]);
    int wrong = 0;
    for (const char *order : ORDERS)
        wrong += run(c, false, order).values != good.values;
    if (wrong == 0)
        fail_msg("%s: right values in every order", c.name);
}

/* Every order leaves NaN where values should be (or the address sanitizer stops it). */
void expect_nan(const Case &c)
{
    expect_clean(c);
    for (const char *order : ORDERS) {
        Outcome o = run(c, false, order);
        bool nan = false;
        for (float v : o.values)
            nan |= v != v;
        if (o.died ? !sanitized(o) : !nan)
            fail_msg("%s, order %s: no NaN; %s", c.name, order, o.text.c_str());
    }
}

void test_races(void **)
{
    const Case cases[] = {
        PLANTED(missing_barrier, 1, 0),
        PLANTED(write_after_read, 1, 0),
        PLANTED(reused_scratch, 1, N * sizeof(float)),
        PLANTED(missing_syncwarp, 1, 0),
        PLANTED(two_writers, 1, 0),
        PLANTED(blocks_overwrite, 2, 0),
        PLANTED(copies_unseen, 1, 0),
    };
    for (const Case &c : cases)
        expect_wrong_values(c);
}

void test_barriers(void **)
{
    expect_report(PLANTED(divergent_barrier, 1, 0), "divergent __syncthreads");
    expect_report(PLANTED(early_exit, 1, 0, 40), "early exit");
}

void test_masks(void **)
{
    expect_report(PLANTED(lane_not_in_mask, 1, 0), "is not in the mask 0000ffff of its own");
    expect_report(PLANTED(source_not_in_mask, 1, 0), "which is not in mask");
    expect_report(PLANTED(mask_names_ended_lane, 1, 0), "which has ended");
    expect_report(PLANTED(collective_deadlock, 1, 0), "deadlock: the warp collective");
}

void test_copies(void **)
{
    expect_report(PLANTED(copy_without_end, 1, 0), "ends with asynchronous copies under way");
    expect_report(PLANTED(copy_unaligned, 1, 0), "not aligned");
    expect_nan(PLANTED(copy_read_early, 1, 0));
}

void test_memory(void **)
{
    expect_report(PLANTED(write_past_end, 1, 0), "out of bounds");
    expect_report(PLANTED(read_past_end, 1, 0), "is 0 bytes behind an allocation of 256 bytes");
    expect_report(PLANTED(write_before_start, 1, 0), "wrote out of bounds: before");
    expect_report(PLANTED(null_pointer, 1, 0), "illegal address");
    expect_report(PLANTED(shared_past_end, 1, 0), "behind the shared object");
    expect_report(PLANTED(dynamic_past_end, 1, N * sizeof(float)), "dynamic shared memory");
}

void test_alignment(void **)
{
    expect_report(PLANTED(unaligned_vector, 1, 0), "misaligned address");
    expect_report(PLANTED(unaligned_shared, 1, 0), "misaligned address");
}

void test_unwritten_values(void **)
{
    expect_nan(PLANTED(shared_read_past_end, 1, 0));
    expect_nan(PLANTED(uninitialised_shared, 1, 0));
    expect_nan(PLANTED(shared_kept_between_blocks, 2, 0));
    expect_nan(PLANTED(unwritten_output, 1, 0));
    expect_nan(PLANTED(uninitialised_global, 1, 0));
}

/* The bytes between the end of an allocation and the next multiple of 256. */
void test_red_zone(void **)
{
    Outcome o = in_child(1, "CUSIM_ORDER", "forward", [](float *) {
        Device<float> x(input()), y(N - 1);
        CU_LAUNCH((unwritten_output<true>), dim3(1), dim3(N), 0, 0, x.p, y.p);
        cudaDeviceSynchronize();
    });
    assert_true(o.died);
    assert_true(says(o, "wrote out of bounds: behind an allocation of 252"));
}

__global__ void copy(const float *x, float *y)
{
    y[threadIdx.x] = x[threadIdx.x];
}

#ifndef __SANITIZE_ADDRESS__
struct Pair {
    int64_t n;
    const float *x;
};

__global__ void copy_pair(Pair p, float *y)
{
    y[threadIdx.x] = p.x[threadIdx.x];
}
#endif

void test_pointers(void **)
{
    Outcome o = in_child(1, "CUSIM_ORDER", "forward", [](float *) {
        Device<float> y(N);
        std::vector<float> x = input();
        CU_LAUNCH(copy, dim3(1), dim3(N), 0, 0, x.data(), y.p);
    });
    assert_true(o.died);
    assert_non_null(strstr(o.text.c_str(), "kernel copy: argument 0 is no device pointer"));
#ifndef __SANITIZE_ADDRESS__ /* whose heap a pair of sizes may look like */
    o = in_child(1, "CUSIM_ORDER", "forward", [](float *) {
        Device<float> y(N);
        std::vector<float> x = input();
        Pair p = {N, x.data()};
        CU_LAUNCH(copy_pair, dim3(1), dim3(N), 0, 0, p, y.p);
    });
    assert_true(o.died);
    assert_non_null(strstr(o.text.c_str(), "argument 0 holds a pointer at byte 8"));
#endif
    o = in_child(1, "CUSIM_ORDER", "forward", [](float *) {
        Device<float> y(N), x(input());
        float *gone = x.p;
        cudaFree(x.p);
        x.p = nullptr;
        CU_LAUNCH(copy, dim3(1), dim3(N), 0, 0, gone, y.p);
    });
    assert_true(o.died);
    assert_non_null(strstr(o.text.c_str(), "argument 0 is no device pointer"));
}

/* A pointer that dangles only when the kernel runs. */
void test_use_after_free(void **)
{
    Outcome o = in_child(1, "CUSIM_ORDER", "forward", [](float *) {
        Device<float> y(N);
        Device<float *> table(1);
        float *x = nullptr;
        cudaMalloc((void **)&x, N * sizeof(float));
        cudaMemcpy(table.p, &x, sizeof x, cudaMemcpyHostToDevice);
        cudaFree(x);
        struct {
            float **table;
        } t = {table.p};
        auto *f = +[](float **p, float *out) { out[threadIdx.x] = p[0][threadIdx.x]; };
        CU_LAUNCH(f, dim3(1), dim3(N), 0, 0, t.table, y.p);
        cudaDeviceSynchronize();
    });
    assert_true(o.died);
    assert_non_null(strstr(o.text.c_str(), "in or behind freed memory"));
}

__global__ void big_static(float *y)
{
    CU_SHARED(float, s, [49 * 256]);
    s[threadIdx.x] = 0;
    y[threadIdx.x] = s[threadIdx.x];
}

__global__ void dynamic_only(float *y)
{
    CU_DYN_SHARED(float, s);
    s[threadIdx.x] = 1;
    y[threadIdx.x] = s[threadIdx.x];
}

void test_shared_limits(void **)
{
    Outcome o = in_child(1, "CUSIM_ORDER", "forward", [](float *) {
        Device<float> y(N);
        CU_LAUNCH(big_static, dim3(1), dim3(N), 0, 0, y.p);
        cudaDeviceSynchronize();
    });
    assert_true(o.died);
    assert_non_null(strstr(o.text.c_str(), "static shared memory of 50176 bytes: over 49152"));
    o = in_child(4, "CUSIM_ORDER", "forward", [](float *out) {
        Device<float> y(N);
        const int bytes = 100 << 10;
        CU_LAUNCH(dynamic_only, dim3(1), dim3(N), bytes, 0, y.p);
        out[0] = (float)cudaGetLastError();
        out[1] = (float)cudaFuncSetAttribute((const void *)dynamic_only,
                                             cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
        CU_LAUNCH(dynamic_only, dim3(1), dim3(N), bytes, 0, y.p);
        out[2] = (float)cudaGetLastError();
        out[3] = y.read()[N - 1];
    });
    assert_false(o.died);
    assert_true(o.values[0] == (float)cudaErrorInvalidValue);
    assert_true(o.values[1] == 0 && o.values[2] == 0 && o.values[3] == 1);
}

} // namespace

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_races),
        cmocka_unit_test(test_barriers),
        cmocka_unit_test(test_masks),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_unwritten_values),
        cmocka_unit_test(test_red_zone),
        cmocka_unit_test(test_pointers),
        cmocka_unit_test(test_use_after_free),
        cmocka_unit_test(test_shared_limits),
        cmocka_unit_test(test_copies),
        cmocka_unit_test(test_alignment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
