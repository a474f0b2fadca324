#include "measure/curvature_internal.h"

#include "base/signals.h"
#include "measure/head.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    int64_t n = w->c->block * s->k;
    LIPS_TRY(lips_exec_create(&t->exec, s->net, w->be, &spec));
    lips_exec_set_params(t->exec, w->params, w->buffers);
    LIPS_TRY(lips_second_create(&t->second, t->exec));
    t->p = calloc((size_t)(4 * n), sizeof *t->p);
    if (!t->p)
        return lips_fail(LIPS_ERR_MEMORY, "curvature: out of memory");
    t->rest = t->p + n;
    t->z = t->p + 2 * n;
    t->u = s->no_loss ? NULL : t->p + 3 * n;
    return LIPS_OK;
}

static void free_seat(seat *t)
{
    lips_second_free(t->second);
    lips_exec_free(t->exec);
    free(t->p);
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
    int64_t p = params_of(w->c);
    LIPS_TRY(lips_survey_open(s, LIPS_PRECISION_F32, LIPS_PRECISION_F32, &w->be));
    LIPS_TRY(put(w->be, &w->params, net->params, p));
    LIPS_TRY(put(w->be, &w->buffers, net->buffers, lips_net_buffers(s->net)));
    LIPS_TRY(put(w->be, &w->v, NULL, p));
    LIPS_TRY(put(w->be, &w->sum, NULL, p));
    w->host = malloc((size_t)p * sizeof *w->host);
    w->kept = calloc((size_t)kept + 1, sizeof *w->kept);
    if (!w->host || !w->kept)
        return lips_fail(LIPS_ERR_MEMORY, "curvature: out of memory for %lld parameters",
                         (long long)p);
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
    if (!w->be)
        return;
    void *device[] = {w->params, w->buffers, w->v, w->sum};
    for (size_t i = 0; i < sizeof device / sizeof *device; i++)
        if (device[i])
            w->be->ops->release(w->be, device[i]);
    w->be->ops->close(w->be);
}

/* Block size, blocks and workers of the first `samples`; bytes of one seat. */
static int64_t block_of(const lips_survey *s, int64_t samples)
{
    return lips_survey_sum_block(s->net, s->args->ops, samples);
}

static lips_status seat_bytes(const lips_survey *s, int64_t block, size_t *bytes)
{
    const lips_ops *ops = s->args->ops;
    lips_exec_spec spec = exec_spec(block);
    lips_backend *be = NULL;
    lips_exec *exec = NULL;
    lips_status st = LIPS_OK;
    size_t first = 0, second = 0;
    LIPS_TRY(ops->open(&be, s->args->device));
    LIPS_TRY_GOTO(st, lips_exec_plan_bytes(s->net, be, &spec, &first), out);
    LIPS_TRY_GOTO(st, lips_exec_create(&exec, s->net, be, &spec), out);
    LIPS_TRY_GOTO(st, lips_second_plan_bytes(exec, &second), out);
    *bytes = first + second + lips_exec_own_bytes(s->net, be, &spec) +
             (size_t)(4 * block * s->k) * sizeof(double);
out:
    lips_exec_free(exec);
    ops->close(be);
    return st;
}

static int64_t blocks_of(const lips_survey *s, int64_t samples)
{
    const int64_t block = block_of(s, samples);
    return (samples + block - 1) / block;
}

static int workers_of(const lips_survey *s, int64_t samples)
{
    int64_t blocks = blocks_of(s, samples), threads = s->args->threads;
    threads = threads < blocks ? threads : blocks;
    return (int)(threads < WORKERS_MAX ? threads : WORKERS_MAX);
}

static bool keeps(const lips_survey *s, int64_t samples, size_t one, size_t keep)
{
    return (double)one * (double)blocks_of(s, samples) <= (double)keep;
}

