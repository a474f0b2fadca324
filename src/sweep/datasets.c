#include "sweep/datasets.h"

#include "base/file.h"
#include "base/hash.h"

#include <inttypes.h>
#include <jansson.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Sets that no cell uses at the moment are kept up to this size: the next cell may want them. */
static const size_t IDLE_BYTES = (size_t)2 << 30;
enum { KEY_TEXT = 512, HASHES_BYTES = 64 << 20 };

typedef struct entry {
    char key[KEY_TEXT];
    lips_dataset *d;
    int64_t users, last_use;
    struct entry *next;
} entry;

struct lips_datasets {
    pthread_mutex_t lock;
    entry *first;
    int64_t clock;
    char path[LIPS_PATH_MAX]; /* of the guard; "" if none */
    json_t *hashes;
};

lips_status lips_datasets_create(lips_datasets **out)
{
    lips_datasets *s = calloc(1, sizeof *s);
    if (!s)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory for the data sets' table");
    pthread_mutex_init(&s->lock, NULL);
    *out = s;
    return LIPS_OK;
}

static void entry_free(entry *e)
{
    lips_dataset_free(e->d);
    free(e);
}

void lips_datasets_free(lips_datasets *s)
{
    if (!s)
        return;
    while (s->first) {
        entry *e = s->first;
        s->first = e->next;
        entry_free(e);
    }
    json_decref(s->hashes);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static size_t split_bytes(const lips_split *p, size_t row, size_t classes)
{
    size_t labels = (p->label ? 2 * sizeof(int64_t) : 0) + (p->target ? 2 * classes * 4 : 0);
    return (size_t)p->n * (row * sizeof(float) + labels + sizeof(int64_t));
}

size_t lips_dataset_bytes(const lips_dataset *d)
{
    size_t row = (size_t)(d->c * d->h * d->w), k = (size_t)d->classes;
    return split_bytes(&d->train, row, k) + split_bytes(&d->val, row, k) +
           split_bytes(&d->test, row, k);
}

/* Everything that the set depends on but the place of its files. */
static void key_of(char key[KEY_TEXT], const lips_data_spec *p)
{
    snprintf(key, KEY_TEXT,
             "source=%d n_train=%" PRId64 " n_test=%" PRId64 " n_val=%" PRId64
             " label_noise=%.17g data_seed=%" PRIu64 " noise_seed=%" PRIu64
             " sine=%.17g,%.17g,%.17g",
             (int)p->source, p->n_train, p->n_test, p->n_val, p->label_noise, p->data_seed,
             p->noise_seed, p->sine_noise, p->sine_min, p->sine_max);
}

uint64_t lips_datasets_name(const lips_config *cfg)
{
    const lips_data_spec spec = lips_config_data(cfg);
    char key[KEY_TEXT];
    key_of(key, &spec);
    return lips_hash64(key, strlen(key));
}

static lips_status check_hash(lips_datasets *s, const char *key, const lips_dataset *d)
{
    char hash[17];
    if (!s->hashes)
        return LIPS_OK;
    snprintf(hash, sizeof hash, "%016" PRIx64, d->hash);
    const char *known = json_string_value(json_object_get(s->hashes, key));
    if (known && strcmp(known, hash) == 0)
        return LIPS_OK;
    if (known)
        return lips_fail(
            LIPS_ERR_DATA,
            "the data set has changed since this output folder was begun: data hash %s,"
            " %s says %s (%s); put the old files back or use another output folder",
            hash, s->path, known, key);
    if (json_object_set_new(s->hashes, key, json_string(hash)) != 0)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory noting a data set's hash");
    char *text = json_dumps(s->hashes, JSON_INDENT(1) | JSON_SORT_KEYS);
    if (!text)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory noting a data set's hash");
    lips_status st = lips_file_write(s->path, text, strlen(text));
    free(text);
    return st;
}

static lips_status read_hashes(lips_datasets *s, const char *path)
{
    if (!lips_file_exists(path)) {
        s->hashes = json_object();
        return s->hashes ? LIPS_OK : lips_fail(LIPS_ERR_MEMORY, "out of memory reading %s", path);
    }
    char *text = NULL;
    size_t size = 0;
    json_error_t error;
    LIPS_TRY(lips_file_read(&text, &size, path, HASHES_BYTES));
    s->hashes = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
    free(text);
    if (!json_is_object(s->hashes))
        return lips_fail(LIPS_ERR_DATA, "%s:%d: not a list of data hashes: %s", path, error.line,
                         error.text);
    return LIPS_OK;
}

lips_status lips_datasets_guard(lips_datasets *s, const char *path)
{
    LIPS_TRY(lips_path(s->path, sizeof s->path, "%s", path));
    LIPS_TRY(read_hashes(s, path));
    for (const entry *e = s->first; e; e = e->next)
        LIPS_TRY(check_hash(s, e->key, e->d));
    return LIPS_OK;
}

/* Frees the idle sets that were not used for longest until the rest fits. */
static void evict(lips_datasets *s)
{
    for (;;) {
        size_t idle = 0;
        entry **oldest = NULL;
        for (entry **p = &s->first; *p; p = &(*p)->next)
            if ((*p)->users == 0) {
                idle += lips_dataset_bytes((*p)->d);
                if (!oldest || (*p)->last_use < (*oldest)->last_use)
                    oldest = p;
            }
        if (idle <= IDLE_BYTES)
            return;
        entry *e = *oldest;
        *oldest = e->next;
        entry_free(e);
    }
}

static lips_status load(lips_datasets *s, const char *key, const lips_data_spec *spec, entry **out)
{
    entry *e = calloc(1, sizeof *e);
    if (!e)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory for a data set");
    snprintf(e->key, sizeof e->key, "%s", key);
    lips_status st;
    LIPS_TRY_GOTO(st, lips_dataset_load(&e->d, spec), fail);
    LIPS_TRY_GOTO(st, check_hash(s, key, e->d), fail);
    e->next = s->first;
    s->first = e;
    *out = e;
    return LIPS_OK;
fail:
    entry_free(e);
    return st;
}

lips_status lips_datasets_get(lips_datasets *s, const lips_config *cfg, const lips_dataset **out)
{
    const lips_data_spec spec = lips_config_data(cfg);
    char key[KEY_TEXT];
    lips_status st = LIPS_OK;
    key_of(key, &spec);
    pthread_mutex_lock(&s->lock);
    entry *e = s->first;
    while (e && strcmp(e->key, key) != 0)
        e = e->next;
    if (!e)
        st = load(s, key, &spec, &e);
    if (st == LIPS_OK) {
        e->users++;
        e->last_use = ++s->clock;
        *out = e->d;
    }
    pthread_mutex_unlock(&s->lock);
    return st;
}

void lips_datasets_put(lips_datasets *s, const lips_dataset *d)
{
    pthread_mutex_lock(&s->lock);
    for (entry *e = s->first; e; e = e->next)
        if (e->d == d)
            e->users--;
    evict(s);
    pthread_mutex_unlock(&s->lock);
}
