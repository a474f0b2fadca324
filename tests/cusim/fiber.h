/*
 * tests/cusim/fiber.h - a stack with a saved context, and the switch between two of them.
 *
 * x86-64 switches in 16 instructions; elsewhere (or with -DCUSIM_UCONTEXT) ucontext does it, thirty
 * times slower. Under ASan the switches are announced; under TSan (-DCUSIM_TSAN) every fiber is a
 * TSan fiber and a switch orders nothing.
 */
#ifndef LIPS_TESTS_CUSIM_FIBER_H
#define LIPS_TESTS_CUSIM_FIBER_H

#if !defined(__x86_64__) && !defined(CUSIM_UCONTEXT)
#define CUSIM_UCONTEXT
#endif

#ifdef CUSIM_UCONTEXT
#include <ucontext.h>
#endif

#include <stddef.h>

namespace cusim
{

/* Of one fiber; a kernel with larger local arrays than this faults on the guard page below. */
constexpr size_t FIBER_STACK = 256 << 10;

struct Fiber {
    unsigned char *stack = nullptr; /* lowest address; nullptr: the operating system's own stack */
    size_t stack_bytes = 0;
    void *fake_stack = nullptr; /* ASan's */
    void *tsan = nullptr;       /* TSan's */
#ifdef CUSIM_UCONTEXT
    ucontext_t context;
#else
    void *top = nullptr; /* saved stack pointer */
#endif
};

/* A fiber that runs entry() at its first switch; entry must never return. Never freed. */
Fiber *fiber_create(void (*entry)());

/* To be called first in entry(). */
void fiber_entered();

/* Makes *host stand for the calling thread's own stack. */
void fiber_adopt(Fiber *host);

/* Saves the running context in *from and continues *to. */
void fiber_switch(Fiber *from, Fiber *to);

/* Makes TSan take the caller for *fiber without switching stacks; nothing in other builds. */
void fiber_impersonate(Fiber *fiber);

} // namespace cusim

#endif
