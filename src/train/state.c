/*
 * train/state.c - the trainer's bit-exact state.
 *
 * state.safetensors, version LIPS_STATE_VERSION: vectors params (P), optimizer.m (P), optimizer.v
 * (P, Adam only), buffers, in the backend's real (F32 or F64), and metadata, all under "lipsweep.":
 *   state_version, backend, config_hash, config (canonical text), data_hash: must agree
 *   epoch, step, updates: the cursor
 *   extra: the caller's text
 */
#include "train/trainer_internal.h"

#include "base/file.h"
#include "base/log.h"
#include "base/safetensors.h"
#include "base/version.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CONFIG_TEXT = 32768, NUMBER_TEXT = 32, VECTORS_MAX = 4 };

/* The device vectors that make up the state. */
typedef struct vector {
    const char *name;
    void *device;
    int64_t n;
} vector;

static int state_vectors(const lips_trainer *tr, vector out[VECTORS_MAX])
{
    int n = 0;
    out[n++] = (vector){"params", tr->params, tr->n_params};
    out[n++] = (vector){"optimizer.m", tr->m, tr->n_params};
    if (tr->v)
        out[n++] = (vector){"optimizer.v", tr->v, tr->n_params};
    if (tr->buffers)
        out[n++] = (vector){"buffers", tr->buffers, tr->n_buffers};
    return n;
}

static lips_status text_alloc(void *out, size_t bytes)
{
    void *p = calloc(bytes ? bytes : 1, 1);
    if (!p)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory: %zu bytes for a checkpoint", bytes);
    memcpy(out, &p, sizeof p);
    return LIPS_OK;
}

/* Texts that a state carries and must agree on when it is read. */
typedef struct identity {
    char config_hash[NUMBER_TEXT], data_hash[NUMBER_TEXT], config[CONFIG_TEXT];
} identity;

static lips_status identity_of(const lips_trainer *tr, identity *id)
{
    LIPS_TRY(lips_config_canonical(&tr->cfg, id->config, sizeof id->config));
    snprintf(id->config_hash, sizeof id->config_hash, "%016" PRIx64, lips_config_hash(&tr->cfg));
    snprintf(id->data_hash, sizeof id->data_hash, "%016" PRIx64, tr->data->hash);
    return LIPS_OK;
}

/* "dir/state.safetensors" -> "dir/state.TAG.safetensors". */
static lips_status tagged_path(char *out, size_t size, const char *path, const char *tag)
{
    const char *base = strrchr(path, '/'), *dot = strrchr(base ? base : path, '.');
    int stem = (int)(dot ? dot - path : (ptrdiff_t)strlen(path));
    return lips_path(out, size, "%.*s.%s%s", stem, path, tag, dot ? dot : "");
}

static lips_status rename_file(const char *from, const char *to)
{
    if (rename(from, to) != 0)
        return lips_fail(LIPS_ERR_RUNTIME, "%s: cannot rename to %s: %s", from, to,
                         strerror(errno));
    return LIPS_OK;
}

/* Puts the finished file `fresh` at path; what was there becomes the previous generation. */
static lips_status rotate(const char *fresh, const char *path)
{
    char prev[LIPS_PATH_MAX], dir[LIPS_PATH_MAX];
    LIPS_TRY(tagged_path(prev, sizeof prev, path, "prev"));
    if (lips_file_exists(path))
        LIPS_TRY(rename_file(path, prev));
    LIPS_TRY(rename_file(fresh, path));
    const char *slash = strrchr(path, '/');
    if (!slash)
        return lips_dir_sync(".");
    LIPS_TRY(lips_path(dir, sizeof dir, "%.*s", (int)(slash - path + 1), path));
    return lips_dir_sync(dir);
}

/* Host copy of a device vector in the backend's real type. */
static lips_status read_reals(lips_trainer *tr, const vector *v, void **out)
{
    size_t real = tr->be->ops->real_bytes;
    double *wide = NULL;
    lips_status st;
    LIPS_TRY_GOTO(st, text_alloc(out, (size_t)v->n * real), out);
    LIPS_TRY_GOTO(st, text_alloc(&wide, (size_t)v->n * sizeof *wide), out);
    LIPS_TRY_GOTO(st, tr->be->ops->read(tr->be, wide, v->device, 0, v->n), out);
    float *narrow = *out;
    for (int64_t i = 0; i < v->n && real == sizeof *narrow; i++)
        narrow[i] = (float)wide[i];
    if (real == sizeof *wide)
        memcpy(*out, wide, (size_t)v->n * real);
out:
    free(wide);
    return st;
}