lips_status lips_curvature_plan_bytes(const lips_survey *s, int64_t samples, size_t keep,
                                      size_t *bytes)
{
    size_t one = 0, real = s->args->ops->real_bytes;
    size_t workers = (size_t)workers_of(s, samples), p = (size_t)lips_net_params(s->net);
    LIPS_TRY(seat_bytes(s, block_of(s, samples), &one));
    *bytes = workers * (one + p * (3 * real + sizeof(double)));
    if (keeps(s, samples, one, keep))
        *bytes += one * (size_t)blocks_of(s, samples);
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
    size_t one = 0;
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
    if (!c->has_lock || !c->has_cond || !c->workers)
        LIPS_TRY_GOTO(st, lips_fail(LIPS_ERR_MEMORY, "curvature: cannot create workers"), out);
    LIPS_TRY_GOTO(st, seat_bytes(s, c->block, &one), out);
    int n = workers_of(s, samples);
    for (int i = 0; i < n; i++) {
        worker *w = &c->workers[i];
        *w = (worker){.c = c, .index = i};
        c->n_workers = i + 1;
        LIPS_TRY_GOTO(st,
                      open_worker(w, keeps(s, samples, one, keep)
                                         ? share_of(blocks_of(s, samples), n, i)
                                         : 0),
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
    free(c->workers);
    free(c);
}

/* ---- one block ---- */

static bool finite_all(const float *x, int64_t n)
{
    int bad = 0;
    for (int64_t i = 0; i < n; i++)
        bad |= !isfinite(x[i]);
    return !bad;
}

/* Forward pass of samples first..first+b-1, and the loss's derivatives at their logits. */
static lips_status forward(worker *w, seat *t, int64_t first, int64_t b)
{
    const lips_survey *s = w->c->s;
    const lips_inputs *in = &s->args->inputs;
    lips_tensor *input = lips_exec_input(t->exec), logits;
    int64_t d = lips_tensor_features(input), k = s->k;
    input->b = b;
    LIPS_TRY(lips_survey_input(s, w->be, input, first));
    LIPS_TRY(lips_exec_forward(t->exec, false, &logits));
    t->logits = logits;
    LIPS_TRY(w->be->ops->download(w->be, t->z, &logits));
    t->unit = 0;
    t->finite = true;
    for (int64_t i = 0; i < b; i++) {
        double *p = t->p + i * k, *rest = t->rest + i * k, *u = t->u ? t->u + i * k : NULL;
        lips_head(s, first + i, t->z + i * k, p, rest, u);
        t->unit = fmax(t->unit, lips_head_curvature(s, p, rest));
        for (int64_t j = 0; j < k; j++) {
            t->finite = t->finite && isfinite(t->z[i * k + j]);
            t->unit = u ? fmax(t->unit, fabs(u[j])) : t->unit;
        }
        t->finite = t->finite && finite_all(in->x + lips_survey_row(s, first + i) * d, d);
    }
    if (!(t->unit > 0))
        t->unit = 1;
    return LIPS_OK;
}

/* The loss's cotangent into the given tensor of the seat's backward pass. */
static lips_status upload_loss(worker *w, seat *t, const lips_tensor *seed)
{
    int64_t n = seed->b * w->c->s->k;
    for (int64_t i = 0; i < n; i++)
        t->z[i] = t->u[i] / t->unit;
    return w->be->ops->upload_f64(w->be, seed, t->z);
}

static lips_status prepare(worker *w, seat *t, int64_t first, int64_t b)
{
    lips_tensor seed;
    LIPS_TRY(forward(w, t, first, b));
    if (t->u) {
        LIPS_TRY(lips_second_seed(t->second, &seed));
        LIPS_TRY(upload_loss(w, t, &seed));
        LIPS_TRY(lips_second_primal(t->second));
    }
    t->ready = true;
    return LIPS_OK;
}

/* seed = (d2 loss/dz2) zdot / unit: on the device, or here. */
static lips_status curve(worker *w, seat *t, const lips_tensor *zdot, const lips_tensor *seed)
{
    const lips_survey *s = w->c->s;
    const lips_ops *ops = w->be->ops;
    if (ops->loss_curve)
        return ops->loss_curve(w->be, &(lips_loss_curve_args){.kind = s->args->network.loss,
                                                              .z = t->logits,
                                                              .v = *zdot,
                                                              .y = *seed,
                                                              .scale = 1 / t->unit});
    LIPS_TRY(ops->download(w->be, t->z, zdot));
    for (int64_t i = 0; i < zdot->b; i++) {
        lips_head_curve(s, t->p + i * s->k, t->z + i * s->k);
        for (int64_t j = 0; j < s->k; j++)
            t->z[i * s->k + j] /= t->unit;
    }
    return ops->upload_f64(w->be, seed, t->z);
}

/* Sum of the block's products, still divided by unit, into w->sum. */
static lips_status product(worker *w, seat *t, bool gauss_newton)
{
    lips_tensor zdot, seed;
    LIPS_TRY(lips_second_jvp(t->second, w->v, &zdot));
    LIPS_TRY(lips_second_seed_dot(t->second, &seed));
    LIPS_TRY(curve(w, t, &zdot, &seed));
    LIPS_TRY(w->be->ops->zero(w->be, w->sum, (size_t)params_of(w->c) * w->be->ops->real_bytes));
    return lips_second_vjp(t->second, gauss_newton ? NULL : w->v, w->sum);
}

static lips_status gradient(worker *w, seat *t, int64_t first, int64_t b)
{
    lips_tensor seed;
    LIPS_TRY(forward(w, t, first, b));
    LIPS_TRY(lips_exec_seed(t->exec, 1, &seed));
    LIPS_TRY(upload_loss(w, t, &seed));
    return lips_exec_grad(t->exec, w->sum);
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

/* Adds the block's part when all blocks before it have been added. False: some thread has failed.
 */
static bool add_in_turn(worker *w, int64_t block, double factor)
{
    lips_curvature *c = w->c;
    int64_t p = params_of(c);
    pthread_mutex_lock(&c->lock);
    while (c->now.turn != block && c->now.st == LIPS_OK)
        pthread_cond_wait(&c->moved, &c->lock);
    bool good = c->now.st == LIPS_OK;
    for (int64_t i = 0; good && i < p; i++)
        c->now.out[i] += factor * w->host[i];
    c->now.turn++;
    pthread_cond_broadcast(&c->moved);
    pthread_mutex_unlock(&c->lock);
    return good;
}

static lips_status run_blocks(worker *w)
{
    const lips_curvature *c = w->c;
    const task *now = &c->now;
    int64_t blocks = (now->count + c->block - 1) / c->block;
    if (now->v)
        LIPS_TRY(w->be->ops->write(w->be, w->v, 0, now->v, params_of(c)));
    for (int64_t i = w->index; i < blocks; i += c->n_workers) {
        int64_t first = now->first + i * c->block, left = now->count - i * c->block;
        int64_t b = left < c->block ? left : c->block;
        bool kept = now->kind <= TASK_GAUSS_NEWTON && w->n_kept;
        seat *t = kept ? &w->kept[i / c->n_workers] : &w->spare;
        LIPS_TRY(lips_signals_pending());
        if (now->kind == TASK_REMAINDER) {
            LIPS_TRY(prepare(w, t, first, b));
            LIPS_TRY(lips_remainder_block(w, t, i));
            continue;
        }
        if (now->kind == TASK_GRADIENT)
            LIPS_TRY(gradient(w, t, first, b));
        else {
            if (!kept || !t->ready)
                LIPS_TRY(prepare(w, t, first, b));
            LIPS_TRY(product(w, t, now->kind == TASK_GAUSS_NEWTON));
        }
        LIPS_TRY(w->be->ops->read(w->be, w->host, w->sum, 0, params_of(c)));
        if (!add_in_turn(w, i, t->finite ? t->unit / (double)now->count : NAN))
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
    if (what->kind != TASK_REMAINDER)
        memset(what->out, 0, (size_t)params_of(c) * sizeof *what->out);
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

lips_status lips_curvature_product(lips_curvature *c, double *out, const double *v,
                                   bool gauss_newton)
{
    return lips_curvature_run(c, &(task){.kind = gauss_newton ? TASK_GAUSS_NEWTON : TASK_HESSIAN,
                               .v = v,
                               .out = out,
                               .count = c->samples});
}

lips_status lips_curvature_gradient(lips_curvature *c, double *out, int64_t first, int64_t count)
{
    return lips_curvature_run(c, &(task){.kind = TASK_GRADIENT, .out = out, .first = first, .count = count});
}
