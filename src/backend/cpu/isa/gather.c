/* Sixteen rows side by side: the transposition that puts samples into lanes. */
#include "backend/cpu/isa/kernels.h"

/* First and second halves of a0 b0 a1 b1 ... */
#if defined(__AVX512F__)
VF_INLINE vf zip_low(vf a, vf b)
{
    const __m512i at = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    return _mm512_permutex2var_ps(a, at, b);
}

VF_INLINE vf zip_high(vf a, vf b)
{
    const __m512i at =
        _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    return _mm512_permutex2var_ps(a, at, b);
}
#elif defined(__AVX2__)
VF_INLINE vf zip_low(vf a, vf b)
{
    return _mm256_permute2f128_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b), 0x20);
}

VF_INLINE vf zip_high(vf a, vf b)
{
    return _mm256_permute2f128_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b), 0x31);
}
#else
VF_INLINE vf zip_low(vf a, vf b)
{
    return (vf){a[0], b[0], a[1], b[1]};
}

VF_INLINE vf zip_high(vf a, vf b)
{
    return (vf){a[2], b[2], a[3], b[3]};
}
#endif

/* One perfect shuffle of VF_LANES rows; log2(VF_LANES) of them transpose a square. */
VF_INLINE void shuffle(vf out[VF_LANES], const vf in[VF_LANES])
{
#pragma GCC unroll 8
    for (int i = 0; i < VF_LANES / 2; i++) {
        out[2 * i] = zip_low(in[i], in[i + VF_LANES / 2]);
        out[2 * i + 1] = zip_high(in[i], in[i + VF_LANES / 2]);
    }
}

VF_INLINE void transpose(vf v[VF_LANES])
{
    vf w[VF_LANES];
    shuffle(w, v);
    shuffle(v, w);
#if VF_LANES > 4
    shuffle(w, v);
#pragma GCC unroll 16
    for (int i = 0; i < VF_LANES; i++)
        v[i] = w[i];
#endif
#if VF_LANES > 8
    shuffle(w, v);
#pragma GCC unroll 16
    for (int i = 0; i < VF_LANES; i++)
        v[i] = w[i];
#endif
}

void LIPS_ISA_FN(lips_cpu_gather)(float *dst, int64_t lanes, const float *const row[LIPS_CPU_LANES],
                                  int64_t features)
{
    int64_t f = 0;
    for (; f + VF_LANES <= features; f += VF_LANES)
        for (int l = 0; l < LIPS_CPU_LANES; l += VF_LANES) {
            vf v[VF_LANES];
#pragma GCC unroll 16
            for (int i = 0; i < VF_LANES; i++)
                v[i] = vf_load(row[l + i] + f);
            transpose(v);
#pragma GCC unroll 16
            for (int i = 0; i < VF_LANES; i++)
                vf_store(dst + (f + i) * lanes + l, v[i]);
        }
    for (; f < features; f++)
        for (int l = 0; l < LIPS_CPU_LANES; l++)
            dst[f * lanes + l] = row[l][f];
}
