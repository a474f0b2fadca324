#include "fiber.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef CUSIM_TSAN
/* This file is compiled without TSan, so that the scheduler is invisible to it. */
extern "C" {
void *__tsan_get_current_fiber(void);
void *__tsan_create_fiber(unsigned flags);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);
}
static const unsigned TSAN_NO_SYNC = 1;
#endif

namespace cusim
{

#ifdef __SANITIZE_ADDRESS__
/* Bounds of the host's stack, learnt when a fiber is entered from it. */
static const void *host_bottom;
static size_t host_bytes;
#endif

#ifndef CUSIM_UCONTEXT
/* Ends in a jump: a return to an address that no call pushed costs twice as much. */
extern "C" void cusim_switch(void **save, void *load);
asm(".text\n"
    ".globl cusim_switch\n"
    ".type cusim_switch,@function\n"
    "cusim_switch:\n"
    "push %rbp\n push %rbx\n push %r12\n push %r13\n push %r14\n push %r15\n"
    "mov %rsp,(%rdi)\n"
    "mov %rsi,%rsp\n"
    "pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbx\n pop %rbp\n"
    "pop %rcx\n"
    "jmp *%rcx\n"
    ".size cusim_switch,.-cusim_switch\n");
#endif

static void *map_stack()
{
    size_t guard = (size_t)sysconf(_SC_PAGESIZE);
    void *p = mmap(nullptr, FIBER_STACK + guard, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED || mprotect(p, guard, PROT_NONE) != 0) {
        perror("cusim: cannot map a fiber's stack");
        abort();
    }
    return (char *)p + guard;
}

Fiber *fiber_create(void (*entry)())
{
    Fiber *f = new Fiber;
    f->stack = (unsigned char *)map_stack();
    f->stack_bytes = FIBER_STACK;
#ifdef CUSIM_UCONTEXT
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = FIBER_STACK;
    f->context.uc_link = nullptr;
    makecontext(&f->context, entry, 0);
#else
    /* As if entry's caller had switched away: six registers, the address, a null return address
     * (which also aligns the stack as after a call). */
    void **top = (void **)(f->stack + FIBER_STACK);
    *--top = nullptr;
    *--top = (void *)entry;
    f->top = top - 6;
#endif
#ifdef CUSIM_TSAN
    f->tsan = __tsan_create_fiber(0);
#endif
    return f;
}

void fiber_entered()
{
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(nullptr, &host_bottom, &host_bytes);
#endif
}

void fiber_adopt(Fiber *host)
{
    *host = Fiber{};
#ifdef CUSIM_TSAN
    host->tsan = __tsan_get_current_fiber();
#endif
}

void fiber_impersonate(Fiber *fiber)
{
#ifdef CUSIM_TSAN
    __tsan_switch_to_fiber(fiber->tsan, TSAN_NO_SYNC);
#else
    (void)fiber;
#endif
}

void fiber_switch(Fiber *from, Fiber *to)
{
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&from->fake_stack, to->stack ? to->stack : host_bottom,
                                   to->stack ? to->stack_bytes : host_bytes);
#endif
    fiber_impersonate(to);
#ifdef CUSIM_UCONTEXT
    swapcontext(&from->context, &to->context);
#else
    cusim_switch(&from->top, to->top);
#endif
#ifdef __SANITIZE_ADDRESS__
    if (from->stack)
        __sanitizer_finish_switch_fiber(from->fake_stack, &host_bottom, &host_bytes);
    else
        __sanitizer_finish_switch_fiber(from->fake_stack, nullptr, nullptr);
#endif
}

} // namespace cusim
