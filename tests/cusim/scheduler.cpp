/*
 * Runs kernels: one fiber per CUDA thread, one block at a time, on the calling thread.
 *
 * A thread runs until it waits at a barrier or ends; its warp's other threads follow, then the next
 * warp. The order of blocks, warps and lanes is a switch (CUSIM_ORDER), so that code which leans on
 * one order gives other results in another. A fiber whose thread has ended goes on as the next
 * thread of the warp without a switch.
 *
 * Under TSan (CUSIM_TSAN) each thread has a fiber of its own. Fibers are ordered when a barrier
 * completes, never when a thread arrives, or write-after-read races would be hidden; blocks are not
 * ordered among themselves, and their shared memory is at different addresses.
 */
#include "sim.h"

#include "fiber.h"

#include <stdarg.h>
#include <stdlib.h>
#include <vector>

#ifdef CUSIM_TSAN
extern "C" {
void __tsan_acquire(void *address);
void __tsan_release(void *address);
}
static const bool RACE_DETECTOR = true;
#else
static void __tsan_acquire(void *)
{
}
static void __tsan_release(void *)
{
}
static const bool RACE_DETECTOR = false;
#endif

namespace cusim
{

Now now;

namespace
{

enum class State : unsigned char { NEW, READY, RUNNING, AT_BLOCK_BARRIER, AT_WARP_BARRIER, ENDED };

struct Thread {
    State state;
    Fiber *fiber;
    Fiber *own[2]; /* TSan: used by even and by odd blocks, so that neighbours are not ordered */
    Copies *copies[2];     /* under way; TSan: again of even and odd blocks, else the first */
    Products *products[2]; /* the same */
    uint3 index;
    int linear, lane, warp;
    const Site *site; /* where it waits */
    unsigned mask;    /* of the warp collective it waits in, with its arguments */
    const void *in;
    void *out;
};

/* Of one warp, a bit for each lane. */
struct Warp {
    unsigned waiting; /* in a warp collective */
    unsigned ended;
};

enum class Order { FORWARD, REVERSE, RANDOM };

/* Everything about the running kernel; there is one at a time (big_lock). */
struct Scheduler {
    std::vector<Thread> threads;
    std::vector<Warp> warps;
    std::vector<int> order; /* of threads, warp by warp */
    std::vector<Fiber *> idle;
    Fiber host;
    Thread *current = nullptr;
    const Launch *launch = nullptr;
    int n = 0, ended = 0, arrived = 0;
    size_t next_new = 0; /* index into order of the thread that may follow on the same fiber */
    const Site *barrier = nullptr;
    int true_count = 0, reduced = 0; /* predicates of the block barrier: arriving, of the last */
    size_t parity = 0;
    Order mode = Order::FORWARD;
    uint32_t random = 1;
    bool configured = false;
};

Scheduler &sim = *new Scheduler;
char blocks_start, blocks_end, barrier_edge; /* TSan: addresses that order fibers */

const char *file_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

uint32_t draw(uint32_t below)
{
    sim.random = sim.random * 1664525u + 1013904223u;
    return (sim.random >> 8) % below;
}

void read_order()
{
    sim.configured = true;
    const char *text = getenv("CUSIM_ORDER");
    if (!text || strcmp(text, "forward") == 0)
        return;
    if (strcmp(text, "reverse") == 0) {
        sim.mode = Order::REVERSE;
    } else if (strncmp(text, "random:", 7) == 0) {
        sim.mode = Order::RANDOM;
        sim.random = (uint32_t)strtoul(text + 7, nullptr, 10);
    } else {
        fprintf(stderr, "cusim: CUSIM_ORDER=%s: forward, reverse or random:SEED\n", text);
        abort();
    }
}

void make_current(Thread *t)
{
    sim.current = t;
    now.thread = t->index;
    now.lane = t->lane;
    now.copies = t->copies[RACE_DETECTOR ? sim.parity : 0];
    now.products = t->products[RACE_DETECTOR ? sim.parity : 0];
}

void wait()
{
    fiber_switch(sim.current->fiber, &sim.host);
}

/* Orders the threads [a,b) whose lane is in mask among each other; back goes on running. */
void order_threads(int a, int b, unsigned mask, Fiber *back)
{
    if (!RACE_DETECTOR)
        return;
    for (int pass = 0; pass < 2; pass++)
        for (int i = a; i < b; i++) {
            if (!(mask >> (i & 31) & 1))
                continue;
            fiber_impersonate(sim.threads[(size_t)i].fiber);
            if (pass == 0)
                __tsan_release(&barrier_edge);
            else
                __tsan_acquire(&barrier_edge);
        }
    fiber_impersonate(back);
}

/* The next thread of the same warp that has not started, to go on with on this fiber. */
Thread *successor(const Thread *t)
{
    if (RACE_DETECTOR || sim.next_new >= (size_t)sim.n)
        return nullptr;
    Thread *next = &sim.threads[(size_t)sim.order[sim.next_new]];
    if (next->state != State::NEW || next->warp != t->warp)
        return nullptr;
    sim.next_new++;
    return next;
}

void check_copies(const Copies *c)
{
    for (int i = 0; i < c->n; i++)
        if (!c->list[i].commit)
            report("the thread ends with asynchronous copies under way");
}

void fiber_main()
{
    fiber_entered();
    for (;;) {
        Thread *t = sim.current;
        __tsan_acquire(&blocks_start);
        now.copies->n = 0;
        products_begin(now.products);
        sim.launch->body();
        check_copies(now.copies);
        products_end(now.products);
        __tsan_release(&blocks_end);
        t->state = State::ENDED;
        sim.warps[(size_t)t->warp].ended |= 1u << t->lane;
        sim.ended++;
        if (Thread *next = successor(t)) {
            next->fiber = t->fiber;
            t->fiber = nullptr;
            next->state = State::RUNNING;
            make_current(next);
        } else {
            wait();
        }
    }
}

void resume(Thread *t)
{
    if (!t->fiber) {
        if (sim.idle.empty())
            sim.idle.push_back(fiber_create(fiber_main));
        t->fiber = sim.idle.back();
        sim.idle.pop_back();
    }
    t->state = State::RUNNING;
    make_current(t);
    fiber_switch(&sim.host, t->fiber);
    /* A successor may have ended instead of t. */
    Thread *last = sim.current;
    if (!RACE_DETECTOR && last->state == State::ENDED && last->fiber) {
        sim.idle.push_back(last->fiber);
        last->fiber = nullptr;
    }
}

template <class T> void shuffle_items(T *items, size_t n)
{
    for (size_t i = n; i > 1; i--)
        std::swap(items[i - 1], items[draw((uint32_t)i)]);
}

void order_block()
{
    int warps = (sim.n + 31) / 32;
    std::vector<int> warp_order((size_t)warps);
    for (int w = 0; w < warps; w++)
        warp_order[(size_t)w] = sim.mode == Order::REVERSE ? warps - 1 - w : w;
    if (sim.mode == Order::RANDOM)
        shuffle_items(warp_order.data(), warp_order.size());
    sim.order.clear();
    for (int w : warp_order) {
        size_t first = sim.order.size();
        for (int i = w * 32; i < w * 32 + 32 && i < sim.n; i++)
            sim.order.push_back(i);
        if (sim.mode == Order::REVERSE)
            std::reverse(sim.order.begin() + (long)first, sim.order.end());
        if (sim.mode == Order::RANDOM)
            shuffle_items(&sim.order[first], sim.order.size() - first);
    }
}

/* Runs the threads of one warp, order[a,b), until none can go on; whether any could. */
bool run_warp(size_t a, size_t b)
{
    bool any = false, some;
    do {
        some = false;
        for (size_t i = a; i < b; i++) {
            Thread *t = &sim.threads[(size_t)sim.order[i]];
            if (t->state != State::READY && t->state != State::NEW)
                continue;
            sim.next_new = i + 1;
            some = any = true;
            resume(t);
        }
    } while (some);
    return any;
}

Products *products_of(int thread)
{
    return sim.threads[(size_t)thread].products[RACE_DETECTOR ? sim.parity : 0];
}

void check_warpgroups()
{
    for (int i = 0; i < sim.n; i++)
        if (products_of(i)->trail != products_of(i / 128 * 128)->trail) {
            make_current(&sim.threads[(size_t)i]);
            report("wgmma: warps of a warpgroup asked for different products");
        }
}

void complete_block_barrier()
{
    if (products_at_barrier(sim.n))
        for (int i = 0; i < sim.n; i++)
            products_of(i)->published = false;
    sim.arrived = 0;
    sim.reduced = sim.true_count;
    sim.true_count = 0;
    for (int i = 0; i < sim.n; i++)
        sim.threads[(size_t)i].state = State::READY;
    order_threads(0, sim.n, ~0u, &sim.host);
}

[[noreturn]] void report_stuck()
{
    for (int i = 0; i < sim.n; i++) {
        Thread *t = &sim.threads[(size_t)i];
        if (t->state != State::AT_WARP_BARRIER)
            continue;
        make_current(t);
        for (int lane = 0; lane < 32; lane++) {
            int other = t->linear - t->lane + lane;
            if (t->mask >> lane & 1 && sim.threads[(size_t)other].state == State::ENDED)
                report("wrong mask: the warp collective at %s:%d names lane %d, which has ended",
                       file_name(t->site->file), t->site->line, lane);
        }
        report("deadlock: the warp collective at %s:%d with mask %08x never completes%s",
               file_name(t->site->file), t->site->line, t->mask,
               sim.arrived > 0 ? "; other threads wait at __syncthreads" : "");
    }
    report("deadlock");
}

void run_block()
{
    sim.arrived = sim.ended = sim.true_count = 0;
    sim.warps.assign((size_t)(sim.n + 31) / 32, Warp{0, 0});
    shared_begin_block(RACE_DETECTOR);
    products_begin_block();
    order_block();
    for (int i = 0; i < sim.n; i++) {
        Thread *t = &sim.threads[(size_t)i];
        t->state = State::NEW;
        if (RACE_DETECTOR)
            t->fiber = t->own[sim.parity];
    }
    while (sim.ended < sim.n) {
        bool progress = false;
        for (size_t a = 0; a < (size_t)sim.n;) {
            size_t b = a;
            int warp = sim.threads[(size_t)sim.order[a]].warp;
            while (b < (size_t)sim.n && sim.threads[(size_t)sim.order[b]].warp == warp)
                b++;
            progress |= run_warp(a, b);
            a = b;
        }
        if (sim.arrived == sim.n)
            complete_block_barrier();
        else if (sim.arrived > 0 && sim.ended > 0)
            report("early exit: %d thread(s) wait at __syncthreads (%s:%d) while %d have ended",
                   sim.arrived, file_name(sim.barrier->file), sim.barrier->line, sim.ended);
        else if (!progress && sim.ended < sim.n)
            report_stuck();
    }
    check_warpgroups();
    sim.parity ^= 1;
    shared_end_block();
}

std::vector<size_t> block_order(size_t blocks)
{
    std::vector<size_t> order(blocks);
    for (size_t i = 0; i < blocks; i++)
        order[i] = sim.mode == Order::REVERSE ? blocks - 1 - i : i;
    if (sim.mode == Order::RANDOM)
        shuffle_items(order.data(), blocks);
    return order;
}

void prepare_threads(dim3 block)
{
    if (sim.threads.size() < (size_t)sim.n)
        sim.threads.resize((size_t)sim.n, Thread{});
    for (int i = 0; i < sim.n; i++) {
        Thread *t = &sim.threads[(size_t)i];
        t->linear = i;
        t->lane = i & 31;
        t->warp = i >> 5;
        t->index = {(unsigned)i % block.x, (unsigned)i / block.x % block.y,
                    (unsigned)i / (block.x * block.y)};
        for (int k = 0; k < (RACE_DETECTOR ? 2 : 1); k++) {
            if (!t->copies[k])
                t->copies[k] = new Copies;
            if (!t->products[k])
                t->products[k] = new Products;
            if (RACE_DETECTOR && !t->own[k])
                t->own[k] = fiber_create(fiber_main);
        }
    }
}

} // namespace

void report(const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    const char *name = sim.launch ? sim.launch->name : "(none)";
    fprintf(stderr, "cusim: kernel %s block (%u,%u,%u) thread (%u,%u,%u): %s\n", name, now.block.x,
            now.block.y, now.block.z, now.thread.x, now.thread.y, now.thread.z, text);
    fflush(stderr);
    abort();
}

bool kernel_running()
{
    return sim.launch != nullptr;
}

void block_barrier(const Site *site)
{
    Thread *t = sim.current;
    if (sim.arrived == 0)
        sim.barrier = site;
    else if (sim.barrier != site)
        report("divergent __syncthreads: %s:%d here, %s:%d in another thread",
               file_name(site->file), site->line, file_name(sim.barrier->file), sim.barrier->line);
    sim.arrived++;
    t->state = State::AT_BLOCK_BARRIER;
    t->site = site;
    wait();
}

int block_barrier_reduce(const Site *site, Reduce op, bool predicate)
{
    /* reduced stays until the next barrier completes, which no thread can miss. */
    sim.true_count += predicate;
    block_barrier(site);
    switch (op) {
    case Reduce::COUNT: return sim.reduced;
    case Reduce::OR: return sim.reduced > 0;
    case Reduce::AND: return sim.reduced == sim.n;
    }
    return 0;
}

void warp_collective(unsigned mask, const Site *site, const void *in, void *out, Collective fn)
{
    Thread *t = sim.current;
    int first = t->linear - t->lane, lanes = std::min(32, sim.n - first);
    if (lanes < 32)
        mask &= (1u << lanes) - 1; /* lanes that the block does not have take no part */
    if (!(mask >> t->lane & 1))
        report("wrong mask: lane %d is not in the mask %08x of its own warp collective (%s:%d)",
               t->lane, mask, file_name(site->file), site->line);
    Warp *warp = &sim.warps[(size_t)t->warp];
    if (mask & warp->ended)
        report("wrong mask: the warp collective at %s:%d names lane %d, which has ended",
               file_name(site->file), site->line, __builtin_ctz(mask & warp->ended));
    t->state = State::AT_WARP_BARRIER;
    t->site = site;
    t->mask = mask;
    t->in = in;
    t->out = out;
    warp->waiting |= 1u << t->lane;
    if ((warp->waiting & mask) != mask)
        return wait();
    const void *ins[32] = {};
    void *outs[32] = {};
    for (int i = 0; i < lanes; i++) {
        if (!(mask >> i & 1))
            continue;
        Thread *o = &sim.threads[(size_t)(first + i)];
        if (o->mask != mask) /* it waits for others */
            return wait();
        if (o->site != site)
            report("divergent warp collective: %s:%d here, %s:%d in lane %d", file_name(site->file),
                   site->line, file_name(o->site->file), o->site->line, i);
        ins[i] = o->in;
        outs[i] = o->out;
    }
    warp->waiting &= ~mask;
    /* The last to arrive: all others stand still, their arguments alive. */
    if (fn)
        fn(mask, ins, outs);
    else
        order_threads(first, first + lanes, mask, t->fiber);
    for (int i = 0; i < lanes; i++)
        if (mask >> i & 1)
            sim.threads[(size_t)(first + i)].state = State::READY;
    t->state = State::RUNNING;
}

void warp_barrier(unsigned mask, const Site *site)
{
    warp_collective(mask, site, nullptr, nullptr, nullptr);
}

void run_kernel(const Launch &what)
{
    if (!sim.configured)
        read_order();
    sim.launch = &what;
    sim.n = (int)(what.block.x * what.block.y * what.block.z);
    now = Now{};
    now.block_dim = what.block;
    now.grid_dim = what.grid;
    fiber_adopt(&sim.host);
    prepare_threads(what.block);
    shared_begin_kernel(what.shared);
    __tsan_release(&blocks_start);
    for (size_t k : block_order((size_t)what.grid.x * what.grid.y * what.grid.z)) {
        now.block = {(unsigned)(k % what.grid.x), (unsigned)(k / what.grid.x % what.grid.y),
                     (unsigned)(k / ((size_t)what.grid.x * what.grid.y))};
        run_block();
    }
    __tsan_acquire(&blocks_end);
    sim.launch = nullptr;
}

} // namespace cusim
