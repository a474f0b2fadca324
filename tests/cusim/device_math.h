/*
 * tests/cusim/device_math.h - device functions that a host's <math.h> lacks (device.h).
 *
 * Fast intrinsics compute the accurate value: their error on a device is bounded in the kernel that
 * calls them, not reproduced here.
 */
#ifndef LIPS_TESTS_CUSIM_DEVICE_MATH_H
#define LIPS_TESTS_CUSIM_DEVICE_MATH_H

namespace cusim
{

template <class To, class From> To bit_cast(From from)
{
    static_assert(sizeof(To) == sizeof(From), "same size");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}

} // namespace cusim

/* The device's min and max take any two arithmetic types, by the usual conversions; fmin's rule for
 * a NaN. */
template <class T, class U> std::common_type_t<T, U> min(T a, U b)
{
    typedef std::common_type_t<T, U> C;
    if constexpr (std::is_floating_point<C>::value)
        return (C)a != (C)a || (C)b < (C)a ? (C)b : (C)a;
    else
        return (C)b < (C)a ? (C)b : (C)a;
}
template <class T, class U> std::common_type_t<T, U> max(T a, U b)
{
    typedef std::common_type_t<T, U> C;
    if constexpr (std::is_floating_point<C>::value)
        return (C)a != (C)a || (C)b > (C)a ? (C)b : (C)a;
    else
        return (C)b > (C)a ? (C)b : (C)a;
}

inline float rsqrtf(float x)
{
    return (float)(1.0 / sqrt((double)x));
}
inline double rsqrt(double x)
{
    return 1.0 / sqrt(x);
}
inline float __frsqrt_rn(float x)
{
    return (float)(1.0 / sqrt((double)x));
}
inline float __frcp_rn(float x)
{
    return 1.0f / x;
}
inline float __fsqrt_rn(float x)
{
    return sqrtf(x);
}
inline double __dsqrt_rn(double x)
{
    return sqrt(x);
}
inline float __expf(float x)
{
    return expf(x);
}
inline float __logf(float x)
{
    return logf(x);
}
inline float __fdividef(float a, float b)
{
    return a / b;
}
inline float __fadd_rn(float a, float b)
{
    return a + b;
}
inline float __fsub_rn(float a, float b)
{
    return a - b;
}
inline float __fmul_rn(float a, float b)
{
    return a * b;
}
inline float __fmaf_rn(float a, float b, float c)
{
    return fmaf(a, b, c);
}
inline float __fdiv_rn(float a, float b)
{
    return a / b;
}
inline double __dadd_rn(double a, double b)
{
    return a + b;
}
inline double __dsub_rn(double a, double b)
{
    return a - b;
}
inline double __dmul_rn(double a, double b)
{
    return a * b;
}
inline double __fma_rn(double a, double b, double c)
{
    return fma(a, b, c);
}
inline double __ddiv_rn(double a, double b)
{
    return a / b;
}
inline float __saturatef(float x)
{
    return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f;
}
/* Exact at the multiples of 1/2, as the device's are. */
inline double cospi(double x)
{
    double r = fabs(fmod(x, 2.0));
    return r == 0.5 || r == 1.5 ? 0.0 : cos(M_PI * r);
}
inline double sinpi(double x)
{
    double r = fmod(x, 2.0);
    return r == (double)(long long)r ? 0.0 : sin(M_PI * r);
}
inline float cospif(float x)
{
    return (float)cospi((double)x);
}
inline float sinpif(float x)
{
    return (float)sinpi((double)x);
}
inline void sincospi(double x, double *s, double *c)
{
    *s = sinpi(x);
    *c = cospi(x);
}
inline void sincospif(float x, float *s, float *c)
{
    *s = sinpif(x);
    *c = cospif(x);
}
inline double normcdf(double x)
{
    return 0.5 * erfc(-x * M_SQRT1_2);
}
inline float normcdff(float x)
{
    return (float)normcdf((double)x);
}

inline int __float_as_int(float x)
{
    return cusim::bit_cast<int>(x);
}
inline unsigned __float_as_uint(float x)
{
    return cusim::bit_cast<unsigned>(x);
}
inline float __int_as_float(int x)
{
    return cusim::bit_cast<float>(x);
}
inline float __uint_as_float(unsigned x)
{
    return cusim::bit_cast<float>(x);
}
inline long long __double_as_longlong(double x)
{
    return cusim::bit_cast<long long>(x);
}
inline double __longlong_as_double(long long x)
{
    return cusim::bit_cast<double>(x);
}
inline unsigned __umulhi(unsigned a, unsigned b)
{
    return (unsigned)((uint64_t)a * b >> 32);
}
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b)
{
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}
inline int __popc(unsigned x)
{
    return __builtin_popcount(x);
}
inline int __popcll(unsigned long long x)
{
    return __builtin_popcountll(x);
}
inline int __ffs(int x)
{
    return __builtin_ffs(x);
}
inline int __clz(int x)
{
    return x == 0 ? 32 : __builtin_clz((unsigned)x);
}
inline int __clzll(long long x)
{
    return x == 0 ? 64 : __builtin_clzll((unsigned long long)x);
}

/* Loads and stores with a cache hint. */
template <class T> T __ldg(const T *p)
{
    return *p;
}
template <class T> T __ldcg(const T *p)
{
    return *p;
}
template <class T> T __ldca(const T *p)
{
    return *p;
}
template <class T> T __ldcs(const T *p)
{
    return *p;
}
template <class T> void __stcg(T *p, T v)
{
    *p = v;
}
template <class T> void __stcs(T *p, T v)
{
    *p = v;
}

#endif
