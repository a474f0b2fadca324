/*
 * report/sine_fits.c - the talk's picture: truth, noisy observations and prediction by width.
 *
 * Predictions are the cells' saved weights, evaluated in float64 on a grid.
 */
#include "report/csv.h"
#include "report/figure.h"

#include "base/file.h"
#include "train/weights.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

enum {
    GRID = 400,
    SHOWN = 12,
    COLUMNS = 4,
    PANEL_W = 205,
    PANEL_H = 165,
    LEFT = 62,
    RIGHT = 14,
    ABOVE = 58,
    BELOW = 54,
    GAP_X = 14,
    GAP_Y = 34
};

#define OBSERVED "pt 7 ps 0.35 lc rgb '#808080'"
#define TRUTH "lw 1.4 dt (7,5) lc rgb '#000000'"
#define PREDICTED "lw 2 lc rgb '#d55e00'"

/* A grid in the data's units, and a network's outputs there. */
typedef struct fit {
    double x[GRID], y[GRID];
} fit;

/* y = the network's outputs at in (GRID). */
static lips_status forward(double *y, const lips_net *net, const double *params, const double *in)
{
    const lips_ops *ref = lips_backend_find("ref");
    lips_backend *be = NULL;
    lips_exec *ex = NULL;
    void *device = NULL;
    lips_tensor logits;
    lips_status st;
    LIPS_TRY_GOTO(st, ref->open(&be, 0), out);
    LIPS_TRY_GOTO(st, ref->alloc(be, &device, (size_t)lips_net_params(net) * ref->real_bytes), out);
    LIPS_TRY_GOTO(st, ref->write(be, device, 0, params, lips_net_params(net)), out);
    LIPS_TRY_GOTO(st, lips_exec_create(&ex, net, be, &(lips_exec_spec){.cap = GRID}), out);
    lips_exec_set_params(ex, device, NULL);
    lips_exec_input(ex)->b = GRID;
    LIPS_TRY_GOTO(st, ref->upload_f64(be, lips_exec_input(ex), in), out);
    LIPS_TRY_GOTO(st, lips_exec_forward(ex, false, &logits), out);
    LIPS_TRY_GOTO(st, ref->download(be, y, &logits), out);
out:
    lips_exec_free(ex);
    if (be) {
        ref->release(be, device);
        ref->close(be);
    }
    return st;
}

/* Reads the weights and fills f->y from f->x. */
static lips_status predict(fit *f, const lips_config *cfg, const lips_dataset *d,
                           const char *weights)
{
    lips_st_file *file = NULL;
    lips_net *net = NULL;
    double *params = NULL, in[GRID];
    lips_model_spec spec = lips_config_model(cfg, d);
    lips_status st;
    for (int i = 0; i < GRID; i++)
        in[i] = (f->x[i] - (double)d->mean[0]) / (double)d->std[0];
    LIPS_TRY_GOTO(st, lips_st_read(&file, weights), out);
    LIPS_TRY_GOTO(st, lips_net_create(&net, &spec), out);
    params = malloc((size_t)lips_net_params(net) * sizeof *params);
    if (!params) {
        st = lips_fail(LIPS_ERR_MEMORY, "out of memory for the weights in %s", weights);
        goto out;
    }
    LIPS_TRY_GOTO(st, lips_weights_fill(net, file, params, NULL), out);
    LIPS_TRY_GOTO(st, forward(f->y, net, params, in), out);
out:
    free(params);
    lips_net_free(net);
    lips_st_free(file);
    return st;
}

/* The weights of cell i's last epoch; false if they were not saved. */
static bool find_weights(const lips_report *r, int64_t i, char path[LIPS_PATH_MAX])
{
    const lips_report_cell *c = &r->cells[i];
    return c->state == LIPS_CELL_DONE &&
           lips_path(path, LIPS_PATH_MAX, "%s/cells/%s/epoch-%04" PRId64 ".safetensors", r->out,
                     c->name, c->epoch) == LIPS_OK &&
           lips_file_exists(path);
}

/* First finished cell of the variant at place x that has weights; -1: none. */
static int64_t cell_at(const lips_report *r, int variant, int x)
{
    char path[LIPS_PATH_MAX];
    for (int64_t i = 0; i < r->n_cells; i++)
        if (r->cells[i].x == x && r->cells[i].variant == variant && find_weights(r, i, path))
            return i;
    return -1;
}

/* At most SHOWN of the places that have weights, evenly spread; returns how many. */
static int choose_cells(const lips_report *r, int variant, int64_t shown[SHOWN])
{
    int n = 0, k = 0, out = 0;
    for (int x = 0; x < r->n_x; x++)
        n += cell_at(r, variant, x) >= 0;
    int want = n < SHOWN ? n : SHOWN;
    for (int x = 0; x < r->n_x && out < want; x++) {
        int64_t i = cell_at(r, variant, x);
        if (i < 0)
            continue;
        int due = want == 1 ? 0 : (int)lround((double)out * (n - 1) / (want - 1));
        if (k++ == due)
            shown[out++] = i;
    }
    return out;
}

static void csv_row(FILE *f, double width, const char *what, double x, double y)
{
    fprintf(f, "%.17g,%s,%.17g,", width, what, x);
    lips_csv_number(f, y);
    putc('\n', f);
}

/* Blocks of one panel: observations, then prediction. */
typedef struct sine_panel {
    int observed, predicted;
    char title[64];
} sine_panel;

