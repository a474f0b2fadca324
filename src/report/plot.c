/* report/plot.c - what figures share: blocks of numbers, panels, axes, colours. */
#include "report/figure.h"

#include <math.h>
#include <string.h>

unsigned lips_colour(int i)
{
    static const unsigned okabe_ito[] = {0x0072b2, 0xd55e00, 0x009e73, 0xcc79a7,
                                         0xe69f00, 0x56b4e9, 0x000000};
    return okabe_ito[i % (int)(sizeof okabe_ito / sizeof okabe_ito[0])];
}

int lips_point_type(int i)
{
    static const int filled[] = {7, 5, 9, 13, 11, 15}; /* gnuplot's numbers: circle, square, ... */
    return filled[i % (int)(sizeof filled / sizeof filled[0])];
}

int lips_block_begin(lips_figure *f)
{
    fprintf(f->data, "$b%d << EOD\n", f->blocks);
    return f->blocks++;
}

void lips_block_end(lips_figure *f)
{
    fputs("EOD\n", f->data);
}

void lips_plot_quote(FILE *out, const char *text)
{
    putc('\'', out);
    for (; *text; text++) {
        if (*text == '\'')
            putc('\'', out);
        putc((unsigned char)*text < 0x20 ? ' ' : *text, out);
    }
    putc('\'', out);
}

void lips_plot_panel(lips_figure *f, const lips_box *box)
{
    fprintf(f->body,
            "reset\n"
            "set encoding utf8\n"
            "set border 3 lc rgb '#555555'\n"
            "set tics nomirror out scale 0.6 textcolor rgb '#222222'\n"
            "set grid lc rgb '#e4e4e4' lt 1 lw 0.7\n"
            "set lmargin at screen %.4f\nset rmargin at screen %.4f\n"
            "set bmargin at screen %.4f\nset tmargin at screen %.4f\n"
            "set key Left reverse samplen 2.2 spacing 1.15 noenhanced\n",
            box->left, box->right, box->bottom, box->top);
}

lips_range lips_range_empty(void)
{
    return (lips_range){.lo = INFINITY, .hi = -INFINITY, .lo_positive = INFINITY};
}

void lips_range_add(lips_range *range, double v)
{
    if (!isfinite(v))
        return;
    range->lo = v < range->lo ? v : range->lo;
    range->hi = v > range->hi ? v : range->hi;
    if (v > 0)
        range->lo_positive = v < range->lo_positive ? v : range->lo_positive;
    else
        range->seen_zero = true;
}

bool lips_range_is_empty(const lips_range *range)
{
    return range->lo > range->hi;
}

bool lips_plot_y(lips_figure *f, const lips_range *range, lips_scale scale)
{
    double lo = range->lo_positive, hi = range->hi;
    /* What falls below a twentieth of the axis could not be told apart on a linear one. */
    bool logarithmic = scale != LIPS_SCALE_LINEAR && hi > 0 && isfinite(lo) && hi > lo &&
                       (scale == LIPS_SCALE_LOG || (!range->seen_zero && hi > 20 * lo));
    if (logarithmic) {
        fprintf(f->body, "set logscale y\nset yrange [%.6g:%.6g]\n", lo / 1.25, hi * 1.25);
        fprintf(f->body, "set format y '%s'\n", lo < 1e-3 || hi >= 1e5 ? "10^{%L}" : "%g");
        if (hi < 30 * lo) /* a decade or so: the powers of ten alone would be too few */
            fputs("set ytics add (0.02,0.05,0.2,0.5,2,5,20,50,200,500,2000,5000)\n", f->body);
    } else {
        double bottom = range->lo < 0 ? range->lo * 1.06 : 0;
        double top = hi > 0 ? hi * 1.06 : 0;
        if (!(top > bottom))
            top = bottom + 1; /* all numbers are 0 */
        fprintf(f->body, "set yrange [%.6g:%.6g]\nset format y '%%g'\n", bottom, top);
    }
    return logarithmic;
}

const char *lips_plot_x_label(const lips_report *r)
{
    if (strcmp(r->x_name, "width") != 0)
        return r->x_name;
    if (strcmp(r->experiment.base.model, "mlp") == 0)
        return "width (units per hidden layer)";
    if (strcmp(r->experiment.base.model, "convnet") == 0 ||
        strcmp(r->experiment.base.model, "resnet18") == 0)
        return "width (channels of the first convolution)";
    if (strcmp(r->experiment.base.model, "vit") == 0)
        return "width (of the embedding)";
    return "width";
}

void lips_plot_x(lips_figure *f, const lips_report *r, bool labelled)
{
    double lo = r->x[0], hi = r->x[r->n_x - 1];
    if (r->x_log) {
        double room = lo < hi ? pow(hi / lo, 0.03) : 2;
        fprintf(f->body, "set logscale x 2\nset xrange [%.6g:%.6g]\n", lo / room, hi * room);
    } else {
        double room = lo < hi ? 0.03 * (hi - lo) : 1;
        fprintf(f->body, "set xrange [%.6g:%.6g]\n", lo - room, hi + room);
    }
    if (!labelled) {
        fputs("set format x ''\n", f->body);
        return;
    }
    fputs("set format x '%g'\nset xlabel ", f->body);
    lips_plot_quote(f->body, lips_plot_x_label(r));
    fputs(" noenhanced\n", f->body);
}

double lips_plot_epoch_place(int64_t epoch)
{
    return epoch > 0 ? (double)epoch : 0.5;
}

void lips_plot_epochs(lips_figure *f, double last, bool labelled)
{
    /* Minor tics would number the place of epoch 0 as if it were a half. */
    fprintf(f->body, "set logscale x\nunset mxtics\nset xrange [0.45:%.6g]\n",
            last > 1 ? last * 1.08 : 2.0);
    if (labelled)
        fputs("set format x '%g'\nset xtics add ('0' 0.5)\nset xlabel 'epoch'\n", f->body);
    else
        fputs("set format x ''\nset xtics add ('' 0.5)\n", f->body);
}

/* Viridis without its palest end: rising in lightness. */
void lips_plot_palette(lips_figure *f, double lo, double hi, bool logarithmic, const char *label,
                       const lips_box *bar)
{
    FILE *out = f->body;
    fputs("set palette defined (0 '#440154', 1 '#472d7b', 2 '#3b528b', 3 '#2c728e', 4 '#21918c', "
          "5 '#28ae80', 6 '#5ec962', 7 '#aadc32')\n",
          out);
    fprintf(out, "%s\nset cbrange [%.6g:%.6g]\n",
            logarithmic ? "set logscale cb" : "unset logscale cb", lo, hi > lo ? hi : lo + 1);
    if (!bar || !(hi > lo)) {
        fputs("unset colorbox\n", out);
        return;
    }
    fprintf(out,
            "set colorbox vertical user origin %.4f,%.4f size %.4f,%.4f\n"
            "set format cb '%%g'\nset cblabel ",
            bar->left, bar->bottom, bar->right - bar->left, bar->top - bar->bottom);
    lips_plot_quote(out, label);
    fputs(" noenhanced offset 0.5,0\n", out);
}

void lips_plot_palette_x(lips_figure *f, const lips_report *r, const lips_box *bar)
{
    lips_plot_palette(f, r->x[0], r->x[r->n_x - 1], r->x_log, r->x_name, bar);
    if (r->x_log)
        fputs("set logscale cb 2\n", f->body);
}