lips_status lips_trainer_save(lips_trainer *tr, const char *path, const char *extra)
{
    vector vec[VECTORS_MAX];
    lips_st_out_tensor t[VECTORS_MAX] = {0};
    void *host[VECTORS_MAX] = {NULL};
    identity *id = NULL;
    char fresh[LIPS_PATH_MAX] = "", epoch[NUMBER_TEXT], step[NUMBER_TEXT], updates[NUMBER_TEXT];
    int n = state_vectors(tr, vec);

    lips_status st;
    LIPS_TRY_GOTO(st, tagged_path(fresh, sizeof fresh, path, "new"), out);
    LIPS_TRY_GOTO(st, text_alloc(&id, sizeof *id), out);
    LIPS_TRY_GOTO(st, identity_of(tr, id), out);
    LIPS_TRY_GOTO(st, tr->be->ops->sync(tr->be), out);
    for (int i = 0; i < n; i++) {
        LIPS_TRY_GOTO(st, read_reals(tr, &vec[i], &host[i]), out);
        t[i] = (lips_st_out_tensor){.name = vec[i].name,
                                    .ndim = 1,
                                    .shape = {vec[i].n},
                                    .dtype = tr->be->ops->real_bytes == 8 ? LIPS_F64 : LIPS_F32,
                                    .data = host[i]};
    }
    snprintf(epoch, sizeof epoch, "%" PRId64, tr->epoch);
    snprintf(step, sizeof step, "%" PRId64, tr->step);
    snprintf(updates, sizeof updates, "%" PRId64, tr->updates);
    const lips_st_meta_pair meta[] = {{"lipsweep.state_version", LIPS_STATE_VERSION},
                                      {"lipsweep.backend", tr->be->ops->name},
                                      {"lipsweep.config_hash", id->config_hash},
                                      {"lipsweep.config", id->config},
                                      {"lipsweep.data_hash", id->data_hash},
                                      {"lipsweep.epoch", epoch},
                                      {"lipsweep.step", step},
                                      {"lipsweep.updates", updates},
                                      {"lipsweep.extra", extra ? extra : ""}};
    LIPS_TRY_GOTO(st, lips_st_write(fresh, t, n, meta, sizeof meta / sizeof *meta), out);
    LIPS_TRY_GOTO(st, rotate(fresh, path), out);
out:
    if (st != LIPS_OK)
        unlink(fresh);
    for (int i = 0; i < n; i++)
        free(host[i]);
    free(id);
    return st;
}

/* Names the first line in which two canonical texts differ. */
static lips_status config_differs(const char *path, const char *theirs, const char *ours)
{
    for (;;) {
        size_t a = strcspn(theirs, "\n"), b = strcspn(ours, "\n");
        if (a != b || memcmp(theirs, ours, a) != 0 || (!theirs[a] && !ours[b]))
            return lips_fail(LIPS_ERR_DATA,
                             "%s: belongs to another configuration: it has '%.*s',"
                             " asked for is '%.*s'",
                             path, (int)a, theirs, (int)b, ours);
        theirs += theirs[a] ? a + 1 : a;
        ours += ours[b] ? b + 1 : b;
    }
}

static lips_status check_field(const char *path, const lips_st_file *f, const char *field,
                               const char *ours)
{
    char key[64];
    snprintf(key, sizeof key, "lipsweep.%s", field);
    const char *theirs = lips_st_meta(f, key);
    if (theirs && strcmp(theirs, ours) == 0)
        return LIPS_OK;
    return lips_fail(LIPS_ERR_DATA, "%s: belongs to another run: its %s is '%s', expected '%s'",
                     path, field, theirs ? theirs : "missing", ours);
}

/* Is the state one of this trainer's? Version first: another one may mean anything by the rest. */
static lips_status check_identity(const lips_trainer *tr, const char *path, const lips_st_file *f)
{
    identity *id = NULL;
    lips_status st;
    LIPS_TRY_GOTO(st, text_alloc(&id, sizeof *id), out);
    LIPS_TRY_GOTO(st, identity_of(tr, id), out);
    LIPS_TRY_GOTO(st, check_field(path, f, "state_version", LIPS_STATE_VERSION), out);
    LIPS_TRY_GOTO(st, check_field(path, f, "backend", tr->be->ops->name), out);
    const char *config = lips_st_meta(f, "lipsweep.config");
    if (config && strcmp(config, id->config) != 0)
        LIPS_TRY_GOTO(st, config_differs(path, config, id->config), out);
    LIPS_TRY_GOTO(st, check_field(path, f, "config_hash", id->config_hash), out);
    LIPS_TRY_GOTO(st, check_field(path, f, "data_hash", id->data_hash), out);
out:
    free(id);
    return st;
}