static lips_status add_panel(lips_figure *f, const lips_report *r, int64_t i, sine_panel *p,
                             double *top, double *highest)
{
    lips_config cfg;
    lips_dataset *d = NULL;
    char path[LIPS_PATH_MAX];
    fit grid;
    lips_status st;
    LIPS_TRY(lips_experiment_cell(&r->experiment, i, &cfg));
    lips_data_spec spec = lips_config_data(&cfg);
    LIPS_TRY_GOTO(st, lips_dataset_load(&d, &spec), out);
    for (int k = 0; k < GRID; k++)
        grid.x[k] = cfg.sine_min + (cfg.sine_max - cfg.sine_min) * k / (GRID - 1);
    find_weights(r, i, path);
    LIPS_TRY_GOTO(st, predict(&grid, &cfg, d, path), out);
    double place = r->x[r->cells[i].x];
    snprintf(p->title, sizeof p->title, "%s %g", r->x_name, place);
    p->observed = lips_block_begin(f);
    for (int64_t k = 0; k < d->train.n; k++) {
        double x = (double)d->train.x[k] * (double)d->std[0] + (double)d->mean[0];
        double y = (double)d->train.target[k];
        fprintf(f->data, "%.8g %.8g\n", x, y);
        csv_row(f->csv, place, "observed", x, y);
        *top = fmax(*top, fabs(y));
    }
    lips_block_end(f);
    p->predicted = lips_block_begin(f);
    for (int k = 0; k < GRID; k++) {
        fprintf(f->data, "%.8g %.8g\n", grid.x[k], grid.y[k]);
        *highest = fmax(*highest, fabs(grid.y[k]));
        csv_row(f->csv, place, "predicted", grid.x[k], grid.y[k]);
        csv_row(f->csv, place, "truth", grid.x[k], sin(grid.x[k]));
    }
    lips_block_end(f);
out:
    lips_dataset_free(d);
    return st;
}

/* About three tics, at multiples of 1, 2 or 5 times a power of ten. */
static double tic_step(double range)
{
    double rough = range / 3, power = pow(10, floor(log10(rough))), share = rough / power;
    return power * (share < 1.5 ? 1 : share < 3.5 ? 2 : share < 7.5 ? 5 : 10);
}

static void draw_panel(lips_figure *f, const lips_report *r, const sine_panel *p, int k, int n,
                       double top)
{
    FILE *b = f->body;
    const lips_config *cfg = &r->experiment.base;
    double x = LEFT + k % COLUMNS * (PANEL_W + GAP_X), y = ABOVE + k / COLUMNS * (PANEL_H + GAP_Y);
    lips_box box = {x / f->width, (x + PANEL_W) / f->width, 1 - (y + PANEL_H) / f->height,
                    1 - y / f->height};
    lips_plot_panel(f, &box);
    fprintf(b, "set xrange [%.8g:%.8g]\nset yrange [%.6g:%.6g]\n", cfg->sine_min, cfg->sine_max,
            -1.1 * top, 1.1 * top);
    fprintf(b, "set samples %d\nset xtics %.6g\nunset key\n", GRID,
            tic_step(cfg->sine_max - cfg->sine_min));
    if (k + COLUMNS >= n)
        fputs("set xlabel 'x'\n", b);
    else
        fputs("set format x ''\n", b);
    if (k % COLUMNS == 0)
        fputs("set ylabel 'y' offset 1,0\n", b);
    else
        fputs("set format y ''\n", b);
    fputs("set title ", b);
    lips_plot_quote(b, p->title);
    fprintf(b,
            " noenhanced offset 0,-0.7\n"
            "plot $b%d using 1:2 with points " OBSERVED ", sin(x) with lines " TRUTH
            ", $b%d using 1:2 with lines " PREDICTED "\n",
            p->observed, p->predicted);
}

/* One legend above all panels: entries of an empty plot as wide as the page. */
static void draw_legend(lips_figure *f)
{
    const lips_box page = {0, 1, 0, 1};
    lips_plot_panel(f, &page);
    fprintf(f->body,
            "unset border\nunset tics\nset xrange [0:1]\nset yrange [0:1]\n"
            "set key at screen 0.5,screen %.4f center top horizontal samplen 2.5 width 2\n"
            "plot -1 notitle, keyentry with points " OBSERVED " title 'observations', \\\n"
            "  keyentry with lines " TRUTH " title 'ground truth sin x', \\\n"
            "  keyentry with lines " PREDICTED " title 'prediction'\n",
            1 - 6.0 / f->height);
}

lips_status lips_make_sine_fits(lips_figure *f, const lips_report *r, const void *spec)
{
    int64_t shown[SHOWN];
    sine_panel panel[SHOWN];
    double top = 1, highest = 0;
    (void)spec;
    if (r->experiment.base.data != LIPS_DATA_SINE)
        return LIPS_OK;
    int n = choose_cells(r, f->first_variant, shown);
    if (n == 0)
        return LIPS_OK;
    fprintf(f->csv, "%s,what,x,y\n", r->x_name);
    for (int k = 0; k < n; k++)
        LIPS_TRY(add_panel(f, r, shown[k], &panel[k], &top, &highest));
    /* Predictions are shown whole, unless one runs far away from all data. */
    top = fmax(top, fmin(highest, 1.5 * top));
    int columns = n < COLUMNS ? n : COLUMNS, rows = (n + COLUMNS - 1) / COLUMNS;
    f->drawn = true;
    f->width = LEFT + columns * PANEL_W + (columns - 1) * GAP_X + RIGHT;
    /* The legend needs its room even over a single panel. */
    f->width = f->width < 460 ? 460 : f->width;
    f->height = ABOVE + rows * PANEL_H + (rows - 1) * GAP_Y + BELOW;
    for (int k = 0; k < n; k++)
        draw_panel(f, r, &panel[k], k, n, top);
    draw_legend(f);
    return LIPS_OK;
}
