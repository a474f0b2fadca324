#include "measure/curvature_internal.h"

#include "base/signals.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

enum { WORKERS_MAX = 256 };

static const lips_network_view *network(const lips_curvature *c)
{
    return &c->s->args->network;
}

static int64_t params_of(const lips_curvature *c)
{
    return lips_net_params(c->s->net);
}

/* ---- memory ---- */

static lips_exec_spec exec_spec(int64_t block)
{
    return (lips_exec_spec){.cap = block, .t = 1};
}

static lips_status take_seat(worker *w, seat *t)
{
    const lips_survey *s = w->c->s;
    lips_exec_spec spec = exec_spec(w->c->block);
    LIPS_TRY(lips_exec_create(&t->exec, s->net, w->be, &spec));
    lips_exec_set_params(t->exec, w->params, w->buffers);
    return lips_second_create(&t->second, t->exec);
}

static void free_seat(seat *t)
{
    lips_second_free(t->second);
    lips_exec_free(t->exec);
}

static lips_status take_head(const lips_curvature *c, head *h)
{
    const int64_t n = c->block * c->s->k;
    h->p = calloc((size_t)(2 * n), sizeof *h->p);
    if (!h->p)
        return lips_fail(LIPS_ERR_MEMORY, "curvature: out of memory");
    h->u = c->s->no_loss ? NULL : h->p + n;
    return LIPS_OK;
}

static lips_status put(lips_backend *be, void **dst, const double *host, int64_t n)
{
    if (n == 0)
        return LIPS_OK;
    LIPS_TRY(be->ops->alloc(be, dst, (size_t)n * be->ops->real_bytes));
    return host ? be->ops->write(be, *dst, 0, host, n) : LIPS_OK;
}

static lips_status open_worker(worker *w, int64_t kept)
{
    const lips_survey *s = w->c->s;
    const lips_network_view *net = network(w->c);
    const int64_t p = params_of(w->c), n = w->c->block * s->k;
    LIPS_TRY(lips_survey_open(s, LIPS_PRECISION_F32, LIPS_PRECISION_F32, &w->be));
    LIPS_TRY(put(w->be, &w->params, net->params, p));
    LIPS_TRY(put(w->be, &w->buffers, net->buffers, lips_net_buffers(s->net)));
    LIPS_TRY(put(w->be, &w->v, NULL, p));
    LIPS_TRY(put(w->be, &w->sum, NULL, p));
    w->z = calloc((size_t)(2 * n), sizeof *w->z);
    w->kept = calloc((size_t)kept + 1, sizeof *w->kept);
    if (!w->z || !w->kept)
        return lips_fail(LIPS_ERR_MEMORY, "curvature: out of memory");
    w->rest = w->z + n;
    LIPS_TRY(take_head(w->c, &w->batch));
    LIPS_TRY(take_seat(w, &w->spare));
    for (; w->n_kept < kept; w->n_kept++)
        LIPS_TRY(take_seat(w, &w->kept[w->n_kept]));
    return LIPS_OK;
}

static void close_worker(worker *w, int64_t kept)
{
    free_seat(&w->spare);
    for (int64_t i = 0; w->kept && i < kept; i++)
        free_seat(&w->kept[i]);
    free(w->kept);
    free(w->host);
    free(w->z);
    free(w->batch.p);
    if (!w->be)
        return;
    void *device[] = {w->params, w->buffers, w->v, w->sum, w->signs, w->part};
    for (size_t i = 0; i < sizeof device / sizeof *device; i++)
        if (device[i])
            w->be->ops->release(w->be, device[i]);
    lips_survey_close(w->c->s, w->be);
}

/* Block size, blocks and workers of the first `samples`; bytes of one seat. */
static int64_t block_of(const lips_survey *s, int64_t samples)
{
    return lips_survey_sum_block(s->net, s->args->ops, samples);
}

