/* config/load.c - built-in < file < environment < command line, every error collected, nothing half
 * done. */
#include "config/load.h"

#include "base/file.h"
#include "config/values.h"
#include "config/yaml.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_MAX = 16 << 20, ISSUES_SHOWN = 50, JOINED_MAX = 1024 };

extern char **environ;

/* ---- collecting errors ---- */

static void issue_line(lips_loader *l, const char *line)
{
    l->n_issues++;
    if (l->n_shown == ISSUES_SHOWN || l->used + strlen(line) + 2 > sizeof l->text)
        return;
    l->n_shown++;
    l->used += (size_t)snprintf(l->text + l->used, sizeof l->text - l->used, "%s%s",
                                l->used ? "\n" : "", line);
}

void lips_loader_issue(lips_loader *l, lips_origin at, const char *key, const char *fmt, ...)
{
    char line[1024];
    int n = 0;
    switch (at.kind) {
    case LIPS_FROM_DEFAULT: break;
    case LIPS_FROM_FILE:
        n = snprintf(line, sizeof line, "%.500s:%d:%d: ", l->label, at.line, at.column);
        break;
    case LIPS_FROM_ENVIRONMENT: n = snprintf(line, sizeof line, "environment: "); break;
    case LIPS_FROM_COMMAND_LINE: n = snprintf(line, sizeof line, "command line: "); break;
    }
    if (key)
        n += snprintf(line + n, sizeof line - (size_t)n, "%s: ", key);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line + n, sizeof line - (size_t)n, fmt, ap);
    va_end(ap);
    issue_line(l, line);
}

/* ---- one setting ---- */

static bool sweepable(const lips_option *o)
{
    return o->type != LIPS_OPTION_TEXT && o->type != LIPS_OPTION_LIST &&
           o->type != LIPS_OPTION_SCHEDULE && o->type != LIPS_OPTION_DEVICES;
}

static void set_base(lips_loader *l, int row, lips_origin at, const char *text)
{
    const lips_option *o = &l->options[row];
    lips_status st = lips_option_set(o, &l->e->base, text);
    if (st == LIPS_OK && o->type == LIPS_OPTION_LIST && l->src->check_list)
        st = l->src->check_list(o->name, text);
    if (st != LIPS_OK) {
        lips_loader_issue(l, at, o->name, "%s", lips_error());
        l->keys[row].bad = true;
    }
}

/* Text keys take one value; a list given for schedules and metrics is joined by commas. */
static void set_unswept(lips_loader *l, int row, lips_origin at, const lips_yaml_scalar *items,
                        int64_t n, bool is_list)
{
    const lips_option *o = &l->options[row];
    char joined[JOINED_MAX] = "";
    if (is_list && (o->type == LIPS_OPTION_TEXT || n == 0)) {
        lips_loader_issue(l, at, o->name, n ? "takes one value, not a list" : "the list is empty");
        l->keys[row].bad = true;
        return;
    }
    if (n > 0 && items[0].line > 0)
        at.line = items[0].line, at.column = items[0].column;
    if (!is_list) {
        set_base(l, row, at, items[0].text);
        return;
    }
    size_t used = 0;
    for (int64_t i = 0; i < n && used < sizeof joined; i++)
        used += (size_t)snprintf(joined + used, sizeof joined - used, "%s%s", i ? "," : "",
                                 items[i].text);
    set_base(l, row, at, joined);
}

static lips_status set_swept(lips_loader *l, int row, lips_origin at, const lips_yaml_scalar *items,
                             int64_t n, bool is_list)
{
    const lips_option *o = &l->options[row];
    lips_values *values = &l->keys[row].values;
    lips_status st = LIPS_OK;
    lips_origin where = at;
    for (int64_t i = 0; i < n && st == LIPS_OK; i++) {
        if (items[i].line > 0)
            where.line = items[i].line, where.column = items[i].column;
        st = is_list ? lips_values_add(values, o, items[i].text)
                     : lips_values_add_list(values, o, items[i].text);
    }
    if (st == LIPS_OK)
        st = lips_values_check_unique(values);
    if (st == LIPS_OK && values->n != 1 && !(o->flags & LIPS_OPTION_HASHED))
        st = lips_fail(LIPS_ERR_USAGE, "cannot be swept: it does not change results");
    if (st == LIPS_ERR_USAGE) {
        lips_loader_issue(l, where, o->name, "%s", lips_error());
        l->keys[row].bad = true;
        lips_values_free(values);
        return LIPS_OK;
    }
    l->keys[row].swept = values->n != 1;
    if (st == LIPS_OK && values->n == 1) {
        st = lips_option_set(o, &l->e->base, values->v[0]);
        lips_values_free(values);
    }
    return st;
}

