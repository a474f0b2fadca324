#include "measure/handles.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct lips_handles {
    const lips_ops *ops;
    int device;
    char *choices;
    pthread_mutex_t lock; /* guards the rest */
    lips_backend **idle;  /* (cap), those that were given back last at the end */
    int n_idle, n_open, cap;
};

lips_status lips_handles_create(lips_handles **out, const lips_ops *ops, int device,
                                const char *choices)
{
    *out = NULL;
    lips_handles *h = calloc(1, sizeof *h);
    if (h && choices)
        h->choices = strdup(choices);
    if (!h || (choices && !h->choices) || pthread_mutex_init(&h->lock, NULL) != 0) {
        if (h)
            free(h->choices);
        free(h);
        return lips_fail(LIPS_ERR_MEMORY, "measure: out of memory for a backend's handles");
    }
    h->ops = ops;
    h->device = device;
    *out = h;
    return LIPS_OK;
}

void lips_handles_free(lips_handles *h)
{
    if (!h)
        return;
    for (int i = 0; i < h->n_idle; i++)
        h->ops->close(h->idle[i]);
    pthread_mutex_destroy(&h->lock);
    free(h->idle);
    free(h->choices);
    free(h);
}

/* Room for one more, so that giving back cannot fail. */
static lips_status reserve(lips_handles *h)
{
    if (h->n_open == h->cap) {
        const int cap = h->cap ? 2 * h->cap : 4;
        lips_backend **grown = realloc(h->idle, (size_t)cap * sizeof *grown);
        if (!grown)
            return lips_fail(LIPS_ERR_MEMORY, "measure: out of memory for %d handles", cap);
        h->idle = grown;
        h->cap = cap;
    }
    h->n_open++;
    return LIPS_OK;
}

static lips_status open_one(lips_handles *h, lips_backend **out)
{
    lips_backend *be = NULL;
    lips_status st = h->ops->open(&be, h->device);
    if (st == LIPS_OK && h->choices && h->ops->keep_choices)
        st = h->ops->keep_choices(be, h->choices);
    if (st != LIPS_OK && be)
        h->ops->close(be);
    *out = st == LIPS_OK ? be : NULL;
    return st;
}

lips_status lips_handles_take(lips_handles *h, lips_backend **out)
{
    *out = NULL;
    pthread_mutex_lock(&h->lock);
    if (h->n_idle)
        *out = h->idle[--h->n_idle];
    lips_status st = *out ? LIPS_OK : reserve(h);
    pthread_mutex_unlock(&h->lock);
    if (*out || st != LIPS_OK)
        return st;
    st = open_one(h, out); /* outside of the lock: it takes its time */
    if (st != LIPS_OK) {
        pthread_mutex_lock(&h->lock);
        h->n_open--;
        pthread_mutex_unlock(&h->lock);
    }
    return st;
}

void lips_handles_give(lips_handles *h, lips_backend *be)
{
    if (!be)
        return;
    pthread_mutex_lock(&h->lock);
    h->idle[h->n_idle++] = be;
    pthread_mutex_unlock(&h->lock);
}
