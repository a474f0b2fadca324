#include "config/yaml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum { DEPTH_MAX = 64 }; /* deeper nesting is refused at once instead of being skipped over */

typedef struct reader {
    yaml_parser_t parser;
    const char *text;
    size_t size;
    const lips_yaml_handler *h;
    bool stop; /* after an error that leaves nothing to go on with */
    lips_yaml_scalar *items;
    int64_t n_items, cap_items;
} reader;

static void report(const reader *r, yaml_mark_t mark, const char *message)
{
    r->h->error(r->h->user, (int)mark.line + 1, (int)mark.column + 1, message);
}

/* Line and column of a byte offset, for errors that libyaml gives without a mark. */
static yaml_mark_t mark_of_offset(const reader *r, size_t offset)
{
    yaml_mark_t mark = {0};
    for (size_t i = 0; i < offset && i < r->size; i++) {
        mark.column++;
        if (r->text[i] == '\n')
            mark.line++, mark.column = 0;
    }
    return mark;
}

static bool is_tab_at(const reader *r, yaml_mark_t mark)
{
    size_t line = 0, i = 0;
    while (line < mark.line && i < r->size)
        line += r->text[i++] == '\n';
    i += mark.column; /* characters are bytes up to a tab in the indentation */
    return i < r->size && r->text[i] == '\t';
}

static lips_status report_syntax(reader *r)
{
    const yaml_parser_t *p = &r->parser;
    char message[256];
    r->stop = true;
    if (p->error == YAML_MEMORY_ERROR)
        return lips_fail(LIPS_ERR_MEMORY, "no memory for reading YAML");
    if (p->error == YAML_READER_ERROR) {
        snprintf(message, sizeof message, "not readable as UTF-8 text: %s", p->problem);
        report(r, mark_of_offset(r, p->problem_offset), message);
        return LIPS_OK;
    }
    bool tab = is_tab_at(r, p->problem_mark);
    snprintf(message, sizeof message, "%s%s%s%s",
             tab ? "a tab where YAML wants spaces" : "YAML syntax: ", tab ? "" : p->problem,
             !tab && p->context ? " " : "", !tab && p->context ? p->context : "");
    report(r, p->problem_mark, message);
    return LIPS_OK;
}

/* The next event; r->stop is set if there is none because of an error (reported). */
static lips_status next_event(reader *r, yaml_event_t *event)
{
    if (yaml_parser_parse(&r->parser, event))
        return LIPS_OK;
    memset(event, 0, sizeof *event);
    return report_syntax(r);
}

/* Reads on to the end of the collection whose start was just read. */
static lips_status skip_collection(reader *r)
{
    for (int depth = 1; depth > 0 && !r->stop;) {
        yaml_event_t event;
        LIPS_TRY(next_event(r, &event));
        if (event.type == YAML_SEQUENCE_START_EVENT || event.type == YAML_MAPPING_START_EVENT)
            depth++;
        if (event.type == YAML_SEQUENCE_END_EVENT || event.type == YAML_MAPPING_END_EVENT)
            depth--;
        if (depth > DEPTH_MAX) {
            report(r, event.start_mark, "nested too deeply");
            r->stop = true;
        }
        yaml_event_delete(&event);
    }
    return LIPS_OK;
}

static bool is_collection(const yaml_event_t *e)
{
    return e->type == YAML_SEQUENCE_START_EVENT || e->type == YAML_MAPPING_START_EVENT;
}

/* What makes a node unfit as a key or value, or NULL. */
static const char *unfit(const yaml_event_t *e)
{
    if (e->type == YAML_ALIAS_EVENT)
        return "aliases (*name) are not supported: write the value out";
    const yaml_char_t *anchor = NULL, *tag = NULL;
    if (e->type == YAML_SCALAR_EVENT)
        anchor = e->data.scalar.anchor, tag = e->data.scalar.tag;
    else if (e->type == YAML_SEQUENCE_START_EVENT)
        anchor = e->data.sequence_start.anchor, tag = e->data.sequence_start.tag;
    if (anchor)
        return "anchors (&name) are not supported";
    if (tag)
        return "tags (!name) are not supported";
    if (e->type == YAML_SCALAR_EVENT &&
        strlen((const char *)e->data.scalar.value) != e->data.scalar.length)
        return "contains a NUL character";
    return NULL;
}