/* A later source replaces all that an earlier one said about the key. */
static lips_status set_key(lips_loader *l, int row, lips_origin at, const lips_yaml_scalar *items,
                           int64_t n, bool is_list)
{
    lips_loader_key *k = &l->keys[row];
    lips_values_free(&k->values);
    k->swept = k->bad = false;
    k->origin = at;
    if (sweepable(&l->options[row]))
        return set_swept(l, row, at, items, n, is_list);
    set_unswept(l, row, at, items, n, is_list);
    return LIPS_OK;
}

static void unknown_key(lips_loader *l, lips_origin at, const char *key)
{
    char quoted[LIPS_QUOTE_MAX];
    const char *meant = lips_option_nearest(key);
    lips_loader_issue(l, at, NULL, "unknown key %s%s%s%s", lips_quote(quoted, key),
                      meant ? " (did you mean '" : "", meant ? meant : "", meant ? "'?)" : "");
}

/* ---- the sources ---- */

static void yaml_error(void *user, int line, int column, const char *message)
{
    lips_origin at = {LIPS_FROM_FILE, line, column};
    lips_loader_issue(user, at, NULL, "%s", message);
}

/* YAML knows types where the command line has only text: "5" in quotes is no number, and nothing is
 * no value. */
static bool yaml_type_fits(lips_loader *l, const lips_option *o, lips_origin at,
                           const lips_yaml_scalar *s)
{
    bool null = s->plain && (strcmp(s->text, "") == 0 || strcmp(s->text, "~") == 0 ||
                             strcmp(s->text, "null") == 0);
    bool text = !s->plain && sweepable(o) && !o->choices;
    if (s->line > 0)
        at.line = s->line, at.column = s->column;
    if (null) {
        lips_loader_issue(l, at, o->name, "has no value");
    } else if (text) {
        char expects[512], quoted[LIPS_QUOTE_MAX];
        lips_option_expects(o, expects, sizeof expects);
        lips_loader_issue(l, at, o->name, "must be %s, not the text %s", expects,
                          lips_quote(quoted, s->text));
    }
    return !null && !text;
}

static lips_status yaml_value(void *user, const lips_yaml_scalar *key,
                              const lips_yaml_scalar *items, int64_t n, bool is_list)
{
    lips_loader *l = user;
    lips_origin at = {LIPS_FROM_FILE, key->line, key->column};
    int row = lips_option_find(key->text);
    if (row < 0) {
        unknown_key(l, at, key->text);
        return LIPS_OK;
    }
    const lips_option *o = &l->options[row];
    if (l->keys[row].origin.kind == LIPS_FROM_FILE) {
        lips_loader_issue(l, at, o->name, "duplicate key, first given on line %d",
                          l->keys[row].origin.line);
        return LIPS_OK;
    }
    for (int64_t i = 0; i < n; i++) {
        if (!yaml_type_fits(l, o, at, &items[i])) {
            l->keys[row].origin = at;
            l->keys[row].bad = true;
            return LIPS_OK;
        }
    }
    return set_key(l, row, at, items, n, is_list);
}

static lips_status load_yaml(lips_loader *l)
{
    const lips_config_sources *src = l->src;
    lips_yaml_handler h = {.user = l, .value = yaml_value, .error = yaml_error};
    if (src->yaml_text)
        return lips_yaml_read(src->yaml_text,
                              src->yaml_size ? src->yaml_size : strlen(src->yaml_text), &h);
    if (!src->yaml_path)
        return LIPS_OK;
    char *text;
    size_t size;
    lips_status st = lips_file_read(&text, &size, src->yaml_path, FILE_MAX);
    if (st == LIPS_ERR_DATA) {
        lips_loader_issue(l, (lips_origin){0}, NULL, "%s", lips_error());
        return LIPS_OK;
    }
    LIPS_TRY(st);
    st = lips_yaml_read(text, size, &h);
    free(text);
    return st;
}

static lips_status load_text(lips_loader *l, lips_origin at, const char *key, char *value)
{
    int row = lips_option_find(key);
    if (row < 0) {
        unknown_key(l, at, key);
        return LIPS_OK;
    }
    lips_yaml_scalar item = {.text = value};
    return set_key(l, row, at, &item, 1, false);
}

/* LIPSWEEP_ names that are no keys; the CPU backend reads this one. */
static const char *const other_names[] = {"isa"};

static bool is_other_name(const char *name)
{
    for (size_t i = 0; i < sizeof other_names / sizeof *other_names; i++)
        if (strcmp(other_names[i], name) == 0)
            return true;
    return false;
}

static lips_status load_environment(lips_loader *l)
{
    static const char prefix[] = "LIPSWEEP_";
    for (char **entry = environ; *entry; entry++) {
        char key[128];
        size_t n = strcspn(*entry, "=");
        if (strncmp(*entry, prefix, sizeof prefix - 1) != 0 || n >= sizeof key ||
            (*entry)[n] != '=')
            continue;
        memcpy(key, *entry, n);
        key[n] = '\0';
        char *name = key + sizeof prefix - 1;
        for (char *p = name; *p; p++)
            *p = (char)tolower((unsigned char)*p);
        lips_origin at = {.kind = LIPS_FROM_ENVIRONMENT};
        if (!is_other_name(name))
            LIPS_TRY(load_text(l, at, name, *entry + n + 1));
    }
    return LIPS_OK;
}

