/*
 * report/over_depth.c - panels over the layers, one line per width: means over replicates.
 *
 * Layer numbers are the places; a line is broken at a layer without a number.
 */
#include "report/csv.h"
#include "report/figure.h"

#include <math.h>

enum { PANEL_W = 370, PANEL_H = 270, LEFT = 76, RIGHT = 96, ABOVE = 32, BELOW = 66, GAP = 84 };

typedef struct depth_canvas {
    lips_figure *f;
    const lips_report *r;
    int block, layers;
    lips_range range;
} depth_canvas;

static void csv_line(const depth_canvas *c, const lips_panel *panel, int x, int layer,
                     const lips_spread *s)
{
    const lips_pick *p = &panel->curve[0].pick;
    FILE *f = c->f->csv;
    lips_csv_text(f, panel->y_label);
    fprintf(f, ",%.17g,%d,", c->r->x[x], layer);
    lips_csv_text(f, lips_report_layer_name(c->r, p->quantity, c->f->first_variant, layer));
    fprintf(f, ",%d,", s->n);
    lips_csv_number(f, s->mean);
    putc(',', f);
    lips_csv_number(f, s->min);
    putc(',', f);
    lips_csv_number(f, s->max);
    putc('\n', f);
}

static void fill(depth_canvas *c, const lips_panel *panel)
{
    lips_pick p = panel->curve[0].pick;
    c->range = lips_range_empty();
    c->layers = lips_report_layers(c->r, p.quantity, c->f->first_variant);
    c->block = lips_block_begin(c->f);
    for (int x = 0; x < c->r->n_x; x++) {
        for (p.layer = 1; p.layer <= c->layers; p.layer++) {
            lips_spread s = lips_report_spread(c->r, &p, c->f->first_variant, x);
            if (s.n > 0) {
                fprintf(c->f->data, "%d %.8g %.8g\n", p.layer, s.mean, c->r->x[x]);
                csv_line(c, panel, x, p.layer, &s);
                lips_range_add(&c->range, s.mean);
            } else {
                fputc('\n', c->f->data);
            }
        }
        fputc('\n', c->f->data);
    }
    lips_block_end(c->f);
}

/* Names below the axis while they have room, else numbers. */
static void layer_axis(const depth_canvas *c, const lips_panel *panel)
{
    FILE *f = c->f->body;
    fprintf(f, "set xrange [0.7:%g]\nset xlabel 'layer'\nset xtics (", c->layers + 0.3);
    for (int l = 1, step = 1 + c->layers / 16; l <= c->layers; l += step) {
        char text[100];
        const char *name =
            lips_report_layer_name(c->r, panel->curve[0].pick.quantity, c->f->first_variant, l);
        snprintf(text, sizeof text, c->layers <= 3 ? "%d (%.60s)" : "%d", l, name);
        fputs(l > 1 ? "," : "", f);
        lips_plot_quote(f, text);
        fprintf(f, " %d", l);
    }
    fputs(") noenhanced\n", f);
}

static void draw(depth_canvas *c, const lips_panel *panel, const lips_box *box, const lips_box *bar)
{
    FILE *f = c->f->body;
    lips_plot_panel(c->f, box);
    layer_axis(c, panel);
    lips_plot_y(c->f, &c->range, panel->scale);
    lips_plot_palette_x(c->f, c->r, bar);
    fputs("unset key\nset title ", f);
    lips_plot_quote(f, panel->y_label);
    fprintf(f,
            " offset 0,-0.6\n"
            "plot $b%d using 1:2:3 with linespoints pt 7 ps 0.5 lw 1.6 lc palette notitle\n",
            c->block);
}

lips_status lips_make_over_depth(lips_figure *f, const lips_report *r, const void *spec)
{
    const lips_panels *s = spec;
    depth_canvas c[LIPS_PANELS_MAX];
    const lips_panel *panel[LIPS_PANELS_MAX];
    int n = 0;
    fprintf(f->csv, "panel,%s,layer,layer_name,n,mean,min,max\n", r->x_name);
    for (int i = 0; i < s->n; i++) {
        c[n] = (depth_canvas){.f = f, .r = r};
        panel[n] = &s->panel[i];
        fill(&c[n], panel[n]);
        n += !lips_range_is_empty(&c[n].range);
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
        lips_box bar = {1 - (RIGHT - 18) / width, 1 - (RIGHT - 32) / width, box.bottom, box.top};
        draw(&c[i], panel[i], &box, i == n - 1 ? &bar : NULL);
    }
    return LIPS_OK;
}
