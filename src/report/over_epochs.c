/*
 * report/over_epochs.c - panels over epochs, one thin line per cell, coloured by width.
 *
 * Cells are drawn one by one, never averaged: after an early stop some replicates have no later
 * epochs, and a mean would jump there.
 */
#include "report/csv.h"
#include "report/figure.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum {
    PANEL_W = 370,
    PANEL_H = 230,
    LEFT = 76,
    RIGHT = 96,
    ABOVE = 32,
    BELOW = 66,
    GAP_X = 84,
    GAP_Y = 38,
    LINES_MAX = 150,
    POINTS_MAX = 400
};

typedef struct epochs_canvas {
    lips_figure *f;
    const lips_report *r;
    bool one_replicate; /* too many lines: only the first cell of each place */
    int block;
    int lines; /* with at least two points */
    lips_range range;
    double last;
} epochs_canvas;

static bool is_drawn(const epochs_canvas *c, int64_t i)
{
    const lips_report_cell *cell = &c->r->cells[i];
    if (cell->damaged || cell->count == 0 || cell->variant < c->f->first_variant ||
        cell->variant >= c->f->first_variant + c->f->n_variants)
        return false;
    for (int64_t k = 0; c->one_replicate && k < i; k++)
        if (c->r->cells[k].x == cell->x && c->r->cells[k].variant == cell->variant)
            return false;
    return true;
}

static void csv_point(epochs_canvas *c, const lips_panel *panel, const lips_report_cell *cell,
                      const lips_record *rec)
{
    FILE *f = c->f->csv;
    lips_csv_text(f, panel->y_label);
    putc(',', f);
    lips_csv_text(f, cell->name);
    fprintf(f, ",%.17g,%" PRId64 ",", c->r->x[cell->x], rec->epoch);
    lips_csv_number(f, lips_record_number(rec));
    putc('\n', f);
}

/* Records of the pick in this cell whose numbers can be drawn. */
static int64_t count_points(const lips_report *r, const lips_report_cell *cell, const lips_pick *p)
{
    int64_t n = 0;
    for (int64_t k = cell->first; k < cell->first + cell->count; k++)
        n += lips_pick_matches(p, &r->records[k]) && isfinite(lips_record_number(&r->records[k]));
    return n;
}

static void add_cell(epochs_canvas *c, const lips_panel *panel, const lips_report_cell *cell)
{
    const lips_pick *p = &panel->curve[0].pick;
    int64_t n = count_points(c->r, cell, p), i = 0;
    double next = 0; /* beyond POINTS_MAX points, every so many is drawn; the table has all */
    for (int64_t k = cell->first; k < cell->first + cell->count; k++) {
        const lips_record *rec = &c->r->records[k];
        if (!lips_pick_matches(p, rec) || rec->form == LIPS_FORM_NULL)
            continue;
        csv_point(c, panel, cell, rec);
        double v = lips_record_number(rec);
        if (!isfinite(v)) { /* the line ends here */
            fputc('\n', c->f->data);
            continue;
        }
        lips_range_add(&c->range, v);
        c->last = fmax(c->last, (double)rec->epoch);
        if ((double)i >= next || i == n - 1) {
            fprintf(c->f->data, "%.6g %.8g %.8g\n", lips_plot_epoch_place(rec->epoch), v,
                    c->r->x[cell->x]);
            next += n > POINTS_MAX ? (double)n / POINTS_MAX : 1;
        }
        i++;
    }
    fputc('\n', c->f->data);
    c->lines += n > 1;
}

static void fill_canvas(epochs_canvas *c, const lips_panel *panel)
{
    c->lines = 0;
    c->range = lips_range_empty();
    c->block = lips_block_begin(c->f);
    for (int64_t i = 0; i < c->r->n_cells; i++)
        if (is_drawn(c, i))
            add_cell(c, panel, &c->r->cells[i]);
    lips_block_end(c->f);
}

static int64_t count_lines(const epochs_canvas *c)
{
    int64_t n = 0;
    for (int64_t i = 0; i < c->r->n_cells; i++)
        n += is_drawn(c, i);
    return n;
}

static void draw_panel(epochs_canvas *c, const lips_panel *panel, const lips_box *box, bool bottom,
                       bool last)
{
    FILE *f = c->f->body;
    lips_plot_panel(c->f, box);
    lips_plot_epochs(c->f, c->last, bottom);
    lips_plot_y(c->f, &c->range, panel->scale);
    double width = c->f->width, height = c->f->height;
    lips_box bar = {1 - (RIGHT - 18) / width, 1 - (RIGHT - 32) / width, BELOW / height,
                    1 - (ABOVE + 20) / height};
    lips_plot_palette_x(c->f, c->r, last ? &bar : NULL);
    fputs("unset key\nset title ", f);
    lips_plot_quote(f, panel->y_label);
    fprintf(f, " offset 0,-0.6\nplot $b%d using 1:2:3 with lines lw 1.2 lc palette notitle\n",
            c->block);
}

lips_status lips_make_over_epochs(lips_figure *f, const lips_report *r, const void *spec)
{
    const lips_panels *s = spec;
    epochs_canvas c[LIPS_PANELS_MAX];
    const lips_panel *panel[LIPS_PANELS_MAX];
    int n = 0;
    double last = 0;
    fprintf(f->csv, "panel,cell,%s,epoch,value\n", r->x_name);
    for (int i = 0; i < s->n; i++) {
        c[n] = (epochs_canvas){.f = f, .r = r};
        c[n].one_replicate = count_lines(&c[n]) > LINES_MAX;
        panel[n] = &s->panel[i];
        fill_canvas(&c[n], panel[n]);
        last = fmax(last, c[n].last);
        n += c[n].lines > 0;
    }
    if (n == 0)
        return LIPS_OK;
    int columns = n < s->columns ? n : s->columns, rows = (n + columns - 1) / columns;
    f->drawn = true;
    f->width = LEFT + columns * PANEL_W + (columns - 1) * GAP_X + RIGHT;
    f->height = ABOVE + rows * PANEL_H + (rows - 1) * GAP_Y + BELOW;
    for (int i = 0; i < n; i++) {
        double x = LEFT + i % columns * (PANEL_W + GAP_X),
               y = ABOVE + i / columns * (PANEL_H + GAP_Y);
        lips_box box = {x / f->width, (x + PANEL_W) / f->width, 1 - (y + PANEL_H) / f->height,
                        1 - y / f->height};
        c[i].last = last;
        draw_panel(&c[i], panel[i], &box, i + columns >= n, i == n - 1);
    }
    if (c[0].one_replicate) {
        size_t used = strlen(f->caption);
        snprintf(f->caption + used, sizeof f->caption - used,
                 " Of each %s one seed is drawn; the table has all.", r->x_name);
    }
    return LIPS_OK;
}
