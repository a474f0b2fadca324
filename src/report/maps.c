/*
 * report/maps.c - width x epoch maps: a box for each width and epoch, coloured by the mean over
 * replicates.
 *
 * A box reaches half way (on the axis as drawn) to the next width and to the next epoch of its own
 * width, so that widths which stopped early leave the rest of their column empty.
 */
#include "report/csv.h"
#include "report/figure.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

enum {
    PANEL_W = 300,
    PANEL_H = 300,
    LEFT = 66,
    RIGHT = 92,
    ABOVE = 36,
    BELOW = 62,
    GAP = 130, /* holds the left panel's colours and the right panel's labels */
    EPOCHS_LEAST = 3
};

typedef struct map_canvas {
    lips_figure *f;
    const lips_report *r;
    int block, columns; /* widths with enough epochs */
    lips_range range;
    double last;
} map_canvas;

static int by_epoch(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static bool in_column(const map_canvas *c, const lips_report_cell *cell, int x)
{
    return cell->state == LIPS_CELL_DONE && !cell->damaged && cell->x == x &&
           cell->variant == c->f->first_variant;
}

/* The epochs (malloc'ed, rising, each once) at which the column has numbers. */
static lips_status column_epochs(const map_canvas *c, const lips_pick *p, int x, int64_t **out,
                                 int64_t *n)
{
    int64_t most = 0, count = 0;
    for (int64_t i = 0; i < c->r->n_cells; i++)
        most += in_column(c, &c->r->cells[i], x) ? c->r->cells[i].count : 0;
    int64_t *epoch = malloc((size_t)(most + 1) * sizeof *epoch);
    if (!epoch)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory for the figure %s", c->f->id);
    for (int64_t i = 0; i < c->r->n_cells; i++) {
        const lips_report_cell *cell = &c->r->cells[i];
        for (int64_t k = cell->first; in_column(c, cell, x) && k < cell->first + cell->count; k++)
            if (lips_pick_matches(p, &c->r->records[k]) &&
                isfinite(lips_pick_number(p, &c->r->records[k])))
                epoch[count++] = c->r->records[k].epoch;
    }
    qsort(epoch, (size_t)count, sizeof *epoch, by_epoch);
    *n = 0;
    for (int64_t i = 0; i < count; i++)
        if (*n == 0 || epoch[*n - 1] != epoch[i])
            epoch[(*n)++] = epoch[i];
    *out = epoch;
    return LIPS_OK;
}

/* Half way between a and b on a linear or logarithmic axis. */
static double between(double a, double b, bool logarithmic)
{
    return logarithmic ? sqrt(a * b) : (a + b) / 2;
}

/* The box's ends on the axis of widths. */
static void column_ends(const lips_report *r, int x, double *from, double *to)
{
    double here = r->x[x], below = x > 0 ? r->x[x - 1] : NAN, above = NAN;
    if (x + 1 < r->n_x)
        above = r->x[x + 1];
    if (isnan(below))
        below = r->x_log ? here * here / above : 2 * here - above;
    if (isnan(above))
        above = r->x_log ? here * here / below : 2 * here - below;
    *from = between(below, here, r->x_log);
    *to = between(here, above, r->x_log);
}

static void add_box(map_canvas *c, const lips_panel *panel, int x, int64_t epoch, double bottom,
                    double top)
{
    lips_pick p = panel->curve[0].pick;
    double from, to;
    p.epoch = epoch;
    lips_spread s = lips_report_spread(c->r, &p, c->f->first_variant, x);
    if (s.n == 0)
        return;
    column_ends(c->r, x, &from, &to);
    fprintf(c->f->data, "%.8g %.8g %.8g %.8g %.8g %.8g %.8g\n", c->r->x[x],
            lips_plot_epoch_place(epoch), from, to, bottom, top, s.mean);
    lips_csv_text(c->f->csv, panel->y_label);
    fprintf(c->f->csv, ",%.17g,%" PRId64 ",%d,", c->r->x[x], epoch, s.n);
    lips_csv_number(c->f->csv, s.mean);
    putc('\n', c->f->csv);
    lips_range_add(&c->range, s.mean);
    c->last = fmax(c->last, (double)epoch);
}

static lips_status fill_column(map_canvas *c, const lips_panel *panel, int x)
{
    int64_t *epoch = NULL, n = 0;
    LIPS_TRY(column_epochs(c, &panel->curve[0].pick, x, &epoch, &n));
    for (int64_t i = 0; n >= EPOCHS_LEAST && i < n; i++) {
        double here = lips_plot_epoch_place(epoch[i]), bottom = here / 1.2, top = here * 1.2;
        if (i > 0)
            bottom = between(lips_plot_epoch_place(epoch[i - 1]), here, true);
        if (i + 1 < n)
            top = between(here, lips_plot_epoch_place(epoch[i + 1]), true);
        add_box(c, panel, x, epoch[i], bottom, top);
    }
    c->columns += n >= EPOCHS_LEAST;
    free(epoch);
    return LIPS_OK;
}

static lips_status fill(map_canvas *c, const lips_panel *panel)
{
    c->range = lips_range_empty();
    c->block = lips_block_begin(c->f);
    for (int x = 0; x < c->r->n_x; x++)
        LIPS_TRY(fill_column(c, panel, x));
    lips_block_end(c->f);
    return LIPS_OK;
}

static void draw(const map_canvas *c, const lips_panel *panel, const lips_box *box, bool labelled)
{
    FILE *f = c->f->body;
    double width = c->f->width, lo = c->range.lo, hi = c->range.hi;
    bool logarithmic = panel->scale != LIPS_SCALE_LINEAR && lo > 0 && hi > 20 * lo;
    lips_box bar = {box->right + 10 / width, box->right + 22 / width, box->bottom, box->top};
    double left, right, unused;
    lips_plot_panel(c->f, box);
    lips_plot_x(c->f, c->r, true);
    column_ends(c->r, 0, &left, &unused);
    column_ends(c->r, c->r->n_x - 1, &unused, &right);
    fprintf(f,
            "set xrange [%.6g:%.6g]\nset xtics rotate by -45\nunset grid\nset logscale y\n"
            "unset mytics\nset yrange [0.4:%.6g]\nset format y '%%g'\nset ytics add ('0' 0.5)\n",
            left, right, (c->last > 1 ? c->last : 1) * 1.2);
    if (labelled)
        fputs("set ylabel 'epoch' offset 1.5,0\n", f);
    lips_plot_palette(c->f, lo, hi, logarithmic, "", &bar);
    fputs("unset key\nset title ", f);
    lips_plot_quote(f, panel->y_label);
    fprintf(f,
            " noenhanced offset 0,-0.4\n"
            "plot $b%d using 1:2:3:4:5:6:7 with boxxyerror fs solid 1 noborder fc palette "
            "notitle\n",
            c->block);
}

lips_status lips_make_maps(lips_figure *f, const lips_report *r, const void *spec)
{
    const lips_panels *s = spec;
    map_canvas c[LIPS_PANELS_MAX];
    const lips_panel *panel[LIPS_PANELS_MAX];
    int n = 0;
    double last = 0;
    if (r->n_x < 2)
        return LIPS_OK;
    fprintf(f->csv, "panel,%s,epoch,n,mean\n", r->x_name);
    for (int i = 0; i < s->n; i++)
        for (const lips_panel *p = &s->panel[i]; p; p = p->otherwise) {
            c[n] = (map_canvas){.f = f, .r = r};
            panel[n] = p;
            LIPS_TRY(fill(&c[n], p));
            if (c[n].columns < 2)
                continue;
            last = fmax(last, c[n++].last);
            break;
        }
    if (n == 0)
        return LIPS_OK;
    f->drawn = true;
    f->width = LEFT + n * PANEL_W + (n - 1) * GAP + RIGHT;
    f->height = ABOVE + PANEL_H + BELOW;
    double width = f->width, height = f->height;
    for (int i = 0; i < n; i++) {
        double x = LEFT + i * (PANEL_W + GAP);
        lips_box box = {x / width, (x + PANEL_W) / width, BELOW / height, 1 - ABOVE / height};
        c[i].last = last;
        draw(&c[i], panel[i], &box, i == 0);
    }
    return LIPS_OK;
}
