#include "sweep/output.h"

#include "base/file.h"
#include "config/options.h"

#include <inttypes.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { LIST_TEXT = 160 };

/* The values of one key in an experiment, in order. A view. */
typedef struct value_list {
    char single[LIPS_PATH_MAX]; /* of a key that is no axis */
    char (*v)[LIPS_VALUE_MAX];  /* of an axis, else NULL */
    int64_t n;
} value_list;

static void values_of(const lips_experiment *e, const lips_option *o, int row, value_list *out)
{
    out->v = NULL;
    out->n = 1;
    lips_option_print(o, &e->base, out->single, sizeof out->single);
    for (int a = 0; a < e->n_axes; a++)
        if (e->axes[a].key == row) {
            out->v = e->axes[a].values;
            out->n = e->axes[a].count;
        }
}

static const char *value_at(const value_list *l, int64_t i)
{
    return l->v ? l->v[i] : l->single;
}

/* "1, 2, 4, ... (20 values)" */
static void list_text(char buf[LIST_TEXT], const value_list *l)
{
    size_t used = 0;
    buf[0] = '\0';
    for (int64_t i = 0; i < l->n && used < LIST_TEXT - 48; i++)
        used += (size_t)snprintf(buf + used, LIST_TEXT - used, "%s%.40s", i ? ", " : "",
                                 value_at(l, i));
    if (l->n > 3)
        snprintf(buf + used, LIST_TEXT - used, " (%" PRId64 " values)", l->n);
    if (l->n == 0)
        snprintf(buf, LIST_TEXT, "nothing");
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static lips_status sorted(const value_list *l, const char ***out)
{
    *out = malloc(((size_t)l->n + 1) * sizeof **out);
    if (!*out)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory comparing the output folder's settings");
    for (int64_t i = 0; i < l->n; i++)
        (*out)[i] = value_at(l, i);
    qsort(*out, (size_t)l->n, sizeof **out, by_text);
    return LIPS_OK;
}

/* *yes = every value of a is one of b's. */
static lips_status included(const value_list *a, const value_list *b, bool *yes)
{
    const char **x = NULL, **y = NULL;
    int64_t j = 0;
    lips_status st;
    *yes = true;
    LIPS_TRY_GOTO(st, sorted(a, &x), out);
    LIPS_TRY_GOTO(st, sorted(b, &y), out);
    for (int64_t i = 0; i < a->n && *yes; i++) {
        while (j < b->n && strcmp(y[j], x[i]) < 0)
            j++;
        *yes = j < b->n && strcmp(y[j], x[i]) == 0;
    }
out:
    free(y);
    free(x);
    return st;
}

/* Cells are products of values: the old ones are all among the new ones exactly if this holds for
 * each key that changes results. */
static lips_status check_superset(const char *path, const lips_experiment *old,
                                  const lips_experiment *e)
{
    const lips_option *rows;
    int n = lips_options(&rows);
    value_list *a = malloc(2 * sizeof *a), *b = a + 1;
    if (!a)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory comparing the output folder's settings");
    lips_status st = LIPS_OK;
    for (int i = 0; i < n && st == LIPS_OK; i++) {
        bool yes = true;
        if (!(rows[i].flags & LIPS_OPTION_HASHED))
            continue;
        values_of(old, &rows[i], i, a);
        values_of(e, &rows[i], i, b);
        st = included(a, b, &yes);
        if (yes)
            continue;
        char there[LIST_TEXT], here[LIST_TEXT];
        list_text(there, a);
        list_text(here, b);
        st = lips_fail(LIPS_ERR_USAGE,
                       "%s: %s is %s there and %s here: an output folder keeps its settings; cells "
                       "may be added to it, none taken away (use another out)",
                       path, rows[i].name, there, here);
    }
    free(a);
    return st;
}

/* old holds something exactly if *exists; then lips_experiment_free it. */
static lips_status load_old(const lips_experiment *e, lips_experiment *old, bool *exists)
{
    char path[LIPS_PATH_MAX];
    if (!e->base.out[0])
        return lips_fail(LIPS_ERR_USAGE, "out: no output folder is given");
    LIPS_TRY(lips_path(path, sizeof path, "%s/sweep.yaml", e->base.out));
    *exists = false;
    if (!lips_file_exists(path))
        return LIPS_OK;
    const lips_config_sources src = {.yaml_path = path};
    LIPS_TRY(lips_experiment_load(old, &src));
    lips_status st = check_superset(path, old, e);
    *exists = st == LIPS_OK;
    if (!*exists)
        lips_experiment_free(old);
    return st;
}

lips_status lips_output_check(const lips_experiment *e, bool *exists)
{
    lips_experiment *old = calloc(1, sizeof *old);
    if (!old)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory reading the output folder's settings");
    lips_status st = load_old(e, old, exists);
    if (st == LIPS_OK && *exists)
        lips_experiment_free(old);
    free(old);
    return st;
}

lips_status lips_output_cell_dir(const lips_experiment *e, const lips_config *cell, char *buf,
                                 size_t size)
{
    char name[LIPS_CELL_NAME_MAX];
    LIPS_TRY(lips_experiment_cell_name(e, cell, name, sizeof name));
    return lips_path(buf, size, "%s/cells/%s", e->base.out, name);
}

/* Names carry the values of the keys that are swept: with more axes the same cell is called
 * otherwise. Folders that bear the old experiment's name get the new one's. */
static lips_status rename_cells(const lips_experiment *old, const lips_experiment *e,
                                lips_config *cell)
{
    char from[LIPS_PATH_MAX], to[LIPS_PATH_MAX], name[LIPS_CELL_NAME_MAX];
    int64_t n = lips_experiment_cells(old);
    for (int64_t i = 0; i < n; i++) {
        LIPS_TRY(lips_experiment_cell(old, i, cell));
        LIPS_TRY(lips_experiment_cell_name(old, cell, name, sizeof name));
        LIPS_TRY(lips_path(from, sizeof from, "%s/cells/%s", e->base.out, name));
        LIPS_TRY(lips_output_cell_dir(e, cell, to, sizeof to));
        if (strcmp(from, to) != 0 && rename(from, to) != 0 && errno != ENOENT)
            return lips_fail(LIPS_ERR_RUNTIME, "cannot rename %s to %s: %s", from, to,
                             strerror(errno));
    }
    return LIPS_OK;
}

static bool same_axes(const lips_experiment *a, const lips_experiment *b)
{
    bool same = a->n_axes == b->n_axes;
    for (int i = 0; same && i < a->n_axes; i++)
        same = a->axes[i].key == b->axes[i].key;
    return same;
}

static lips_status write_experiment(const lips_experiment *e)
{
    char path[LIPS_PATH_MAX];
    lips_file_atomic a;
    LIPS_TRY(lips_path(path, sizeof path, "%s/sweep.yaml", e->base.out));
    LIPS_TRY(lips_file_begin(&a, path));
    lips_status st = lips_experiment_yaml(e, a.f);
    if (st != LIPS_OK) {
        lips_file_abandon(&a);
        return st;
    }
    return lips_file_commit(&a);
}

lips_status lips_output_take(const lips_experiment *e)
{
    lips_experiment *old = calloc(1, sizeof *old);
    lips_config *cell = malloc(sizeof *cell);
    char cells[LIPS_PATH_MAX];
    bool exists = false;
    lips_status st = old && cell ? LIPS_OK
                                 : lips_fail(LIPS_ERR_MEMORY, "out of memory opening the output "
                                                              "folder");
    if (st != LIPS_OK)
        goto out;
    LIPS_TRY_GOTO(st, load_old(e, old, &exists), out);
    lips_dir_remove_temps(e->base.out);
    LIPS_TRY_GOTO(st, lips_path(cells, sizeof cells, "%s/cells", e->base.out), out);
    LIPS_TRY_GOTO(st, lips_dir_create(cells), out);
    if (exists && !same_axes(old, e))
        LIPS_TRY_GOTO(st, rename_cells(old, e, cell), out);
    LIPS_TRY_GOTO(st, write_experiment(e), out);
out:
    if (exists)
        lips_experiment_free(old);
    free(cell);
    free(old);
    return st;
}

lips_status lips_output_lock(const lips_experiment *e, int *lock)
{
    char path[LIPS_PATH_MAX];
    if (!e->base.out[0])
        return lips_fail(LIPS_ERR_USAGE, "out: no output folder is given");
    LIPS_TRY(lips_dir_create(e->base.out));
    LIPS_TRY(lips_path(path, sizeof path, "%s/lock", e->base.out));
    return lips_lock_acquire(lock, path);
}
