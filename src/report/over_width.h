/* report/over_width.h - between the numbers of a figure over the width and their drawing. */
#ifndef LIPS_REPORT_OVER_WIDTH_H
#define LIPS_REPORT_OVER_WIDTH_H

#include "report/figure.h"

enum { LIPS_DRAWN_MAX = 64 };

/* One line to be drawn. */
typedef struct lips_drawn {
    char label[300]; /* of the curve */
    int stats, dots; /* blocks */
    unsigned colour;
    int curve, variant; /* numbers within panel and page */
    int look, dashes;   /* numbers of its colour and point, and of its dashes */
    int point;
    bool spread; /* some place has two replicates */
} lips_drawn;

typedef struct lips_canvas {
    lips_figure *f;
    const lips_report *r;
    lips_drawn line[LIPS_DRAWN_MAX];
    int n;
    lips_range range;
    bool never; /* some place has a replicate without a number */
    int never_block;
    int64_t n_least, n_most; /* samples behind the means that are drawn; 0: they are no means */
} lips_canvas;

/* Sets the figure's size and writes the commands for n panels, one above the other. */
void lips_canvas_draw(lips_canvas *c, const lips_panel *const *panel, int n);

#endif
