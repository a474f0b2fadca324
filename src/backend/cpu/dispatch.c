/* Picks the kernels for the processor that the program runs on. */
#include "backend/cpu/cpu.h"

#include <stdlib.h>
#include <string.h>

extern const lips_cpu_kernels lips_cpu_kernels_base;
#if defined(__x86_64__) && !defined(LIPS_ISA_BASE_ONLY)
extern const lips_cpu_kernels lips_cpu_kernels_avx512, lips_cpu_kernels_avx2;

static bool has_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("fma");
}

static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#endif

static bool has_base(void)
{
    return true;
}

/* Best first. */
static const struct {
    const lips_cpu_kernels *kernels;
    bool (*usable)(void);
} sets[] = {
#if defined(__x86_64__) && !defined(LIPS_ISA_BASE_ONLY)
    {&lips_cpu_kernels_avx512, has_avx512},
    {&lips_cpu_kernels_avx2, has_avx2},
#endif
    {&lips_cpu_kernels_base, has_base},
};

enum { SETS = sizeof sets / sizeof *sets };

const lips_cpu_kernels *lips_cpu_kernels_at(int i)
{
    for (int s = 0; s < SETS; s++)
        if (sets[s].usable() && i-- == 0)
            return sets[s].kernels;
    return NULL;
}

lips_status lips_cpu_kernels_pick(const lips_cpu_kernels **out)
{
    const char *want = getenv("LIPSWEEP_ISA");
    if (!want || !*want) {
        *out = lips_cpu_kernels_at(0);
        return LIPS_OK;
    }
    for (int s = 0; s < SETS; s++) {
        if (strcmp(sets[s].kernels->name, want) != 0)
            continue;
        if (!sets[s].usable())
            return lips_fail(LIPS_ERR_USAGE, "LIPSWEEP_ISA=%s: this processor does not have it",
                             want);
        *out = sets[s].kernels;
        return LIPS_OK;
    }
    return lips_fail(LIPS_ERR_USAGE, "LIPSWEEP_ISA=%s: unknown; one of avx512, avx2, base", want);
}
