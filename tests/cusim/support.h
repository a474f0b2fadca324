/*
 * tests/cusim/support.h - what the emulator's own tests share: device vectors, the search for what
 * a kernel left unwritten, and programs that must die with a message.
 */
#ifndef LIPS_TESTS_CUSIM_SUPPORT_H
#define LIPS_TESTS_CUSIM_SUPPORT_H

#include "kernels/cuda.h"

#include <vector>

extern "C" {
#include "../lib/cmocka_all.h"
}

/* A vector of n values in device memory; freed with the object. */
template <class T> struct Device {
    T *p = nullptr;
    size_t n;

    explicit Device(size_t count) : n(count)
    {
        assert_int_equal(cudaMalloc((void **)&p, n * sizeof(T)), cudaSuccess);
    }
    explicit Device(const std::vector<T> &v) : Device(v.size())
    {
        assert_int_equal(cudaMemcpy(p, v.data(), n * sizeof(T), cudaMemcpyHostToDevice),
                         cudaSuccess);
    }
    Device(const Device &) = delete;
    Device &operator=(const Device &) = delete;
    ~Device()
    {
        cudaFree(p);
    }
    std::vector<T> read() const
    {
        std::vector<T> v(n);
        assert_int_equal(cudaMemcpy(v.data(), p, n * sizeof(T), cudaMemcpyDeviceToHost),
                         cudaSuccess);
        return v;
    }
};

/* How many of n values still hold the pattern of memory that nothing wrote. */
template <class T> int unwritten(const T *values, size_t n)
{
    T pattern;
    memset(&pattern, 0xff, sizeof pattern);
    int count = 0;
    for (size_t i = 0; i < n; i++)
        count += memcmp(&values[i], &pattern, sizeof pattern) == 0;
    return count;
}

#endif
