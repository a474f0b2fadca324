/* report/figures.c - from the table of figures to the list of those that have something to draw. */
#include "report/figure.h"

#include <stdlib.h>
#include <string.h>

static void close_streams(lips_figure *f)
{
    FILE **const stream[] = {&f->data, &f->body, &f->csv};
    for (int i = 0; i < 3; i++) {
        if (*stream[i])
            fclose(*stream[i]);
        *stream[i] = NULL;
    }
}

static void figure_free(lips_figure *f)
{
    close_streams(f);
    free(f->data_text);
    free(f->body_text);
    free(f->csv_text);
}

static lips_status figure_open(lips_figure *f, const lips_figure_row *row, const lips_report *r,
                               int page, int first, int n)
{
    const char *label = n == 1 ? r->variants[first].label : "";
    *f = (lips_figure){.first_variant = first, .n_variants = n};
    snprintf(f->id, sizeof f->id, page ? "%s-%d" : "%s", row->id, page + 1);
    snprintf(f->title, sizeof f->title, "%.150s%s%.140s", row->title, label[0] ? ": " : "", label);
    snprintf(f->caption, sizeof f->caption, "%s", row->caption);
    f->data = open_memstream(&f->data_text, &f->data_size);
    f->body = open_memstream(&f->body_text, &f->body_size);
    f->csv = open_memstream(&f->csv_text, &f->csv_size);
    if (!f->data || !f->body || !f->csv)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory for the figure %s", f->id);
    return LIPS_OK;
}

static lips_status list_grow(lips_figure_list *list)
{
    if (list->n < list->cap)
        return LIPS_OK;
    int cap = list->cap ? 2 * list->cap : 32;
    lips_figure *more = realloc(list->figure, (size_t)cap * sizeof *more);
    if (!more)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory for %d figures", cap);
    list->figure = more;
    list->cap = cap;
    return LIPS_OK;
}

/* One page of a row; it stays in the list if there was something to draw. */
static lips_status build_page(lips_figure_list *list, const lips_figure_row *row, lips_report *r,
                              const char *dir, lips_gnuplot *g, int page, int first, int n)
{
    lips_figure f;
    lips_status st;
    LIPS_TRY(list_grow(list));
    LIPS_TRY_GOTO(st, figure_open(&f, row, r, page, first, n), fail);
    st = row->make(&f, r, row->spec);
    if (st == LIPS_ERR_DATA) { /* one damaged file takes one figure away, not the report */
        f.drawn = false;
        st = lips_report_warn(r, "The figure \"%s\" is missing: %s", f.title, lips_error());
    }
    if (st != LIPS_OK)
        goto fail;
    close_streams(&f);
    if (!f.drawn) {
        figure_free(&f);
        return LIPS_OK;
    }
    LIPS_TRY_GOTO(st, lips_figure_render(&f, r, dir, g), fail);
    list->figure[list->n++] = f;
    return LIPS_OK;
fail:
    figure_free(&f);
    return st;
}

static lips_status build_row(lips_figure_list *list, const lips_figure_row *row, lips_report *r,
                             const char *dir, lips_gnuplot *g)
{
    int before = list->n, step = r->n_variants;
    if (row->paging != LIPS_PAGE_ONCE)
        step = row->paging == LIPS_PAGE_VARIANTS ? 1 : LIPS_CHUNK;
    int page = 0;
    for (int v = 0; v < r->n_variants && page < LIPS_PAGES_MAX; v += step, page++) {
        int n = r->n_variants - v < step ? r->n_variants - v : step;
        LIPS_TRY(build_page(list, row, r, dir, g, page, v, n));
    }
    if (page * step < r->n_variants)
        LIPS_TRY(lips_report_warn(r, "%s: %d of %d combinations are drawn; the tables have all.",
                                  row->title, page * step, r->n_variants));
    if (list->n == before)
        list->missing[list->n_missing++] = row->title;
    return LIPS_OK;
}

lips_status lips_figures_build(lips_figure_list *list, lips_report *r, const char *dir)
{
    lips_gnuplot g = {.missing = false};
    *list = (lips_figure_list){0};
    list->missing = calloc((size_t)lips_figure_count, sizeof *list->missing);
    if (!list->missing)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory for the figures");
    for (int i = 0; i < lips_figure_count && r->n_cells > 0; i++)
        LIPS_TRY(build_row(list, &lips_figure_rows[i], r, dir, &g));
    return LIPS_OK;
}

void lips_figures_free(lips_figure_list *list)
{
    for (int i = 0; i < list->n; i++)
        figure_free(&list->figure[i]);
    free(list->figure);
    free(list->missing);
    *list = (lips_figure_list){0};
}
