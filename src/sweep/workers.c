#include "sweep/workers.h"

#include "base/file.h"
#include "base/log.h"
#include "base/signals.h"
#include "sweep/cell_files.h"
#include "sweep/output.h"
#include "sweep/places.h"
#include "sweep/sweep.h"

#include <errno.h>
#include <inttypes.h>
#include <omp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* How often the watcher looks. */
enum { WATCH_MILLISECONDS = 250, NOTE_TEXT = 256, WORKER_STACK = 8 << 20 };

typedef struct pool pool;

typedef struct worker {
    pool *pool;
    pthread_t thread;
    int place;       /* of the pool's: its device */
    lips_config cfg; /* of its cell */
    lips_cell_progress progress;
    lips_watched watched;
    char choices[LIPS_PATH_MAX]; /* the file of the output folder */
    const lips_work_cell *at;    /* NULL: idle. Guarded by the pool's lock, as are the rest */
    lips_demand demand;          /* of the cell */
    char name[LIPS_CELL_NAME_MAX];
    int64_t epochs;
} worker;

struct pool {
    /* Configuration. */
    const lips_workers_args *args;

    /* State, guarded by lock; changed is signalled when a cell ends. */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    worker *workers;
    lips_places places;
    lips_residents *residents;
    int64_t n_workers, alive;
    int64_t next;                 /* of args->cells */
    const lips_work_cell **again; /* (args->n) out of memory beside others: to be run alone */
    int64_t n_again, next_again;
    lips_config head_cfg; /* of the cell that is next, */
    lips_demand head;     /* and what it asks for */
    const lips_work_cell *head_cell;
    double seconds_done;
    bool solo; /* a suspect runs: nothing else may, on any device */
    lips_workers_result result;
    bool stop;
    lips_status fatal;
    char fatal_text[1024];
};

/* Everything stops: the first such error is the sweep's. Called with the lock held. */
static void stop_all(pool *p, lips_status st)
{
    if (!p->stop) {
        p->fatal = st;
        snprintf(p->fatal_text, sizeof p->fatal_text, "%s", lips_error());
    }
    p->stop = true;
    for (int64_t i = 0; i < p->n_workers; i++)
        __atomic_store_n(&p->workers[i].progress.stop, true, __ATOMIC_RELEASE);
}

/* Those that are to be run alone come last: they keep a device from all others. NULL: none is left
 * now, though one that runs may yet be put off. */
static const lips_work_cell *next_cell(const pool *p)
{
    if (p->next < p->args->n)
        return &p->args->cells[p->next];
    return p->next_again < p->n_again ? p->again[p->next_again] : NULL;
}

static lips_status look_at(pool *p, const lips_work_cell *c)
{
    if (p->head_cell == c)
        return LIPS_OK;
    LIPS_TRY(lips_experiment_cell(p->args->plan->e, c->cell, &p->head_cfg));
    p->head = lips_demand_of(p->args->plan, c->cell, &p->head_cfg);
    p->head.alone = p->next >= p->args->n || c->suspect;
    p->head_cell = c;
    return LIPS_OK;
}

/* Whether the cell may start now, and on this worker's device. */
static bool may_start(const pool *p, const worker *w, const lips_work_cell *c)
{
    if (p->places.running > 0 && (p->solo || c->suspect == LIPS_SUSPECT_PROCESS))
        return false;
    return lips_places_choose(&p->places, &p->head) == w->place;
}

/* From now on want of memory may be the others' doing. */
static void note_crowd(pool *p, int place)
{
    for (int64_t i = 0; i < p->n_workers && p->places.at[place].running > 1; i++)
        if (p->workers[i].place == place)
            __atomic_store_n(&p->workers[i].progress.crowded, true, __ATOMIC_RELEASE);
}

static void start_on(pool *p, worker *w, const lips_work_cell *c)
{
    if (p->next < p->args->n)
        p->next++;
    else
        p->next_again++;
    w->at = c;
    w->demand = p->head;
    p->head_cell = NULL; /* put off, the same cell asks for something else: to be run alone */
    w->progress = (lips_cell_progress){0};
    w->name[0] = '\0';
    lips_places_take(&p->places, w->place, &w->demand);
    if (p->args->plan->devices.own)
        note_crowd(p, w->place);
    p->solo = c->suspect == LIPS_SUSPECT_PROCESS;
    /* The cell behind it may be another device's. */
    pthread_cond_broadcast(&p->changed);
}

/* The next cell, once it is this worker's turn and there is room for it beside those that run;
 * NULL: no more. */
