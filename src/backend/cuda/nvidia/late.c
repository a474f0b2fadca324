/*
 * cuda/nvidia/late.c - cuBLAS and cuDNN are loaded when one of their functions is first called.
 *
 * Linked the usual way they cost every start of the program a tenth of a second (half a gigabyte
 * of libraries), with or without a device, and a machine without them could not start it at all. So
 * the product defines the functions that the backend calls (late_list.h, made from the undefined
 * symbols of its objects) as jumps through a table, which the first call of each fills. A library
 * that cannot be loaded answers "not initialised".
 *
 * x86-64 only; elsewhere the libraries are linked. Not part of emulated builds.
 */
#include <cublas_v2.h>
#include <cudnn.h>
#include <dlfcn.h>
#include <stdbool.h>
#include <string.h>

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

static const char *const names[] = {
#define ENTRY(i, name) [i] = #name,
#include "late_list.h"
#undef ENTRY
};
enum { N = sizeof names / sizeof names[0] };

/* Addresses of the real functions; NULL before the first call. */
__attribute__((visibility("hidden"))) void *lips_late_table[N];

/* Called by the code below, from the first call of function i. */
__attribute__((visibility("hidden"))) void *lips_late_resolve(unsigned i);

/* Any signature: the arguments are the caller's to remove. */
static int blas_missing(void)
{
    return CUBLAS_STATUS_NOT_INITIALIZED;
}
static int dnn_missing(void)
{
    return CUDNN_STATUS_NOT_INITIALIZED;
}
static const char *text_missing(void)
{
    return "the library cannot be loaded";
}
static size_t version_missing(void)
{
    return 0;
}

static bool ends_with(const char *s, const char *tail)
{
    size_t n = strlen(s), m = strlen(tail);
    return n >= m && strcmp(s + n - m, tail) == 0;
}

void *lips_late_resolve(unsigned i)
{
    bool blas = strncmp(names[i], "cublas", 6) == 0;
    /* Kept for good: the program ends with it. Loading twice gives the same handle. */
    void *library =
        dlopen(blas ? "libcublas.so." TEXT(CUBLAS_VER_MAJOR) : "libcudnn.so." TEXT(CUDNN_MAJOR),
               RTLD_NOW | RTLD_LOCAL);
    void *f = library ? dlsym(library, names[i]) : NULL;
    if (!f)
        f = ends_with(names[i], "String") || ends_with(names[i], "Name") ? (void *)text_missing
            : ends_with(names[i], "Version")                             ? (void *)version_missing
            : blas                                                       ? (void *)blas_missing
                                                                         : (void *)dnn_missing;
    __atomic_store_n(&lips_late_table[i], f, __ATOMIC_RELEASE);
    return f;
}

/* r11 is free at a function's first instruction; everything else belongs to the callee. */
#define ENTRY(i, name)                                                                             \
    __asm__(".text\n.globl " #name "\n.type " #name ",@function\n" #name ":\n"                     \
            "mov lips_late_table+8*" #i "(%rip), %r11\n"                                           \
            "test %r11, %r11\n"                                                                    \
            "jz 1f\n"                                                                              \
            "jmp *%r11\n"                                                                          \
            "1: mov $" #i ", %r11d\n"                                                              \
            "jmp lips_late_first\n"                                                                \
            ".size " #name ",.-" #name "\n");
#include "late_list.h"

/* Keeps the arguments in registers over the call of lips_late_resolve(); seven pushes align the
 * stack. */
__asm__(".text\n.type lips_late_first,@function\nlips_late_first:\n"
        "push %rdi\n push %rsi\n push %rdx\n push %rcx\n push %r8\n push %r9\n push %rax\n"
        "sub $128, %rsp\n"
        "movups %xmm0, (%rsp)\n movups %xmm1, 16(%rsp)\n movups %xmm2, 32(%rsp)\n"
        "movups %xmm3, 48(%rsp)\n movups %xmm4, 64(%rsp)\n movups %xmm5, 80(%rsp)\n"
        "movups %xmm6, 96(%rsp)\n movups %xmm7, 112(%rsp)\n"
        "mov %r11d, %edi\n"
        "call lips_late_resolve\n"
        "mov %rax, %r11\n"
        "movups (%rsp), %xmm0\n movups 16(%rsp), %xmm1\n movups 32(%rsp), %xmm2\n"
        "movups 48(%rsp), %xmm3\n movups 64(%rsp), %xmm4\n movups 80(%rsp), %xmm5\n"
        "movups 96(%rsp), %xmm6\n movups 112(%rsp), %xmm7\n"
        "add $128, %rsp\n"
        "pop %rax\n pop %r9\n pop %r8\n pop %rcx\n pop %rdx\n pop %rsi\n pop %rdi\n"
        "jmp *%r11\n"
        ".size lips_late_first,.-lips_late_first\n");