static lips_status meta_number(const char *path, const lips_st_file *f, const char *key,
                               int64_t max, int64_t *out)
{
    const char *text = lips_st_meta(f, key);
    char *end = NULL;
    errno = 0;
    long long v = text ? strtoll(text, &end, 10) : -1;
    if (!text || end == text || *end || errno || v < 0 || v > max)
        return lips_fail(LIPS_ERR_DATA, "%s: %s is '%s', expected 0..%" PRId64, path, key,
                         text ? text : "missing", max);
    *out = v;
    return LIPS_OK;
}

/* Checks everything, and only then changes the trainer. */
static lips_status restore(lips_trainer *tr, const char *path, const lips_st_file *f, char **extra)
{
    vector vec[VECTORS_MAX];
    double *wide[VECTORS_MAX] = {NULL};
    int n = state_vectors(tr, vec);
    int64_t steps = (tr->data->train.n + tr->cfg.batch - 1) / tr->cfg.batch;
    int64_t epoch = 0, step = 0, updates = 0;
    const char *text = lips_st_meta(f, "lipsweep.extra");
    char *copy = NULL;

    lips_status st;
    LIPS_TRY_GOTO(st, check_identity(tr, path, f), out);
    LIPS_TRY_GOTO(st, meta_number(path, f, "lipsweep.epoch", tr->cfg.epochs, &epoch), out);
    LIPS_TRY_GOTO(st, meta_number(path, f, "lipsweep.step", steps - 1, &step), out);
    LIPS_TRY_GOTO(st, meta_number(path, f, "lipsweep.updates", INT64_MAX, &updates), out);
    LIPS_TRY_GOTO(st, text_alloc(&copy, text ? strlen(text) + 1 : 1), out);
    if (text)
        memcpy(copy, text, strlen(text));
    for (int i = 0; i < n; i++) {
        const lips_st_tensor *t = lips_st_find(f, vec[i].name);
        lips_dtype want = tr->be->ops->real_bytes == 8 ? LIPS_F64 : LIPS_F32;
        if (!t || t->count != vec[i].n || t->dtype != want) {
            st = lips_fail(LIPS_ERR_DATA, "%s: %s is missing, or not %" PRId64 " values of %s",
                           path, vec[i].name, vec[i].n, want == LIPS_F64 ? "F64" : "F32");
            goto out;
        }
        LIPS_TRY_GOTO(st, text_alloc(&wide[i], (size_t)vec[i].n * sizeof **wide), out);
        LIPS_TRY_GOTO(st, lips_st_to_f64(t, wide[i]), out);
    }
    for (int i = 0; i < n; i++)
        LIPS_TRY_GOTO(st, tr->be->ops->write(tr->be, vec[i].device, 0, wide[i], vec[i].n), out);
    tr->epoch = epoch;
    tr->step = step;
    tr->updates = updates;
    if (extra) {
        *extra = copy;
        copy = NULL;
    }
out:
    free(copy);
    for (int i = 0; i < n; i++)
        free(wide[i]);
    return st;
}

/* *f = the file if it is there and undamaged, else NULL with LIPS_OK. */
static lips_status read_generation(const char *path, lips_st_file **f, bool *damaged)
{
    *f = NULL;
    *damaged = false;
    if (!lips_file_exists(path))
        return LIPS_OK;
    lips_status st = lips_st_read(f, path);
    if (st == LIPS_OK && !lips_st_is_ours(*f)) {
        lips_st_free(*f);
        *f = NULL;
        st = lips_fail(LIPS_ERR_DATA, "%s: not a lipsweep checkpoint", path);
    }
    *damaged = st == LIPS_ERR_DATA;
    return *damaged ? LIPS_OK : st;
}

lips_status lips_trainer_load(lips_trainer *tr, const char *path, char **extra, bool *found)
{
    char prev[LIPS_PATH_MAX];
    lips_st_file *f = NULL;
    bool damaged, prev_damaged = false;
    const char *used = path;
    if (extra)
        *extra = NULL;
    *found = false;
    LIPS_TRY(tagged_path(prev, sizeof prev, path, "prev"));
    LIPS_TRY(read_generation(path, &f, &damaged));
    if (!f) {
        char why[512];
        snprintf(why, sizeof why, "%s", damaged ? lips_error() : "");
        used = prev;
        LIPS_TRY(read_generation(prev, &f, &prev_damaged));
        if (!f && (damaged || prev_damaged))
            return lips_fail(LIPS_ERR_DATA, "%s; no undamaged previous checkpoint",
                             damaged ? why : lips_error());
        if (f && damaged)
            lips_warn("%s; going on from the previous checkpoint %s", why, prev);
    }
    if (!f)
        return LIPS_OK;
    lips_status st;
    LIPS_TRY_GOTO(st, restore(tr, used, f, extra), out);
    *found = true;
out:
    lips_st_free(f);
    return st;
}