static const lips_work_cell *take(pool *p, worker *w)
{
    const lips_work_cell *cell = NULL;
    pthread_mutex_lock(&p->lock);
    while (!p->stop && !cell && lips_signals_pending() == LIPS_OK) {
        const lips_work_cell *c = next_cell(p);
        if (!c && p->places.running == 0)
            break;
        if (c && look_at(p, c) != LIPS_OK)
            stop_all(p, LIPS_ERR_RUNTIME);
        else if (c && may_start(p, w, c))
            start_on(p, w, cell = c);
        else
            pthread_cond_wait(&p->changed, &p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    return cell;
}

static int device_of(const worker *w)
{
    return w->pool->places.at[w->place].device;
}

/* Whether the fault left the other devices alone: CUDA speaks of the whole process. */
static bool others_answer(const pool *p, const worker *w)
{
    const lips_ops *ops = p->args->plan->devices.ops;
    bool all = true;
    lips_device d;
    for (int i = 0; i < p->places.n && all; i++)
        all = i == w->place || ops->probe(&d, p->places.at[i].device) == LIPS_OK;
    return all;
}

/* The device is gone, for every cell on it; which of those that ran did it, nobody knows unless one
 * ran alone. Called with the lock held. */
static void note_device_lost(pool *p, const worker *w)
{
    char dir[LIPS_PATH_MAX], why[1024];
    int64_t epoch = __atomic_load_n(&w->progress.epoch, __ATOMIC_ACQUIRE);
    snprintf(why, sizeof why, "%s", lips_error());
    const lips_suspicion lost = others_answer(p, w) ? LIPS_SUSPECT_DEVICE : LIPS_SUSPECT_PROCESS;
    const bool alone = p->solo || (w->at->suspect && lost == LIPS_SUSPECT_DEVICE);
    lips_status st = lips_path(dir, sizeof dir, "%s/cells/%s", p->args->plan->e->base.out, w->name);
    if (st == LIPS_OK)
        st = alone ? lips_cell_write_failed(dir, LIPS_ERR_DEVICE, epoch, why)
                   : lips_cell_write_device_lost(dir, epoch, lost, why);
    if (st == LIPS_OK)
        p->result.restart = true;
    lips_fail(LIPS_ERR_DEVICE, "%s", why);
}

/* One cell's end: what it means for the sweep. */
static void account(pool *p, worker *w, lips_status st, bool fatal)
{
    pthread_mutex_lock(&p->lock);
    if (st == LIPS_ERR_DEVICE)
        note_device_lost(p, w);
    lips_places_give(&p->places, w->place, &w->demand);
    if (st == LIPS_OK)
        p->result.done++;
    if (fatal || st == LIPS_ERR_DEVICE) {
        stop_all(p, st);
    } else if (w->progress.put_off) {
        lips_warn("%s; it is tried once more, alone on device %d", lips_error(), device_of(w));
        p->again[p->n_again++] = w->at;
    } else if (st != LIPS_OK && st != LIPS_ERR_REQUEUE && st != LIPS_ERR_INTERRUPTED) {
        if (!p->result.first_failure[0])
            snprintf(p->result.first_failure, sizeof p->result.first_failure, "%s", lips_error());
        p->result.failed++;
        lips_warn("%s", lips_error());
    }
    if (!w->progress.put_off)
        p->seconds_done += w->at->seconds;
    w->at = NULL;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
}

/* Beyond what the machine has, allocation may well succeed and the kernel then kill the process
 * with all its cells: such a cell is not begun. */
static lips_status check_memory(const worker *w)
{
    const double bytes = lips_demand_bytes(&w->demand);
    const double memory = w->pool->places.at[w->place].memory;
    if (bytes <= memory)
        return LIPS_OK;
    return lips_fail(LIPS_ERR_MEMORY, "out of memory: needs about %.3g GiB, %.3g GiB are there",
                     bytes / 0x1p30, memory / 0x1p30);
}

/* *fatal: the error concerns all cells. */
static lips_status run_cell(worker *w, int64_t cell, bool *fatal)
{
    const lips_experiment *e = w->pool->args->plan->e;
    char dir[LIPS_PATH_MAX];
    const lips_dataset *data = NULL;
    *fatal = true;
    LIPS_TRY(lips_experiment_cell(e, cell, &w->cfg));
    LIPS_TRY(lips_output_cell_dir(e, &w->cfg, dir, sizeof dir));
    LIPS_TRY(lips_dir_create(dir));
    pthread_mutex_lock(&w->pool->lock);
    snprintf(w->name, sizeof w->name, "%s", strrchr(dir, '/') + 1);
    w->epochs = w->cfg.epochs;
    pthread_mutex_unlock(&w->pool->lock);
    if (lips_cell_state_read(dir) == LIPS_CELL_FAILED)
        LIPS_TRY(lips_cell_reset(dir));
    lips_status st = check_memory(w);
    if (st == LIPS_OK)
        st = lips_datasets_get(w->pool->args->sets, &w->cfg, &data);
    if (st == LIPS_ERR_MEMORY) {
        char why[1024];
        snprintf(why, sizeof why, "%s", lips_error());
        LIPS_TRY(lips_cell_write_failed(dir, st, 0, why));
        lips_fail(st, "%s", why);
        *fatal = false;
    }
    if (st != LIPS_OK)
        return st;
    LIPS_TRY(lips_path(w->choices, sizeof w->choices, "%s/cuda-choices.tsv", e->base.out));
    lips_watchdog_enter(w->pool->args->watchdog, &w->watched, w->name);
    st = lips_cell_run(&(lips_cell_args){.cfg = &w->cfg,
                                         .data = data,
                                         .dir = dir,
                                         .device = device_of(w),
                                         .residents = w->pool->residents,
                                         .plan = (size_t)lips_demand_bytes(&w->demand),
                                         .choices = w->choices},
                       &w->progress);
    lips_watchdog_leave(w->pool->args->watchdog, &w->watched);
    *fatal = w->progress.output_failed || st == LIPS_ERR_USAGE;
    lips_datasets_put(w->pool->args->sets, data);
    return st;
}

static void *work(void *argument)
{
    worker *w = argument;
    pool *p = w->pool;
    /* A cell is one core's work: libraries must not start teams of their own. */
    omp_set_num_threads(1);
    for (const lips_work_cell *c = take(p, w); c; c = take(p, w)) {
        bool fatal = false;
        lips_status st = run_cell(w, c->cell, &fatal);
        if (st != LIPS_OK)
            lips_fail_prefix(st, "%s: ", w->name[0] ? w->name : "cell");
        account(p, w, st, fatal && st != LIPS_OK);
    }
    pthread_mutex_lock(&p->lock);
    p->alive--;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* "18/60 cells  mlp-w64-s0 120/300, ..." and the predicted seconds that are done. */
static double describe(pool *p, char note[NOTE_TEXT])
{
    double done = p->seconds_done;
    int64_t total = p->args->done + p->args->failed + p->args->n;
    size_t used = (size_t)snprintf(note, NOTE_TEXT, "%" PRId64 "/%" PRId64 " cells",
                                   p->result.done + p->result.failed, total);
    for (int64_t i = 0; i < p->n_workers; i++) {
        const worker *w = &p->workers[i];
        if (!w->at || !w->name[0])
            continue;
        int64_t epoch = __atomic_load_n(&w->progress.epoch, __ATOMIC_ACQUIRE);
        char on[16] = "";
        if (p->places.n > 1)
            snprintf(on, sizeof on, " @%d", device_of(w));
        if (w->epochs > 0)
            done += w->at->seconds * (double)epoch / (double)w->epochs;
        /* The hash tells the reader of a moving line nothing. */
        size_t shown = strlen(w->name) > 9 ? strlen(w->name) - 9 : strlen(w->name);
        if (used < NOTE_TEXT - 64)
            used += (size_t)snprintf(note + used, NOTE_TEXT - used, "  %.*s%s %" PRId64 "/%" PRId64,
                                     shown < 36 ? (int)shown : 36, w->name, on, epoch, w->epochs);
    }
    return done;
}

static void write_progress(const pool *p, double elapsed, double done, double total)
{
    char json[NOTE_TEXT];
    double left = done > 0 ? elapsed * (total - done) / done : total / (double)p->n_workers;
    snprintf(json, sizeof json, "{\"left_seconds\":%.1f}", left > 0 ? left : 0);
    lips_note_write_progress(p->args->plan->e->base.out, json);
}

/* The calling thread shows how far the others are. */
static void watch(pool *p)
{
    char note[NOTE_TEXT];
    double total = 0, start = lips_now(), written = start;
    for (int64_t i = 0; i < p->args->n; i++)
        total += p->args->cells[i].seconds;
    lips_progress *line = lips_progress_start("sweep", total);
    pthread_mutex_lock(&p->lock);
    while (p->alive > 0) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += WATCH_MILLISECONDS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        pthread_cond_timedwait(&p->changed, &p->lock, &until);
        double done = describe(p, note);
        pthread_mutex_unlock(&p->lock);
        lips_progress_update(line, done, note);
        if (lips_now() - written >= 1) {
            written = lips_now();
            write_progress(p, written - start, done, total);
        }
        pthread_mutex_lock(&p->lock);
    }
    describe(p, note);
    pthread_mutex_unlock(&p->lock);
    lips_progress_finish(line, note);
}

/* Worker i of a place comes before worker i+1 of any: if threads run out, no device is without. */
static void assign_places(pool *p)
{
    int64_t k = 0;
    for (int64_t i = 0; k < p->n_workers; i++)
        for (int at = 0; at < p->places.n && k < p->n_workers; at++)
            if (i < p->places.at[at].slots)
                p->workers[k++].place = at;
}

static lips_status start_workers(pool *p)
{
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, WORKER_STACK);
    int error = 0;
    pthread_mutex_lock(&p->lock);
    while (p->alive < p->n_workers && !error) {
        worker *w = &p->workers[p->alive];
        w->pool = p;
        error = pthread_create(&w->thread, &attr, work, w);
        p->alive += !error;
    }
    p->n_workers = p->alive;
    for (int at = 0; at < p->places.n; at++)
        p->places.at[at].slots = 0;
    for (int64_t i = 0; i < p->n_workers; i++)
        p->places.at[p->workers[i].place].slots++;
    pthread_mutex_unlock(&p->lock);
    pthread_attr_destroy(&attr);
    if (p->n_workers == 0)
        return lips_fail(LIPS_ERR_RUNTIME, "cannot start a thread: %s", strerror(error));
    if (error)
        lips_warn("only %" PRId64 " cells at once: cannot start more threads: %s", p->n_workers,
                  strerror(error));
    return LIPS_OK;
}

/* Timed by a clock that nobody sets. */
static void init_condition(pthread_cond_t *c)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(c, &attr);
    pthread_condattr_destroy(&attr);
}