static lips_status keep_item(reader *r, const yaml_event_t *e)
{
    if (r->n_items == r->cap_items) {
        int64_t cap = r->cap_items ? r->cap_items * 2 : 16;
        void *grown = realloc(r->items, (size_t)cap * sizeof *r->items);
        if (!grown)
            return lips_fail(LIPS_ERR_MEMORY, "no memory for a list of %lld values",
                             (long long)cap);
        r->items = grown;
        r->cap_items = cap;
    }
    char *text = strdup((const char *)e->data.scalar.value);
    if (!text)
        return lips_fail(LIPS_ERR_MEMORY, "no memory for a value");
    r->items[r->n_items++] =
        (lips_yaml_scalar){.text = text,
                           .plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE,
                           .line = (int)e->start_mark.line + 1,
                           .column = (int)e->start_mark.column + 1};
    return LIPS_OK;
}

static void drop_items(reader *r)
{
    for (int64_t i = 0; i < r->n_items; i++)
        free(r->items[i].text);
    r->n_items = 0;
}

/* One node: a scalar is kept as an item, anything else reported (as `what`) and skipped. */
static lips_status take_scalar(reader *r, const yaml_event_t *e, const char *what, bool *ok)
{
    const char *why = unfit(e);
    if (!why && is_collection(e))
        why = what;
    if (why) {
        *ok = false;
        report(r, e->start_mark, why);
        return is_collection(e) ? skip_collection(r) : LIPS_OK;
    }
    return keep_item(r, e);
}

/* The items of a list whose start was just read. */
static lips_status take_list(reader *r, bool *ok)
{
    while (!r->stop) {
        yaml_event_t e;
        LIPS_TRY(next_event(r, &e));
        bool end = e.type == YAML_SEQUENCE_END_EVENT;
        lips_status st = LIPS_OK;
        if (!end && !r->stop)
            st = take_scalar(r, &e, "a list holds plain values, not lists or mappings", ok);
        yaml_event_delete(&e);
        if (st != LIPS_OK || end)
            return st;
    }
    return LIPS_OK;
}

/* The value of a key; hands both to the handler if they are fit (key kept as item 0). */
static lips_status take_value(reader *r, bool ok)
{
    yaml_event_t e;
    LIPS_TRY(next_event(r, &e));
    if (r->stop)
        return LIPS_OK;
    bool is_list = e.type == YAML_SEQUENCE_START_EVENT && !unfit(&e);
    lips_status st = is_list ? take_list(r, &ok)
                             : take_scalar(r, &e, "expected a value or a list, not a mapping", &ok);
    yaml_event_delete(&e);
    if (st == LIPS_OK && ok && !r->stop)
        st = r->h->value(r->h->user, &r->items[0], r->items + 1, r->n_items - 1, is_list);
    return st;
}

/* The pairs of the top mapping, up to its end. */
static lips_status take_pairs(reader *r)
{
    while (!r->stop) {
        yaml_event_t e;
        bool ok = true;
        LIPS_TRY(next_event(r, &e));
        lips_status st = LIPS_OK;
        bool end = e.type == YAML_MAPPING_END_EVENT;
        if (!end && !r->stop)
            st = take_scalar(r, &e, "a key must be a name", &ok);
        yaml_event_delete(&e);
        if (st == LIPS_OK && !end && !r->stop)
            st = take_value(r, ok);
        drop_items(r);
        if (st != LIPS_OK || end)
            return st;
    }
    return LIPS_OK;
}

static lips_status take_document(reader *r, const yaml_event_t *top)
{
    if (top->type == YAML_MAPPING_START_EVENT) {
        if (top->data.mapping_start.anchor || top->data.mapping_start.tag)
            report(r, top->start_mark, "anchors and tags are not supported");
        return take_pairs(r);
    }
    bool empty = top->type == YAML_SCALAR_EVENT && top->data.scalar.length == 0;
    if (!empty)
        report(r, top->start_mark, "expected lines of 'key: value'");
    return is_collection(top) ? skip_collection(r) : LIPS_OK;
}

lips_status lips_yaml_read(const char *text, size_t size, const lips_yaml_handler *h)
{
    reader r = {.text = text, .size = size, .h = h};
    if (!yaml_parser_initialize(&r.parser))
        return lips_fail(LIPS_ERR_MEMORY, "no memory for reading YAML");
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, size);
    lips_status st = LIPS_OK;
    int documents = 0;
    for (bool end = false; st == LIPS_OK && !end && !r.stop;) {
        yaml_event_t e;
        st = next_event(&r, &e);
        if (st != LIPS_OK || r.stop)
            break;
        end = e.type == YAML_STREAM_END_EVENT;
        if (e.type == YAML_DOCUMENT_START_EVENT && ++documents > 1) {
            report(&r, e.start_mark, "a second document: a configuration is a single one");
            r.stop = true;
        } else if (e.type == YAML_SCALAR_EVENT || e.type == YAML_ALIAS_EVENT || is_collection(&e)) {
            st = take_document(&r, &e);
        }
        yaml_event_delete(&e);
    }
    drop_items(&r);
    free(r.items);
    yaml_parser_delete(&r.parser);
    return st;
}
