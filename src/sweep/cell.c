/*
 * sweep/cell.c - one cell from its first epoch, or its checkpoint, to its last record.
 *
 * What makes a resumed metrics.jsonl byte-identical: records are a function of the epoch alone, and
 * the checkpoint stores the length of the file up to which it belongs. A resume cuts the file there
 * and writes the rest again. The order is: records appended, synced; then the checkpoint; `done`
 * last.
 */
#include "sweep/sweep.h"

#include "base/file.h"
#include "base/log.h"
#include "base/random.h"
#include "base/record.h"
#include "base/signals.h"
#include "measure/measure.h"
#include "sweep/cell_files.h"
#include "sweep/cell_records.h"
#include "sweep/device.h"
#include "train/trainer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { EXTRA_TEXT = 256 };

typedef enum piece { TRAIN, EVALUATE, MEASURE, SAVE, PIECES } piece;
static const char *const piece_names[PIECES] = {"train", "evaluate", "measure", "save"};

typedef struct cell {
    /* Configuration. */
    const lips_cell_args *args;
    const lips_config *cfg; /* with checkpoint_* */
    lips_config portable;   /* what the results depend on: goes into files */
    const lips_dataset *data;
    const char *dir;
    lips_cell_progress *progress;
    char metrics_path[LIPS_PATH_MAX], state_path[LIPS_PATH_MAX];

    /* Owned. */
    lips_net *net;
    lips_backend *be;
    const lips_resident *resident; /* to be put back */
    lips_trainer *tr;
    int metrics_fd;
    lips_place at; /* of be */

    /* State, stored with the checkpoint. */
    int64_t metrics_bytes;
    int64_t recorded;      /* last epoch whose records are written; -1: none */
    int64_t interpolation; /* first evaluated epoch at interpolation; -1: none yet */
    bool stopped;          /* early stop */

    /* Not stored. */
    double started, checkpoint_time, progress_time, seconds[PIECES];
    int64_t checkpoint_epoch, first_epoch;
} cell;

/* A failure to write is the folder's, not the cell's: recording the cell as failed would make it
 * stay so after the disk has room again. */
static lips_status output(cell *c, lips_status st)
{
    if (st == LIPS_ERR_RUNTIME)
        c->progress->output_failed = true;
    return st;
}

static double lap(cell *c, piece p, double since)
{
    double now = lips_now();
    c->seconds[p] += now - since;
    return now;
}

static lips_status create_trainer(cell *c)
{
    lips_trainer_free(c->tr);
    c->tr = NULL;
    c->metrics_bytes = 0;
    c->recorded = -1;
    c->interpolation = -1;
    c->stopped = false;
    return lips_trainer_create_on(&c->tr, &c->portable, c->net, c->data, c->be, c->resident);
}

static lips_status parse_extra(cell *c, const char *extra)
{
    int stopped = 0, end = 0;
    int n = sscanf(extra,
                   "metrics_bytes=%" SCNd64 " recorded=%" SCNd64 " interpolation=%" SCNd64
                   " stopped=%d%n",
                   &c->metrics_bytes, &c->recorded, &c->interpolation, &stopped, &end);
    if (n != 4 || extra[end] || c->metrics_bytes < 0)
        return lips_fail(LIPS_ERR_DATA, "%s: the sweep's part is damaged: '%.80s'", c->state_path,
                         extra);
    c->stopped = stopped != 0;
    return LIPS_OK;
}

