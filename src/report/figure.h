/*
 * report/figure.h - one figure: its numbers, its gnuplot script, its files.
 *
 * A row of the table in figure_table.c names a figure and the function that makes it. The function
 * gets a page (a range of variants), writes data blocks, plot commands and tidy CSV into the
 * figure, and says through `drawn` whether there was anything to draw. render.c turns it into
 * ID.gp, .csv, .svg, .pdf and .png.
 */
#ifndef LIPS_REPORT_FIGURE_H
#define LIPS_REPORT_FIGURE_H

#include "report/stats.h"

#include <stdio.h>

typedef struct lips_figure {
    char id[64]; /* file name without ending */
    char title[300];
    char caption[1500];            /* plain text */
    int width, height;             /* pixels of the SVG */
    bool drawn;                    /* there is something in it */
    bool rendered;                 /* gnuplot made all its files */
    int first_variant, n_variants; /* the page */

    FILE *data, *body, *csv; /* being written; closed by lips_figure_finish */
    char *data_text, *body_text, *csv_text;
    size_t data_size, body_size, csv_size;
    int blocks;
} lips_figure;

typedef enum lips_paging {
    LIPS_PAGE_ONCE,    /* one figure for all variants */
    LIPS_PAGE_CHUNKS,  /* one figure for up to LIPS_CHUNK variants */
    LIPS_PAGE_VARIANTS /* one figure per variant */
} lips_paging;

enum { LIPS_CHUNK = 6, LIPS_PAGES_MAX = 12 };

typedef struct lips_figure_row {
    const char *id, *title, *caption;
    lips_paging paging;
    lips_status (*make)(lips_figure *f, const lips_report *r, const void *spec);
    const void *spec; /* what make needs to know, by its own kind */
} lips_figure_row;

/* The table, in the page's order; the first is the headline. */
extern const lips_figure_row lips_figure_rows[];
extern const int lips_figure_count;

typedef struct lips_figure_list {
    lips_figure *figure;
    int n, cap;
    const char **missing; /* titles of rows that had nothing to draw */
    int n_missing;
} lips_figure_list;

/* Makes and renders all, into dir (OUT/report). */
lips_status lips_figures_build(lips_figure_list *list, lips_report *r, const char *dir);
void lips_figures_free(lips_figure_list *list);

/* ---- for make functions (plot.c) ---- */

/* Opens the next data block; its number n is $bN in the script. Write lines to f->data, then end.
 */
int lips_block_begin(lips_figure *f);
void lips_block_end(lips_figure *f);
/* text as a gnuplot string, in single quotes: nothing in it is expanded. */
void lips_plot_quote(FILE *out, const char *text);
/* A panel's place on the page, in shares of it, from below and from the left. */
typedef struct lips_box {
    double left, right, bottom, top;
} lips_box;
/* Forgets the last panel's settings and sets the common ones. */
void lips_plot_panel(lips_figure *f, const lips_box *box);

typedef struct lips_range {
    double lo, hi; /* of the finite numbers seen; lo > hi: none */
    double lo_positive;
    bool seen_zero; /* a number <= 0 was seen */
} lips_range;
lips_range lips_range_empty(void);
void lips_range_add(lips_range *range, double v);
bool lips_range_is_empty(const lips_range *range);
typedef enum lips_scale { LIPS_SCALE_AUTO, LIPS_SCALE_LINEAR, LIPS_SCALE_LOG } lips_scale;
/* Sets range, scale and number format of the y axis; linear axes start at 0. Returns whether it is
 * logarithmic. */
bool lips_plot_y(lips_figure *f, const lips_range *range, lips_scale scale);
/* The same for the axis of widths (or whatever is swept): labelled only where asked. */
void lips_plot_x(lips_figure *f, const lips_report *r, bool labelled);
const char *lips_plot_x_label(const lips_report *r);
/* Epochs, logarithmic, with epoch 0 drawn at 1/2 under the label 0. */
void lips_plot_epochs(lips_figure *f, double last, bool labelled);
double lips_plot_epoch_place(int64_t epoch);

/* Numbers as colours, dark to light, from lo to hi; label: what the scale shows at bar is called,
 * bar NULL: no scale. */
void lips_plot_palette(lips_figure *f, double lo, double hi, bool logarithmic, const char *label,
                       const lips_box *bar);
/* The same for the widths, or whatever is swept. */
void lips_plot_palette_x(lips_figure *f, const lips_report *r, const lips_box *bar);

/* "#0072b2": colours that remain apart for colour-blind readers (Okabe and Ito 2008). */
unsigned lips_colour(int i);
int lips_point_type(int i);

/* ---- render.c ---- */

typedef struct lips_gnuplot {
    bool missing; /* there is no gnuplot */
} lips_gnuplot;
/* Writes f's files into dir. A gnuplot that fails or complains becomes a warning of r. */
lips_status lips_figure_render(lips_figure *f, lips_report *r, const char *dir, lips_gnuplot *g);

/* ---- make functions ---- */

lips_status lips_make_over_width(lips_figure *f, const lips_report *r, const void *spec);
lips_status lips_make_over_epochs(lips_figure *f, const lips_report *r, const void *spec);
lips_status lips_make_over_depth(lips_figure *f, const lips_report *r, const void *spec);
lips_status lips_make_maps(lips_figure *f, const lips_report *r, const void *spec);
lips_status lips_make_sine_fits(lips_figure *f, const lips_report *r, const void *spec);

/* A curve over the width: mean and range over replicates. */
typedef struct lips_curve {
    const char *label;
    lips_pick pick;
    bool per_layer; /* one curve for each layer that has records; label: what follows its name */
    int dashed;     /* 0: a full line */
} lips_curve;

enum { LIPS_CURVES_MAX = 6, LIPS_PANELS_MAX = 4 };

typedef struct lips_panel {
    const char *y_label;
    lips_scale scale;
    lips_curve curve[LIPS_CURVES_MAX];
    int n;
    const struct lips_panel *otherwise; /* drawn in its place if there are no records */
    int first_colour;                   /* of its curves */
    int context;                        /* so many of the first curves are no panel by themselves */
    bool never_marks; /* marks, at the top, places where some replicates have a null */
} lips_panel;

typedef struct lips_panels {
    lips_panel panel[LIPS_PANELS_MAX];
    int n, columns; /* columns: over epochs only */
} lips_panels;

#endif
