/*
 * report/over_width.c - panels one above the other over a shared axis of widths.
 *
 * A line joins the means over replicates; a band spans their range; dots are the replicates. A line
 * is broken where a place has no finished cell: nothing is interpolated.
 */
#include "report/csv.h"
#include "report/over_width.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LAYERS = 1000 }; /* more than a network has: numbers a panel's curves */

/* The dots of one place: the numbers of its replicates. */
static void add_dots(lips_canvas *c, const lips_pick *p, int variant, int x)
{
    for (int64_t i = 0; i < c->r->n_cells; i++) {
        const lips_report_cell *cell = &c->r->cells[i];
        if (cell->state != LIPS_CELL_DONE || cell->variant != variant || cell->x != x)
            continue;
        const lips_record *rec = lips_report_find(c->r, cell, p);
        double v = rec ? lips_pick_number(p, rec) : NAN;
        if (!isfinite(v))
            continue;
        fprintf(c->f->data, "%.10g %.10g\n", c->r->x[x], v);
        if (rec->form == LIPS_FORM_STATS) {
            c->n_least = c->n_least && c->n_least < rec->n ? c->n_least : rec->n;
            c->n_most = c->n_most > rec->n ? c->n_most : rec->n;
        }
    }
}

static void csv_line(lips_canvas *c, const char *panel, const char *label, int variant, int x,
                     const lips_spread *s)
{
    FILE *f = c->f->csv;
    lips_csv_text(f, panel);
    putc(',', f);
    lips_csv_text(f, label);
    putc(',', f);
    lips_csv_text(f, c->r->variants[variant].label);
    fprintf(f, ",%.17g,%d,%d", c->r->x[x], s->n, s->left_out);
    const double v[] = {s->mean, s->sd, s->min, s->max};
    for (int i = 0; i < 4; i++) {
        putc(',', f);
        if (!isnan(v[i]))
            lips_csv_number(f, v[i]);
    }
    putc('\n', f);
}

/* Writes the blocks of one curve; true if there is anything in them. */
static bool add_line(lips_canvas *c, const lips_panel *panel, const lips_pick *p, int variant,
                     lips_drawn *out)
{
    bool any = false;
    out->stats = lips_block_begin(c->f);
    for (int x = 0; x < c->r->n_x; x++) {
        lips_spread s = lips_report_spread(c->r, p, variant, x);
        if (s.n == 0) {
            fputc('\n', c->f->data); /* breaks the line */
            continue;
        }
        fprintf(c->f->data, "%.10g %.10g %.10g %.10g\n", c->r->x[x], s.mean, s.min, s.max);
        csv_line(c, panel->y_label, out->label, variant, x, &s);
        lips_range_add(&c->range, s.min);
        lips_range_add(&c->range, s.max);
        out->spread |= s.n > 1;
        any = true;
    }
    lips_block_end(c->f);
    out->dots = lips_block_begin(c->f);
    for (int x = 0; any && x < c->r->n_x; x++)
        add_dots(c, p, variant, x);
    lips_block_end(c->f);
    return any;
}

/* Colours tell curves apart; where there are several variants they tell those apart, and dashes the
 * curves. */
static void style_line(const lips_canvas *c, lips_drawn *d, const lips_panel *panel, int n_curves)
{
    bool several = c->f->n_variants > 1;
    d->colour = lips_colour(several ? d->variant : d->look + panel->first_colour);
    d->point = lips_point_type(several && n_curves == 1 ? d->variant : d->look);
    if (several)
        d->dashes = d->look;
}

