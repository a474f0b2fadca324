#include "sweep/residents.h"

#include <pthread.h>
#include <stdlib.h>

/* A device's copy. Its handle is used under the lock alone. */
typedef struct entry {
    const lips_ops *ops;
    int device;
    uint64_t hash; /* of the content: cells may hold it at different addresses */
    int64_t users;
    lips_backend *be;
    lips_resident *r;
    struct entry *next;
} entry;

struct lips_residents {
    pthread_mutex_t lock;
    entry *first;
};

lips_status lips_residents_create(lips_residents **out)
{
    lips_residents *s = calloc(1, sizeof *s);
    *out = s;
    if (!s)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory for the table of data sets on devices");
    pthread_mutex_init(&s->lock, NULL);
    return LIPS_OK;
}

static void entry_free(entry *e)
{
    lips_resident_free(e->r);
    if (e->be)
        e->be->ops->close(e->be);
    free(e);
}

void lips_residents_free(lips_residents *s)
{
    if (!s)
        return;
    while (s->first) {
        entry *e = s->first;
        s->first = e->next;
        entry_free(e);
    }
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static lips_status load(lips_residents *s, const lips_dataset *d, const entry *key, entry **out)
{
    entry *e = malloc(sizeof *e);
    if (!e)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory for a data set on a device");
    *e = *key;
    lips_status st;
    LIPS_TRY_GOTO(st, e->ops->open(&e->be, e->device), fail);
    LIPS_TRY_GOTO(st, lips_resident_create(&e->r, d, e->be), fail);
    e->next = s->first;
    s->first = e;
    *out = e;
    return LIPS_OK;
fail:
    entry_free(e);
    return st;
}

lips_status lips_residents_get(lips_residents *s, const lips_dataset *d, const lips_ops *ops,
                               int device, const lips_resident **out)
{
    const entry key = {.ops = ops, .device = device, .hash = d->hash};
    lips_status st = LIPS_OK;
    *out = NULL;
    pthread_mutex_lock(&s->lock);
    entry *e = s->first;
    while (e && (e->ops != ops || e->device != device || e->hash != d->hash))
        e = e->next;
    if (!e)
        st = load(s, d, &key, &e);
    if (st == LIPS_OK) {
        e->users++;
        *out = e->r;
    }
    pthread_mutex_unlock(&s->lock);
    return st;
}

void lips_residents_put(lips_residents *s, const lips_resident *r)
{
    pthread_mutex_lock(&s->lock);
    for (entry **p = &s->first; *p; p = &(*p)->next) {
        entry *e = *p;
        if (e->r != r)
            continue;
        if (--e->users == 0) {
            *p = e->next;
            entry_free(e);
        }
        break;
    }
    pthread_mutex_unlock(&s->lock);
}