/* Cuts metrics.jsonl to what the checkpoint knows, or starts the cell again if it holds less. */
static lips_status fit_metrics(cell *c)
{
    struct stat s;
    c->metrics_fd = open(c->metrics_path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (c->metrics_fd < 0 || fstat(c->metrics_fd, &s) != 0)
        return lips_fail(LIPS_ERR_RUNTIME, "cannot open %s: %s", c->metrics_path, strerror(errno));
    if (s.st_size < c->metrics_bytes) {
        lips_warn("%s has %lld bytes, the checkpoint belongs to %" PRId64 ": the cell starts again",
                  c->metrics_path, (long long)s.st_size, c->metrics_bytes);
        LIPS_TRY(create_trainer(c));
    }
    if (ftruncate(c->metrics_fd, (off_t)c->metrics_bytes) != 0)
        return lips_fail(LIPS_ERR_RUNTIME, "cannot cut %s to %" PRId64 " bytes: %s",
                         c->metrics_path, c->metrics_bytes, strerror(errno));
    return LIPS_OK;
}

static lips_status start(cell *c)
{
    char *extra = NULL;
    bool found = false;
    lips_model_spec spec = lips_config_model(c->cfg, c->data);
    LIPS_TRY(lips_path(c->metrics_path, sizeof c->metrics_path, "%s/metrics.jsonl", c->dir));
    LIPS_TRY(lips_path(c->state_path, sizeof c->state_path, "%s/state.safetensors", c->dir));
    LIPS_TRY(lips_net_create(&c->net, &spec));
    LIPS_TRY(lips_device_open(&c->be, c->cfg, c->args->device));
    if (c->args->choices && c->be->ops->keep_choices)
        LIPS_TRY(c->be->ops->keep_choices(c->be, c->args->choices));
    c->at = (lips_place){.ops = c->be->ops, .device = c->args->device, .choices = c->args->choices};
    LIPS_TRY(lips_handles_create(&c->at.handles, c->at.ops, c->at.device, c->at.choices));
    LIPS_TRY(lips_probe_rows_create(&c->at.probes, c->be));
    LIPS_TRY(lips_backend_label(&c->at.label, c->at.ops, c->at.device));
    c->at.precision = lips_precision_label(c->at.ops, c->cfg->precision, c->cfg->precision);
    LIPS_TRY(
        lips_residents_get(c->args->residents, c->data, c->at.ops, c->at.device, &c->resident));
    LIPS_TRY(create_trainer(c));
    lips_dir_remove_temps(c->dir);
    LIPS_TRY(output(c, lips_cell_write_config(c->dir, &c->portable)));
    lips_status st = lips_trainer_load(c->tr, c->state_path, &extra, &found);
    if (st == LIPS_OK && found)
        st = parse_extra(c, extra);
    free(extra);
    LIPS_TRY(st);
    LIPS_TRY(output(c, fit_metrics(c)));
    c->first_epoch = c->checkpoint_epoch = lips_trainer_epoch(c->tr);
    return LIPS_OK;
}

static lips_status checkpoint(cell *c)
{
    char extra[EXTRA_TEXT];
    double t = lips_now();
    snprintf(extra, sizeof extra,
             "metrics_bytes=%" PRId64 " recorded=%" PRId64 " interpolation=%" PRId64 " stopped=%d",
             c->metrics_bytes, c->recorded, c->interpolation, c->stopped);
    LIPS_TRY(output(c, lips_file_sync(c->metrics_fd, c->metrics_path)));
    LIPS_TRY(output(c, lips_trainer_save(c->tr, c->state_path, extra)));
    c->checkpoint_time = lap(c, SAVE, t);
    c->checkpoint_epoch = lips_trainer_epoch(c->tr);
    return LIPS_OK;
}

static bool checkpoint_due(const cell *c)
{
    int64_t epochs = lips_trainer_epoch(c->tr) - c->checkpoint_epoch;
    if (epochs == 0)
        return false;
    if (c->cfg->checkpoint_epochs > 0 && epochs >= c->cfg->checkpoint_epochs)
        return true;
    return c->cfg->checkpoint_seconds > 0 &&
           lips_now() - c->checkpoint_time >= c->cfg->checkpoint_seconds;
}

/* Signals and the sweep's own wish to stop. */
static lips_status asked_to_stop(const cell *c)
{
    lips_status st = lips_signals_pending();
    if (st == LIPS_OK && __atomic_load_n(&c->progress->stop, __ATOMIC_ACQUIRE))
        st = lips_fail(LIPS_ERR_INTERRUPTED, "stopped with the sweep");
    return st;
}

static void show_progress(cell *c)
{
    int64_t epoch = lips_trainer_epoch(c->tr);
    __atomic_store_n(&c->progress->epoch, epoch, __ATOMIC_RELEASE);
    double now = lips_now();
    if (now - c->progress_time < 1)
        return;
    c->progress_time = now;
    char json[EXTRA_TEXT];
    snprintf(json, sizeof json, "{\"epoch\":%" PRId64 ",\"epochs\":%" PRId64 "}", epoch,
             c->cfg->epochs);
    lips_note_write_progress(c->dir, json);
}

static lips_status evaluate(cell *c, lips_record_buffer *out, bool *stop_here)
{
    lips_fit fit;
    double t = lips_now();
    LIPS_TRY(lips_records_fit(out, &fit, c->tr, c->data, &c->at));
    int64_t epoch = lips_trainer_epoch(c->tr);
    if (c->interpolation < 0 && fit.train.error <= c->cfg->interpolation_tol)
        c->interpolation = epoch;
    /* Both comparisons are false for NaN. */
    *stop_here = epoch > 0 && ((c->cfg->stop_error >= 0 && fit.train.error <= c->cfg->stop_error) ||
                               (c->cfg->stop_loss >= 0 && fit.train.loss <= c->cfg->stop_loss));
    lap(c, EVALUATE, t);
    return LIPS_OK;
}

static lips_status save_weights(cell *c)
{
    char path[LIPS_PATH_MAX];
    double t = lips_now();
    LIPS_TRY(lips_path(path, sizeof path, "%s/epoch-%04" PRId64 ".safetensors", c->dir,
                       lips_trainer_epoch(c->tr)));
    LIPS_TRY(output(c, lips_trainer_export(c->tr, path)));
    lap(c, SAVE, t);
    return LIPS_OK;
}

/* Everything that is due at the epoch that has just ended; its records reach the file in one piece.
 */
static lips_status record_epoch(cell *c)
{
    const lips_config *cfg = c->cfg;
    int64_t epoch = lips_trainer_epoch(c->tr);
    bool last = epoch >= cfg->epochs, stop_here = false;
    lips_record_buffer out = {0};
    lips_status st = LIPS_OK;
    if (lips_schedule_has(&cfg->eval_epochs, epoch, cfg->epochs, last))
        LIPS_TRY_GOTO(st, evaluate(c, &out, &stop_here), out);
    last = last || stop_here;
    unsigned due = 0;
    if (lips_schedule_has(&cfg->measure_epochs, epoch, cfg->epochs, last))
        due |= LIPS_DUE_MEASURE;
    if (lips_schedule_has(&cfg->trace_epochs, epoch, cfg->epochs, last))
        due |= LIPS_DUE_TRACE;
    if (due) {
        double t = lips_now();
        LIPS_TRY_GOTO(
            st, lips_records_measure(&out, &c->portable, c->tr, c->net, c->data, &c->at, due), out);
        lap(c, MEASURE, t);
    }
    if (lips_schedule_has(&cfg->save_epochs, epoch, cfg->epochs, last))
        LIPS_TRY_GOTO(st, save_weights(c), out);
    if (last)
        LIPS_TRY_GOTO(
            st, lips_records_interpolation(&out, epoch, c->interpolation, c->data->regression),
            out);
    if (out.len > 0)
        LIPS_TRY_GOTO(
            st, output(c, lips_file_append(c->metrics_fd, c->metrics_path, out.text, out.len)),
            out);
    c->metrics_bytes += (int64_t)out.len;
    c->recorded = epoch;
    c->stopped = stop_here;
out:
    free(out.text);
    return st;
}

/* From one epoch's end to the next: what is due there, then an epoch of training (or its rest). */
static lips_status advance(cell *c, bool *finished)
{
    if (lips_trainer_step(c->tr) == 0) {
        if (checkpoint_due(c))
            LIPS_TRY(checkpoint(c));
        if (c->recorded < lips_trainer_epoch(c->tr))
            LIPS_TRY(record_epoch(c));
        *finished = c->stopped || lips_trainer_epoch(c->tr) >= c->cfg->epochs;
        if (*finished)
            return LIPS_OK;
    }
    double t = lips_now();
    lips_status st = lips_trainer_run_epoch(c->tr);
    lap(c, TRAIN, t);
    return st;
}

static lips_status run(cell *c)
{
    lips_status st = LIPS_OK;
    bool finished = false;
    while (st == LIPS_OK && !finished) {
        show_progress(c);
        st = asked_to_stop(c);
        if (st == LIPS_OK)
            st = advance(c, &finished);
    }
    if (st == LIPS_ERR_REQUEUE || st == LIPS_ERR_INTERRUPTED)
        LIPS_TRY(checkpoint(c));
    return st;
}

/* One line for this piece of the run. Not part of the results, so that it may fail. */
static void write_timing(const cell *c)
{
    char path[LIPS_PATH_MAX];
    if (!c->tr || lips_path(path, sizeof path, "%s/timing.jsonl", c->dir) != LIPS_OK)
        return;
    FILE *f = fopen(path, "ae");
    if (!f)
        return;
    fprintf(f, "{\"device\":\"%s %d\",\"from_epoch\":%" PRId64 ",\"to_epoch\":%" PRId64,
            c->at.label, c->at.device, c->first_epoch, lips_trainer_epoch(c->tr));
    for (int p = 0; p < PIECES; p++)
        fprintf(f, ",\"%s_seconds\":%.6f", piece_names[p], c->seconds[p]);
    fprintf(f, ",\"seconds\":%.6f}\n", lips_now() - c->started);
    fclose(f);
}

static lips_status finish(cell *c)
{
    LIPS_TRY(output(c, lips_file_sync(c->metrics_fd, c->metrics_path)));
    LIPS_TRY(output(c, lips_cell_write_done(c->dir, lips_trainer_epoch(c->tr),
                                            c->stopped ? "early" : "epochs")));
    lips_cell_tidy(c->dir);
    return LIPS_OK;
}

/* Keeps the last finite weights and says why in `failed`. The first error stays the one returned.
 */
static lips_status record_failure(cell *c, lips_status st)
{
    char message[1024], plan[64] = "";
    if (st == LIPS_ERR_MEMORY && c->args->plan)
        snprintf(plan, sizeof plan, "; planned for the cell: %.4g GiB",
                 (double)c->args->plan / 0x1p30);
    snprintf(message, sizeof message, "%.900s%s", lips_error(), plan);
    if (st == LIPS_ERR_MEMORY && __atomic_load_n(&c->progress->crowded, __ATOMIC_ACQUIRE)) {
        c->progress->put_off = true;
        return lips_fail(st, "%s", message);
    }
    int64_t epoch = c->tr ? lips_trainer_epoch(c->tr) : 0;
    if (st == LIPS_ERR_DIVERGED) {
        epoch++; /* the one that runs */
        LIPS_TRY(checkpoint(c));
    }
    LIPS_TRY(output(c, lips_cell_write_failed(c->dir, st, epoch, message)));
    return lips_fail(st, "%s", message);
}

lips_status lips_cell_run(const lips_cell_args *a, lips_cell_progress *progress)
{
    cell *c = calloc(1, sizeof *c);
    if (!c)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory starting a cell");
    c->args = a;
    c->cfg = a->cfg;
    c->portable = *a->cfg;
    lips_config_portable(&c->portable);
    c->data = a->data;
    c->dir = a->dir;
    c->progress = progress;
    c->metrics_fd = -1;
    c->started = c->checkpoint_time = c->progress_time = lips_now();

    lips_status st;
    LIPS_TRY_GOTO(st, start(c), out);
    LIPS_TRY_GOTO(st, run(c), out);
    LIPS_TRY_GOTO(st, finish(c), out);
out:
    write_timing(c);
    if (st != LIPS_OK && st != LIPS_ERR_REQUEUE && st != LIPS_ERR_INTERRUPTED &&
        st != LIPS_ERR_USAGE && st != LIPS_ERR_DEVICE && !progress->output_failed)
        st = record_failure(c, st);
    if (c->metrics_fd >= 0)
        close(c->metrics_fd);
    lips_trainer_free(c->tr);
    lips_probe_rows_free(c->at.probes);
    lips_handles_free(c->at.handles);
    lips_residents_put(c->args->residents, c->resident);
    if (c->be)
        c->be->ops->close(c->be);
    lips_net_free(c->net);
    free(c);
    return st;
}
