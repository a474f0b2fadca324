/* report/over_width_draw.c - panels over a shared axis of widths, with their legend. */
#include "report/over_width.h"

#include <string.h>

enum { LEFT = 86, PANEL_W = 580, PANEL_H = 270, BELOW = 62, ABOVE = 14, GAP = 20, LABEL_AT = 22 };
/* Legend, right of the panels: least width, its sample lines, and a character of its text. */
enum { LEGEND_LEAST = 200, LEGEND_SAMPLE = 64, LEGEND_LETTER = 8 };

/* Behind the curves, one per variant; grey where there is only one. */
static void draw_thresholds(const lips_canvas *c)
{
    const lips_figure *f = c->f;
    for (int v = 0; v < f->n_variants; v++) {
        double from, to;
        if (!lips_report_threshold(c->r, f->first_variant + v, &from, &to))
            continue;
        unsigned colour = f->n_variants > 1 ? 0xd8000000U | lips_colour(v) : 0xc4707070U;
        fprintf(f->body,
                "set object %d rect from first %.10g, graph 0 to first %.10g, graph 1 "
                "fc rgb '#%08x' fs solid noborder behind\n",
                v + 1, from, to, colour);
    }
}

static bool any_threshold(const lips_canvas *c)
{
    double from, to;
    for (int v = 0; v < c->f->n_variants; v++)
        if (lips_report_threshold(c->r, c->f->first_variant + v, &from, &to))
            return true;
    return false;
}

/* Legend entries of a canvas, printed into f or (f NULL) only measured; returns the longest text.
 */
static size_t entry(FILE *f, const char *sample, const char *text)
{
    if (f) {
        fprintf(f, ", \\\n  keyentry %s title ", sample);
        lips_plot_quote(f, text);
    }
    return strlen(text);
}

static const char *dash(int i)
{
    static const char *const dashes[] = {"1", "(7,4)", "(2,3)", "(9,3,2,3)", "(4,2)", "(12,4)"};
    return dashes[i % (int)(sizeof dashes / sizeof dashes[0])];
}

/* Several variants: each one's colour (in the first panel), then each curve's dashes. One variant:
 * each curve; a single one is named by the axis. */
static size_t legend(const lips_canvas *c, FILE *f, bool first)
{
    char sample[120];
    size_t longest = 0, n;
    bool several = c->f->n_variants > 1;
    for (int v = 0; several && first && v < c->f->n_variants; v++) {
        snprintf(sample, sizeof sample, "with lines lw 4 lc rgb '#%06x'", lips_colour(v));
        n = entry(f, sample, c->r->variants[c->f->first_variant + v].label);
        longest = n > longest ? n : longest;
    }
    for (int i = 0, last = -1; i < c->n; i++) {
        const lips_drawn *d = &c->line[i];
        if (d->curve == last || c->line[0].curve == c->line[c->n - 1].curve)
            continue;
        last = d->curve;
        snprintf(sample, sizeof sample, "with linespoints lw 2 dt %s pt %d ps 0.55 lc rgb '#%06x'",
                 dash(d->dashes), d->point, several ? 0x444444 : d->colour);
        n = entry(f, sample, d->label);
        longest = n > longest ? n : longest;
    }
    if (c->never) {
        n = entry(f, "with points pt 2 ps 0.8 lw 1.2 lc rgb '#444444'", "never (left out)");
        longest = n > longest ? n : longest;
    }
    if (first && any_threshold(c)) {
        n = entry(f, "with boxes fc rgb '#d8d8d8' fs solid noborder", "interpolation threshold");
        longest = n > longest ? n : longest;
    }
    return longest;
}

static void draw_lines(const lips_canvas *c)
{
    FILE *f = c->f->body;
    fputs("plot \\\n", f);
    for (int i = 0; i < c->n; i++)
        if (c->line[i].spread)
            fprintf(f, "  $b%d using 1:3:4 with filledcurves fc rgb '#c8%06x' notitle, \\\n",
                    c->line[i].stats, c->line[i].colour);
    for (int i = 0; i < c->n; i++)
        if (c->line[i].spread)
            fprintf(f, "  $b%d using 1:2 with points pt 7 ps 0.25 lc rgb '#60%06x' notitle, \\\n",
                    c->line[i].dots, c->line[i].colour);
    if (c->never)
        fprintf(
            f, "  $b%d using 1:(top) with points pt 2 ps 0.8 lw 1.2 lc rgb '#444444' notitle, \\\n",
            c->never_block);
    for (int i = 0; i < c->n; i++)
        fprintf(f,
                "%s  $b%d using 1:2 with linespoints lw 2 dt %s pt %d ps %g lc rgb '#%06x' notitle",
                i ? ", \\\n" : "", c->line[i].stats, dash(c->line[i].dashes), c->line[i].point,
                c->r->n_x > 30 ? 0.35 : 0.55, c->line[i].colour);
}

static void draw_panel(lips_canvas *c, const lips_panel *panel, const lips_box *box, bool top,
                       bool bottom)
{
    FILE *f = c->f->body;
    lips_plot_panel(c->f, box);
    lips_plot_x(c->f, c->r, bottom);
    if (c->never) { /* the marks stand a little above the largest number */
        double room = c->range.hi > 0 ? c->range.hi * 1.3 : 1;
        fprintf(f, "top = %.6g\n", room);
        lips_range_add(&c->range, room);
    }
    lips_plot_y(c->f, &c->range, panel->scale);
    /* Not ylabel: its distance follows the tics, and would differ between the panels. */
    fputs("set label 1 ", f);
    lips_plot_quote(f, panel->y_label);
    fprintf(f, " at screen %.4f,screen %.4f center rotate by 90\n", (double)LABEL_AT / c->f->width,
            (box->top + box->bottom) / 2);
    fprintf(f, "set key at screen %.4f,screen %.4f left top\n", box->right + 8.0 / c->f->width,
            box->top);
    draw_thresholds(c);
    draw_lines(c);
    legend(c, f, top);
    fputs("\n", f);
}

/* Pixels that the longest entry of all panels takes. */
static int legend_width(const lips_canvas *c, int n)
{
    size_t longest = 0;
    for (int i = 0; i < n; i++) {
        size_t letters = legend(&c[i], NULL, i == 0);
        longest = letters > longest ? letters : longest;
    }
    int need = LEGEND_SAMPLE + LEGEND_LETTER * (int)longest;
    return need > LEGEND_LEAST ? need : LEGEND_LEAST;
}

void lips_canvas_draw(lips_canvas *c, const lips_panel *const *panel, int n)
{
    if (n == 0)
        return;
    lips_figure *f = c->f;
    f->width = LEFT + PANEL_W + legend_width(c, n);
    f->height = ABOVE + BELOW + n * PANEL_H + (n - 1) * GAP;
    for (int i = 0; i < n; i++) {
        double width = f->width, height = f->height, top = ABOVE + i * (PANEL_H + GAP);
        lips_box box = {LEFT / width, (LEFT + PANEL_W) / width, 1 - (top + PANEL_H) / height,
                        1 - top / height};
        draw_panel(&c[i], panel[i], &box, i == 0, i == n - 1);
    }
}