/* Of one seat; *own: what its worker's handle takes for itself. */
static lips_status seat_bytes(const lips_survey *s, int64_t block, int64_t vectors, size_t *bytes,
                              size_t *own)
{
    const lips_ops *ops = s->args->ops;
    const lips_own_args dots = {.vectors = vectors, .places = lips_net_params(s->net)};
    lips_exec_spec spec = exec_spec(block);
    lips_backend *be = NULL;
    size_t first = 0;
    LIPS_TRY(lips_handles_take(s->handles, &be));
    const lips_status st = lips_exec_plan_bytes(s->net, be, &spec, &first);
    *bytes = first + lips_second_plan_bytes(s->net, be, block);
    *own = lips_exec_own_bytes(s->net, be, &spec);
    if (vectors && ops->own_bytes && ops->own_bytes(be, &dots) > *own)
        *own = ops->own_bytes(be, &dots);
    lips_survey_close(s, be);
    return st;
}

static int64_t blocks_of(const lips_survey *s, int64_t samples)
{
    const int64_t block = block_of(s, samples);
    return (samples + block - 1) / block;
}

/* A device has one: its blocks fill it one by one, and vectors on it need no order beside the
 * stream's. */
static int workers_of(const lips_survey *s, int64_t samples)
{
    const int64_t blocks = blocks_of(s, samples);
    int64_t threads = s->args->ops->pass_bytes ? 1 : s->args->threads;
    threads = threads < blocks ? threads : blocks;
    return (int)(threads < WORKERS_MAX ? threads : WORKERS_MAX);
}

static bool keeps(const lips_survey *s, int64_t samples, size_t one, size_t keep)
{
    return (double)one * (double)blocks_of(s, samples) <= (double)keep;
}

lips_status lips_curvature_plan_bytes(const lips_survey *s, const lips_curvature_use *use,
                                      size_t *bytes)
{
    const size_t real = s->args->ops->real_bytes, p = (size_t)lips_net_params(s->net);
    const int64_t block = block_of(s, use->samples), blocks = blocks_of(s, use->samples);
    const size_t logits = (size_t)(2 * block * s->k) * sizeof(double);
    size_t one = 0, own = 0;
    LIPS_TRY(seat_bytes(s, block, use->vectors, &one, &own));
    size_t each = one + own + 2 * logits + (3 * p + (size_t)lips_net_buffers(s->net)) * real;
    if (use->host)
        each += p * sizeof(double);
    if (use->remainder)
        each += lips_remainder_bytes(s, blocks);
    *bytes = (size_t)workers_of(s, use->samples) * each + (size_t)blocks * logits;
    if (keeps(s, use->samples, one, use->keep))
        *bytes += one * (size_t)blocks;
    return LIPS_OK;
}

/* Blocks of worker number index. */
static int64_t share_of(int64_t blocks, int workers, int index)
{
    return (blocks - index + workers - 1) / workers;
}

lips_status lips_curvature_create(lips_curvature **out, const lips_survey *s, int64_t samples,
                                  size_t keep)
{
    lips_status st = LIPS_OK;
    const int64_t blocks = blocks_of(s, samples);
    size_t one = 0, own = 0;
    *out = NULL;
    lips_curvature *c = calloc(1, sizeof *c);
    if (!c)
        return lips_fail(LIPS_ERR_MEMORY, "curvature: out of memory");
    c->s = s;
    c->samples = samples;
    c->block = block_of(s, samples);
    c->has_lock = pthread_mutex_init(&c->lock, NULL) == 0;
    c->has_cond = pthread_cond_init(&c->moved, NULL) == 0;
    c->workers = calloc((size_t)workers_of(s, samples), sizeof *c->workers);
    c->heads = calloc((size_t)blocks, sizeof *c->heads);
    if (!c->has_lock || !c->has_cond || !c->workers || !c->heads)
        LIPS_TRY_GOTO(st, lips_fail(LIPS_ERR_MEMORY, "curvature: cannot create workers"), out);
    for (int64_t i = 0; i < blocks; i++)
        LIPS_TRY_GOTO(st, take_head(c, &c->heads[i]), out);
    LIPS_TRY_GOTO(st, seat_bytes(s, c->block, 0, &one, &own), out);
    int n = workers_of(s, samples);
    for (int i = 0; i < n; i++) {
        worker *w = &c->workers[i];
        *w = (worker){.c = c, .index = i};
        c->n_workers = i + 1;
        LIPS_TRY_GOTO(st, open_worker(w, keeps(s, samples, one, keep) ? share_of(blocks, n, i) : 0),
                      out);
    }
    *out = c;
    c = NULL;
out:
    lips_curvature_free(c);
    return st;
}

