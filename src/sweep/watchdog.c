#include "sweep/watchdog.h"

#include "base/log.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LOOK_MILLISECONDS = 250 };

struct lips_watchdog {
    double limit;
    pthread_t thread;
    /* Guarded by lock; changed is signalled at the end. */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    lips_watched *first;
    bool stop;
};

static void bark(const lips_watched *w, const lips_watch *at, double seconds)
{
    lips_error_line("%s: device %" PRId64
                    " has not answered for %.0f s (%s, stream %p, epoch %" PRId64 ", step %" PRId64
                    "): it hangs; finished cells and checkpoints are kept, run the "
                    "same command again",
                    w->what, at->device, seconds, at->call, at->stream, at->epoch, at->step);
    /* Not through main: see watchdog.h. */
    _exit(lips_exit_code(LIPS_ERR_RUNTIME));
}

static void *look(void *argument)
{
    lips_watchdog *d = argument;
    pthread_mutex_lock(&d->lock);
    while (!d->stop) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += LOOK_MILLISECONDS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        pthread_cond_timedwait(&d->changed, &d->lock, &until);
        for (const lips_watched *w = d->first; w && !d->stop; w = w->next) {
            lips_watch at;
            const double seconds = lips_watch_read(&w->watch, &at);
            if (seconds > d->limit)
                bark(w, &at, seconds);
        }
    }
    pthread_mutex_unlock(&d->lock);
    return NULL;
}

lips_status lips_watchdog_start(lips_watchdog **out, double limit)
{
    pthread_condattr_t attr;
    *out = NULL;
    if (limit <= 0)
        return LIPS_OK;
    lips_watchdog *d = calloc(1, sizeof *d);
    if (!d)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory for the watchdog");
    d->limit = limit;
    pthread_mutex_init(&d->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&d->changed, &attr);
    pthread_condattr_destroy(&attr);
    int error = pthread_create(&d->thread, NULL, look, d);
    if (error) {
        pthread_cond_destroy(&d->changed);
        pthread_mutex_destroy(&d->lock);
        free(d);
        return lips_fail(LIPS_ERR_RUNTIME, "cannot start a thread: %s", strerror(error));
    }
    *out = d;
    return LIPS_OK;
}

void lips_watchdog_stop(lips_watchdog *d)
{
    if (!d)
        return;
    pthread_mutex_lock(&d->lock);
    d->stop = true;
    pthread_cond_signal(&d->changed);
    pthread_mutex_unlock(&d->lock);
    pthread_join(d->thread, NULL);
    pthread_cond_destroy(&d->changed);
    pthread_mutex_destroy(&d->lock);
    free(d);
}

void lips_watchdog_enter(lips_watchdog *d, lips_watched *w, const char *what)
{
    if (!d)
        return;
    *w = (lips_watched){0};
    snprintf(w->what, sizeof w->what, "%s", what);
    pthread_mutex_lock(&d->lock);
    w->next = d->first;
    d->first = w;
    pthread_mutex_unlock(&d->lock);
    lips_watch_use(&w->watch);
}

void lips_watchdog_leave(lips_watchdog *d, lips_watched *w)
{
    if (!d)
        return;
    lips_watch_use(NULL);
    pthread_mutex_lock(&d->lock);
    for (lips_watched **p = &d->first; *p; p = &(*p)->next)
        if (*p == w) {
            *p = w->next;
            break;
        }
    pthread_mutex_unlock(&d->lock);
}
