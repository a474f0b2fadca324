#include "base/watch.h"

#include <stddef.h>
#include <time.h>

/* Of a thread, as its last error's text is: handles are opened deep below those who watch. */
static _Thread_local lips_watch *mine;

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void lips_watch_use(lips_watch *w)
{
    mine = w;
}

void lips_watch_begin(const char *call, int device, const void *stream)
{
    if (!mine)
        return;
    __atomic_store_n(&mine->call, call, __ATOMIC_RELAXED);
    __atomic_store_n(&mine->device, device, __ATOMIC_RELAXED);
    __atomic_store_n(&mine->stream, stream, __ATOMIC_RELAXED);
    __atomic_store_n(&mine->since, now(), __ATOMIC_RELEASE);
}

void lips_watch_end(void)
{
    if (mine)
        __atomic_store_n(&mine->since, 0, __ATOMIC_RELEASE);
}

void lips_watch_at(int64_t epoch, int64_t step)
{
    if (!mine)
        return;
    __atomic_store_n(&mine->epoch, epoch, __ATOMIC_RELAXED);
    __atomic_store_n(&mine->step, step, __ATOMIC_RELAXED);
}

double lips_watch_read(const lips_watch *w, lips_watch *out)
{
    *out = (lips_watch){.since = __atomic_load_n(&w->since, __ATOMIC_ACQUIRE),
                        .call = __atomic_load_n(&w->call, __ATOMIC_RELAXED),
                        .stream = __atomic_load_n(&w->stream, __ATOMIC_RELAXED),
                        .device = __atomic_load_n(&w->device, __ATOMIC_RELAXED),
                        .epoch = __atomic_load_n(&w->epoch, __ATOMIC_RELAXED),
                        .step = __atomic_load_n(&w->step, __ATOMIC_RELAXED)};
    return out->since ? (double)(now() - out->since) * 1e-9 : 0;
}