void lips_curvature_free(lips_curvature *c)
{
    if (!c)
        return;
    for (int i = 0; i < c->n_workers; i++)
        close_worker(&c->workers[i], c->workers[i].n_kept + 1);
    if (c->has_lock)
        pthread_mutex_destroy(&c->lock);
    if (c->has_cond)
        pthread_cond_destroy(&c->moved);
    for (int64_t i = 0; c->heads && i < blocks_of(c->s, c->samples); i++)
        free(c->heads[i].p);
    free(c->heads);
    free(c->workers);
    free(c);
}

lips_backend *lips_curvature_backend(const lips_curvature *c)
{
    return c->workers[0].be;
}

/* ---- all blocks ---- */

static void fail_task(lips_curvature *c, lips_status st)
{
    pthread_mutex_lock(&c->lock);
    if (c->now.st == LIPS_OK) {
        c->now.st = st;
        snprintf(c->now.text, sizeof c->now.text, "%s", lips_error());
    }
    pthread_cond_broadcast(&c->moved);
    pthread_mutex_unlock(&c->lock);
}

/* Are the task's vectors where this backend's ops find them? */
static bool at_hand(const lips_curvature *c)
{
    return c->now.be == lips_curvature_backend(c);
}

static lips_status read_part(worker *w)
{
    const int64_t p = params_of(w->c);
    if (!w->host)
        w->host = malloc((size_t)p * sizeof *w->host);
    if (!w->host)
        return lips_fail(LIPS_ERR_MEMORY, "curvature: out of memory for %lld parameters",
                         (long long)p);
    return w->be->ops->read(w->be, w->host, w->sum, 0, p);
}

/* out += factor part. */
static lips_status add_part(worker *w, double factor)
{
    const task *now = &w->c->now;
    const int64_t p = params_of(w->c);
    if (!at_hand(w->c))
        return now->be->ops->combine(now->be, &(lips_combine_args){.y = now->out,
                                                                   .keep = 1,
                                                                   .factor = 1,
                                                                   .q = w->host,
                                                                   .c = &factor,
                                                                   .count = 1,
                                                                   .n = p});
    LIPS_TRY(w->be->ops->widen(w->be, now->out, factor, w->sum, p));
    /* Another handle adds next. */
    return w->c->n_workers > 1 ? w->be->ops->sync(w->be) : LIPS_OK;
}

/* Adds the block's part when all blocks before it have been added. *good = false: some thread has
 * failed. */
static lips_status add_in_turn(worker *w, int64_t block, double factor, bool *good)
{
    lips_curvature *c = w->c;
    if (!at_hand(c))
        LIPS_TRY(read_part(w));
    pthread_mutex_lock(&c->lock);
    while (c->now.turn != block && c->now.st == LIPS_OK)
        pthread_cond_wait(&c->moved, &c->lock);
    *good = c->now.st == LIPS_OK;
    const lips_status st = *good ? add_part(w, factor) : LIPS_OK;
    c->now.turn += st == LIPS_OK;
    pthread_cond_broadcast(&c->moved);
    pthread_mutex_unlock(&c->lock);
    return st;
}

static lips_status load_direction(worker *w)
{
    const task *now = &w->c->now;
    const int64_t p = params_of(w->c);
    if (!now->v)
        return LIPS_OK;
    return at_hand(w->c) ? w->be->ops->narrow(w->be, w->v, now->v, p)
                         : w->be->ops->write(w->be, w->v, 0, now->v, p);
}

