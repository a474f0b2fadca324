/*
 * base/per_isa.h - PER_ISA before a function: one copy of it, with all it calls in its file, per
 * instruction set, chosen when the program starts. Contraction is off, so all give the same bits.
 * The sanitizers' own start-up does not stand such choices, and clang spells them otherwise.
 */
#ifndef LIPS_BASE_PER_ISA_H
#define LIPS_BASE_PER_ISA_H

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) &&                             \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define PER_ISA __attribute__((target_clones("avx512f", "avx2", "default"), flatten))
#else
#define PER_ISA
#endif

#endif