/* The lines of a curve: one, or one per layer. */
static void add_curve(lips_canvas *c, const lips_panel *panel, int number, int variant)
{
    const lips_curve *curve = &panel->curve[number];
    int layers = curve->per_layer ? lips_report_layers(c->r, curve->pick.quantity, variant) : 1;
    for (int l = 1; l <= layers && c->n < LIPS_DRAWN_MAX; l++) {
        lips_drawn *d = &c->line[c->n];
        lips_pick p = curve->pick;
        *d = (lips_drawn){.curve = number * LAYERS + l - 1,
                          .look = curve->per_layer ? l - 1 : number,
                          .dashes = curve->dashed,
                          .variant = variant - c->f->first_variant};
        snprintf(d->label, sizeof d->label, "%s", curve->label);
        if (curve->per_layer) {
            p.layer = l;
            snprintf(d->label, sizeof d->label, "layer %d (%.100s)%s%s", l,
                     lips_report_layer_name(c->r, p.quantity, variant, l),
                     curve->label[0] ? ", " : "", curve->label);
        }
        if (!add_line(c, panel, &p, variant, d))
            continue;
        style_line(c, d, panel, curve->per_layer ? layers : panel->n);
        c->n++;
    }
}

/* Where some replicates have a null: they stay outside of the means, so they get a mark. */
static void add_never(lips_canvas *c, const lips_panel *panel)
{
    c->never_block = lips_block_begin(c->f);
    for (int64_t i = 0; i < c->r->n_cells; i++) {
        const lips_report_cell *cell = &c->r->cells[i];
        if (cell->state != LIPS_CELL_DONE || cell->variant < c->f->first_variant ||
            cell->variant >= c->f->first_variant + c->f->n_variants)
            continue;
        const lips_record *rec = lips_report_find(c->r, cell, &panel->curve[0].pick);
        if (!rec || rec->form != LIPS_FORM_NULL)
            continue;
        fprintf(c->f->data, "%.10g\n", c->r->x[cell->x]);
        c->never = true;
    }
    lips_block_end(c->f);
}

/* Has a curve that the panel is there for any lines? */
static bool has_subject(const lips_canvas *c, const lips_panel *panel)
{
    for (int i = 0; i < c->n; i++)
        if (c->line[i].curve >= panel->context * LAYERS)
            return true;
    return false;
}

static void fill_canvas(lips_canvas *c, const lips_panel *panel)
{
    c->n = 0;
    c->never = false;
    c->range = lips_range_empty();
    int end = c->f->first_variant + c->f->n_variants;
    for (int k = 0; k < panel->n; k++)
        for (int v = c->f->first_variant; v < end; v++)
            add_curve(c, panel, k, v);
    if (!has_subject(c, panel))
        c->n = 0;
    if (panel->never_marks && c->n > 0)
        add_never(c, panel);
}

static void tell_samples(const lips_canvas *c, int n)
{
    size_t used = strlen(c->f->caption), size = sizeof c->f->caption - used;
    for (int i = 0; i < n; i++) {
        if (c[i].n_most == 0)
            continue;
        if (c[i].n_least == c[i].n_most)
            snprintf(c->f->caption + used, size, "Averages are over %" PRId64 " samples. ",
                     c[i].n_most);
        else
            snprintf(c->f->caption + used, size,
                     "Averages are over %" PRId64 " to %" PRId64 " samples. ", c[i].n_least,
                     c[i].n_most);
        return;
    }
}

lips_status lips_make_over_width(lips_figure *f, const lips_report *r, const void *spec)
{
    const lips_panels *s = spec;
    const lips_panel *panel[LIPS_PANELS_MAX];
    int n = 0;
    if (r->n_cells == 1) /* a point on an axis shows less than the table of cells */
        return LIPS_OK;
    lips_canvas *c = calloc(LIPS_PANELS_MAX, sizeof *c);
    if (!c)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory for the figure %s", f->id);
    fprintf(f->csv, "panel,curve,variant,%s,n,left_out,mean,sd,min,max\n", r->x_name);
    for (int i = 0; i < s->n; i++) {
        for (panel[n] = &s->panel[i]; panel[n]; panel[n] = panel[n]->otherwise) {
            c[n].f = f;
            c[n].r = r;
            fill_canvas(&c[n], panel[n]);
            if (c[n].n > 0)
                break;
        }
        n += panel[n] != NULL;
    }
    f->drawn = n > 0;
    lips_canvas_draw(c, panel, n);
    tell_samples(c, n);
    free(c);
    return LIPS_OK;
}