static lips_status load_overrides(lips_loader *l)
{
    for (int i = 0; i < l->src->n_overrides; i++) {
        lips_origin at = {.kind = LIPS_FROM_COMMAND_LINE};
        char *copy = strdup(l->src->overrides[i]);
        if (!copy)
            return lips_fail(LIPS_ERR_MEMORY, "no memory for the command line");
        char *equals = strchr(copy, '='), quoted[LIPS_QUOTE_MAX];
        lips_status st = LIPS_OK;
        if (equals) {
            *equals = '\0';
            st = load_text(l, at, copy, equals + 1);
        } else {
            lips_loader_issue(l, at, NULL, "expected key=value, not %s", lips_quote(quoted, copy));
        }
        free(copy);
        LIPS_TRY(st);
    }
    return LIPS_OK;
}

/* ---- putting it together ---- */

/* name and out that nobody gave come from the file: configs/sine.yaml is "sine" and writes to
 * out/sine. */
static void fill_names(lips_loader *l)
{
    const char *path = l->src->yaml_path;
    lips_config *c = &l->e->base;
    if (!path)
        return;
    const char *slash = strrchr(path, '/');
    char stem[256], out[300];
    snprintf(stem, sizeof stem, "%s", slash ? slash + 1 : path);
    char *dot = strrchr(stem, '.');
    if (dot && dot != stem)
        *dot = '\0';
    snprintf(out, sizeof out, "out/%s", stem);
    /* A file name that is not clean text serves as neither. */
    if (!c->name[0] && lips_option_set(&l->options[lips_option_find("name")], c, stem) != LIPS_OK)
        snprintf(c->name, sizeof c->name, "sweep");
    if (!c->out[0] && !l->src->keep_out &&
        lips_option_set(&l->options[lips_option_find("out")], c, out) != LIPS_OK)
        snprintf(c->out, sizeof c->out, "out/sweep");
}

static void collect_axes(lips_loader *l)
{
    lips_experiment *e = l->e;
    double cells = 1;
    for (int row = 0; row < l->n_options; row++) {
        lips_loader_key *k = &l->keys[row];
        if (!k->swept || k->bad)
            continue;
        if (e->n_axes == LIPS_AXES_MAX) {
            lips_loader_issue(l, k->origin, l->options[row].name, "more than %d keys are swept",
                              LIPS_AXES_MAX);
            return;
        }
        cells *= (double)k->values.n;
        e->axes[e->n_axes++] = (lips_axis){row, k->values.n, k->values.v};
        k->values = (lips_values){0}; /* the experiment owns them now */
    }
    lips_loader_default_depth(l);
    if (cells > LIPS_CELLS_MAX)
        lips_loader_issue(l, (lips_origin){0}, NULL, "the sweep has %.0f cells; at most %d", cells,
                          LIPS_CELLS_MAX);
    else
        lips_loader_check(l);
    lips_loader_default_init(l);
}

static lips_status load_all(lips_loader *l)
{
    LIPS_TRY(load_yaml(l));
    if (l->src->use_env)
        LIPS_TRY(load_environment(l));
    LIPS_TRY(load_overrides(l));
    fill_names(l);
    collect_axes(l);
    if (l->n_issues == 0)
        return LIPS_OK;
    int more = l->n_issues - l->n_shown;
    if (more)
        return lips_fail(LIPS_ERR_USAGE, "%s\n... and %d more errors", l->text, more);
    return lips_fail(LIPS_ERR_USAGE, "%s", l->text);
}

lips_status lips_experiment_load(lips_experiment *out, const lips_config_sources *src)
{
    *out = (lips_experiment){0};
    lips_config_defaults(&out->base);
    lips_loader *l = calloc(1, sizeof *l);
    if (!l)
        return lips_fail(LIPS_ERR_MEMORY, "no memory for reading a configuration");
    l->e = out;
    l->src = src;
    l->label = src->yaml_text ? src->yaml_label : src->yaml_path;
    if (!l->label)
        l->label = "config";
    l->n_options = lips_options(&l->options);
    lips_status st = LIPS_OK;
    l->keys = calloc((size_t)l->n_options, sizeof *l->keys);
    if (!l->keys)
        st = lips_fail(LIPS_ERR_MEMORY, "no memory for reading a configuration");
    else
        st = load_all(l);
    snprintf(out->source, sizeof out->source, "%s", src->yaml_path ? src->yaml_path : "");
    for (int row = 0; l->keys && row < l->n_options; row++)
        lips_values_free(&l->keys[row].values);
    free(l->keys);
    free(l);
    if (st != LIPS_OK)
        lips_experiment_free(out);
    return st;
}

void lips_experiment_free(lips_experiment *e)
{
    for (int i = 0; i < e->n_axes; i++)
        free(e->axes[i].values);
    e->n_axes = 0;
}