/* The longest first, so that no long one is left alone at the end; ties in the order of the sweep.
 * Suspects come last: they keep a device, or all, from the others. */
static int by_seconds_down(const void *a, const void *b)
{
    const lips_work_cell *x = a, *y = b;
    if (x->suspect != y->suspect)
        return x->suspect < y->suspect ? -1 : 1;
    if (x->seconds != y->seconds)
        return x->seconds < y->seconds ? 1 : -1;
    return (x->cell > y->cell) - (x->cell < y->cell);
}

/* A worker for each slot of each place, as far as there are cells for them. */
static lips_status create_pool(pool *p)
{
    const int64_t n = p->args->n;
    LIPS_TRY(lips_places_create(&p->places, p->args->plan));
    for (int i = 0; i < p->places.n; i++)
        p->n_workers += p->places.at[i].slots < n ? p->places.at[i].slots : n;
    LIPS_TRY(lips_residents_create(&p->residents));
    p->workers = calloc((size_t)p->n_workers, sizeof *p->workers);
    p->again = calloc((size_t)n, sizeof *p->again);
    if (!p->workers || !p->again)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory for %" PRId64 " workers", p->n_workers);
    assign_places(p);
    return LIPS_OK;
}

lips_status lips_workers_run(lips_workers_result *out, lips_workers_args *a)
{
    *out = (lips_workers_result){.done = a->done, .failed = a->failed};
    if (a->n == 0)
        return LIPS_OK;
    pool *p = calloc(1, sizeof *p);
    if (!p)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory for workers");
    p->args = a;
    p->result = *out;
    qsort(a->cells, (size_t)a->n, sizeof *a->cells, by_seconds_down);
    pthread_mutex_init(&p->lock, NULL);
    init_condition(&p->changed);
    lips_status st;
    LIPS_TRY_GOTO(st, create_pool(p), out);
    LIPS_TRY_GOTO(st, start_workers(p), out);
    watch(p);
    for (int64_t i = 0; i < p->n_workers; i++)
        pthread_join(p->workers[i].thread, NULL);
    *out = p->result;
    st = p->stop ? lips_fail(p->fatal, "%s", p->fatal_text) : lips_signals_pending();
out:
    pthread_cond_destroy(&p->changed);
    pthread_mutex_destroy(&p->lock);
    lips_residents_free(p->residents);
    lips_places_free(&p->places);
    free(p->again);
    free(p->workers);
    free(p);
    return st;
}
