#include "measure/measure.h"

#include "base/log.h"
#include "base/signals.h"
#include "measure/block.h"
#include "measure/emit.h"

#include <inttypes.h>
#include <omp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    THREADS_MAX = 1024,
    IN_FLIGHT = 2 /* blocks on a device, so that it goes on while the host sums the other's */
};

/* What the threads of one measurement share. Which thread takes which block has no influence on the
 * results. */
typedef struct lips_job {
    const lips_survey *survey;
    pthread_mutex_t lock; /* guards the rest */
    int64_t next;         /* first sample of the next block */
    int64_t done;         /* samples finished, for progress */
    lips_status st;       /* the first failure, and its text (a thread's text is its own) */
    char text[1024];
    lips_progress *progress;
} lips_job;

static void fail_job(lips_job *job, lips_status st)
{
    pthread_mutex_lock(&job->lock);
    if (job->st == LIPS_OK) {
        job->st = st;
        snprintf(job->text, sizeof job->text, "%s", lips_error());
    }
    pthread_mutex_unlock(&job->lock);
}

/* The next block's first sample; -1 when there is none or another thread failed. */
static int64_t next_block(lips_job *job, int64_t done)
{
    int64_t first = -1;
    char note[64];
    pthread_mutex_lock(&job->lock);
    job->done += done;
    if (done && job->progress) {
        snprintf(note, sizeof note, "%" PRId64 "/%" PRId64 " samples", job->done, job->survey->n);
        lips_progress_update(job->progress, (double)job->done, note);
    }
    if (job->st == LIPS_OK && job->next < job->survey->n) {
        first = job->next;
        job->next += job->survey->block;
    }
    pthread_mutex_unlock(&job->lock);
    return first;
}

static lips_status run_blocks(lips_job *job)
{
    lips_block *b = NULL;
    lips_status st = LIPS_OK;
    LIPS_TRY_GOTO(st, lips_block_create(&b, job->survey), out);
    for (int64_t first = next_block(job, 0); first >= 0; first = next_block(job, b->b)) {
        LIPS_TRY_GOTO(st, lips_signals_pending(), out);
        LIPS_TRY_GOTO(st, lips_block_run(b, first), out);
    }
out:
    lips_block_free(b);
    return st;
}

static void *work(void *user)
{
    lips_job *job = user;
    /* Libraries below must not start threads of their own: one block, one core, the same bits. */
    int before = omp_get_max_threads();
    omp_set_num_threads(1);
    lips_status st = run_blocks(job);
    omp_set_num_threads(before);
    if (st != LIPS_OK)
        fail_job(job, st);
    return NULL;
}

/* Each with a block of its own. */
static int threads_of(const lips_survey *p)
{
    const int64_t blocks = (p->n + p->block - 1) / p->block;
    const int least = p->args->ops->pass_bytes ? IN_FLIGHT : 1;
    int64_t threads = p->args->threads > least ? p->args->threads : least;
    threads = threads < blocks ? threads : blocks;
    return (int)(threads < THREADS_MAX ? threads : THREADS_MAX);
}

/* The calling thread is one of the workers. */
static lips_status run_threads(const lips_survey *p)
{
    lips_job job = {.survey = p};
    pthread_t ids[THREADS_MAX];
    int wanted = threads_of(p), started = 0;
    if (pthread_mutex_init(&job.lock, NULL) != 0)
        return lips_fail(LIPS_ERR_RUNTIME, "measure: cannot create a lock");
    if (p->args->progress)
        job.progress = lips_progress_start("measure", (double)p->n);
    /* Fewer threads than wished only take longer. */
    while (started < wanted - 1 && pthread_create(&ids[started], NULL, work, &job) == 0)
        started++;
    work(&job);
    for (int i = 0; i < started; i++)
        pthread_join(ids[i], NULL);
    if (job.progress)
        lips_progress_finish(job.progress, job.st == LIPS_OK ? "done" : "stopped");
    pthread_mutex_destroy(&job.lock);
    return job.st == LIPS_OK ? LIPS_OK : lips_fail(job.st, "%s", job.text);
}

lips_status lips_measure_run(lips_measurement *out, const lips_measure_args *a)
{
    lips_survey *p = NULL;
    lips_status st = LIPS_OK;
    memset(out, 0, sizeof *out);
    LIPS_TRY_GOTO(st, lips_survey_create(&p, a), out);
    LIPS_TRY_GOTO(st, lips_survey_check_labels(p), out);
    LIPS_TRY_GOTO(st, lips_survey_load(p), out);
    if (p->needs) {
        LIPS_TRY_GOTO(st, lips_survey_alloc(p), out);
        LIPS_TRY_GOTO(st, run_threads(p), out);
    }
    LIPS_TRY_GOTO(st, lips_emit_all(out, p), out);
out:
    lips_survey_free(p);
    if (st != LIPS_OK)
        lips_measurement_free(out);
    return st;
}

void lips_measurement_free(lips_measurement *m)
{
    for (int i = 0; i < m->n_samples; i++)
        free(m->samples[i].v);
    free(m->samples);
    free(m->records);
    free(m->storage);
    memset(m, 0, sizeof *m);
}

lips_status lips_measure_plan_bytes(const lips_measure_args *a, size_t *bytes)
{
    lips_survey *p = NULL;
    size_t block = 0, own = 0, curvature = 0;
    LIPS_TRY(lips_survey_create(&p, a));
    lips_status st = p->needs ? lips_block_plan_bytes(p, &block, &own) : LIPS_OK;
    if (st == LIPS_OK)
        st = lips_emit_plan_bytes(p, &curvature);
    /* one after the other: blocks, spectral norms, curvature; the blocks' handles stay open */
    const size_t threads = (size_t)threads_of(p), kept = threads * own;
    size_t most = block * threads, weights = lips_emit_weight_bytes(p) + kept;
    curvature += curvature ? kept : 0;
    most = weights > most ? weights : most;
    most = curvature > most ? curvature : most;
    /* kept twice when the caller wants the per-sample values */
    *bytes = most + lips_survey_load_bytes(p) + lips_survey_bytes(p) * (a->per_sample ? 2 : 1);
    lips_survey_free(p);
    return st;
}