/* The sum over block i's b samples into w->sum, by seat t; or all of a remainder's block. */
static lips_status run_block(worker *w, seat *t, int64_t i, int64_t first, int64_t b)
{
    const task_kind kind = w->c->now.kind;
    const bool kept = t != &w->spare;
    if (kind == TASK_GRADIENT)
        return lips_seat_gradient(w, t, first, b);
    if (!kept || !t->ready)
        LIPS_TRY(lips_seat_prepare(w, t, &w->c->heads[i], first, b));
    return kind == TASK_REMAINDER ? lips_remainder_block(w, t, i)
                                  : lips_seat_product(w, t, kind == TASK_GAUSS_NEWTON);
}

static lips_status run_blocks(worker *w)
{
    const lips_curvature *c = w->c;
    const task *now = &c->now;
    const int64_t blocks = (now->count + c->block - 1) / c->block;
    LIPS_TRY(load_direction(w));
    for (int64_t i = w->index; i < blocks; i += c->n_workers) {
        int64_t first = now->first + i * c->block, left = now->count - i * c->block;
        int64_t b = left < c->block ? left : c->block;
        bool kept = now->kind <= TASK_GAUSS_NEWTON && w->n_kept, good = true;
        seat *t = kept ? &w->kept[i / c->n_workers] : &w->spare;
        LIPS_TRY(lips_signals_pending());
        LIPS_TRY(run_block(w, t, i, first, b));
        if (now->kind == TASK_REMAINDER)
            continue;
        const head *h = t->loss;
        LIPS_TRY(add_in_turn(w, i, h->finite ? h->unit / (double)now->count : NAN, &good));
        if (!good)
            return LIPS_OK;
    }
    return LIPS_OK;
}

static void *work(void *user)
{
    worker *w = user;
    /* Libraries below must not start threads of their own: one block, one core, the same bits. */
    int before = omp_get_max_threads();
    omp_set_num_threads(1);
    lips_status st = run_blocks(w);
    omp_set_num_threads(before);
    if (st != LIPS_OK)
        fail_task(w->c, st);
    return NULL;
}

/* The calling thread is worker 0; a thread that cannot be started is a failure, since its blocks
 * are its own. */
lips_status lips_curvature_run(lips_curvature *c, const task *what)
{
    pthread_t ids[WORKERS_MAX];
    int started = 1;
    c->now = *what;
    if (what->out) {
        const lips_ops *ops = what->be->ops;
        LIPS_TRY(ops->zero(what->be, what->out, (size_t)params_of(c) * sizeof *what->out));
        if (c->n_workers > 1) /* what other handles read and add to */
            LIPS_TRY(ops->sync(what->be));
    }
    for (; started < c->n_workers; started++)
        if (pthread_create(&ids[started], NULL, work, &c->workers[started]) != 0) {
            lips_fail(LIPS_ERR_RUNTIME, "curvature: cannot start thread %d", started);
            fail_task(c, LIPS_ERR_RUNTIME);
            break;
        }
    work(&c->workers[0]);
    for (int i = 1; i < started; i++)
        pthread_join(ids[i], NULL);
    return c->now.st == LIPS_OK ? LIPS_OK : lips_fail(c->now.st, "%s", c->now.text);
}

lips_status lips_curvature_product(lips_curvature *c, lips_backend *be, double *out,
                                   const double *v, bool gauss_newton)
{
    return lips_curvature_run(c, &(task){.kind = gauss_newton ? TASK_GAUSS_NEWTON : TASK_HESSIAN,
                                         .be = be,
                                         .v = v,
                                         .out = out,
                                         .count = c->samples});
}

lips_status lips_curvature_gradient(lips_curvature *c, lips_backend *be, double *out, int64_t first,
                                    int64_t count)
{
    return lips_curvature_run(
        c, &(task){.kind = TASK_GRADIENT, .be = be, .out = out, .first = first, .count = count});
}
