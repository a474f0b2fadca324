/* report/html.c - the page: head, warnings, figures. Tables are in html_tables.c. */
#include "report/html.h"

#include "base/file.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const size_t svg_max = (size_t)256 << 20;

void lips_html_text(FILE *f, const char *text)
{
    for (; *text; text++) {
        switch (*text) {
        case '&': fputs("&amp;", f); break;
        case '<': fputs("&lt;", f); break;
        case '>': fputs("&gt;", f); break;
        case '"': fputs("&quot;", f); break;
        default: putc((unsigned char)*text < 0x20 && *text != '\n' ? ' ' : *text, f);
        }
    }
}

static const char style[] =
    ":root{color-scheme:light}"
    "body{font:16px/1.5 system-ui,'DejaVu "
    "Sans',Helvetica,Arial,sans-serif;color:#222;background:#fff;"
    "max-width:1040px;margin:0 auto;padding:1.5rem}"
    "h1{font-size:1.6rem;margin:0 0 .3rem}h2{font-size:1.2rem;margin:2.2rem 0 .4rem}"
    "figure{margin:0}figure svg{width:100%;height:auto;display:block}"
    "figcaption{font-size:.88rem;color:#444;max-width:56rem;margin:.4rem 0}"
    ".files{font-size:.85rem}.files a{margin-right:.9rem}"
    ".warnings{border-left:4px solid #d55e00;background:#fdf3ec;padding:.6rem 1rem;margin:1rem 0}"
    ".warnings ul{margin:.2rem 0;padding-left:1.2rem}.fine{border-color:#009e73;background:#eef8f4}"
    "nav{font-size:.9rem;margin:1rem 0}nav a{margin-right:1rem;white-space:nowrap}"
    ".scroll{overflow:auto;max-height:32rem;border:1px solid #ddd}"
    "table{border-collapse:collapse;font-size:.82rem;font-variant-numeric:tabular-nums}"
    "th{position:sticky;top:0;background:#f4f4f4;text-align:left}"
    "th,td{padding:.2rem .6rem;border-bottom:1px solid #eee;white-space:nowrap}"
    "td.n{text-align:right}tr.failed td{background:#fdf3ec}tr.unfinished td{color:#777}"
    ".claims td{white-space:normal;vertical-align:top;min-width:5.5rem}"
    "h3{font-size:1rem;margin:1rem 0 .3rem}td.supported{background:#eef8f4;font-weight:600}"
    "td.unsupported{background:#fdf3ec;font-weight:600}td.untested{color:#777}"
    "pre{background:#f6f6f6;padding:.8rem;overflow:auto;font-size:.82rem}dt{font-weight:600}"
    "dd{margin:0 0 .5rem;overflow-wrap:anywhere}";

static const char *title_of(const lips_report *r)
{
    return r->experiment.base.name[0] ? r->experiment.base.name : "Sweep";
}

static void put_head(FILE *f, const lips_report *r)
{
    int64_t state[3] = {0};
    for (int64_t i = 0; i < r->n_cells; i++)
        state[r->cells[i].state]++;
    fputs("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
          "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>",
          f);
    lips_html_text(f, title_of(r));
    fprintf(f, "</title>\n<style>%s</style></head><body>\n<h1>", style);
    lips_html_text(f, title_of(r));
    fprintf(f,
            "</h1>\n<p>%" PRId64 " %s: %" PRId64 " done, %" PRId64 " failed, %" PRId64
            " unfinished; %" PRId64 " records.</p>\n",
            r->n_cells, r->n_cells == 1 ? "cell" : "cells", state[LIPS_CELL_DONE],
            state[LIPS_CELL_FAILED], state[LIPS_CELL_WAITING], r->n_records);
}

static void put_warnings(FILE *f, const lips_report *r)
{
    if (r->warnings.n == 0) {
        fputs("<div class=\"warnings fine\">No warnings: every cell ended, every number is finite."
              "</div>\n",
              f);
        return;
    }
    fprintf(f, "<div class=\"warnings\"><strong>%d warning%s</strong>\n<ul>\n", r->warnings.n,
            r->warnings.n > 1 ? "s" : "");
    for (int i = 0; i < r->warnings.n; i++) {
        fputs("<li>", f);
        lips_html_text(f, r->warnings.text[i]);
        fputs("</li>\n", f);
    }
    fputs("</ul></div>\n", f);
}

static void put_links(FILE *f, const lips_figure_list *list, const lips_claims *claims)
{
    fputs("<nav>", f);
    for (int i = 0; i < list->n; i++) {
        fprintf(f, "<a href=\"#%s\">", list->figure[i].id);
        lips_html_text(f, list->figure[i].title);
        fputs("</a> ", f);
    }
    fputs("<a href=\"#cells\">Cells</a> <a href=\"#provenance\">Provenance</a>", f);
    fputs(claims->n > 0 ? " <a href=\"#claims\">Claims</a></nav>\n" : "</nav>\n", f);
}

/* The drawing itself, from its <svg> on: the rest is a prologue for a file of its own. */
static lips_status put_svg(FILE *f, const lips_figure *fig, const char *dir)
{
    char path[LIPS_PATH_MAX], *text = NULL;
    size_t size = 0;
    LIPS_TRY(lips_path(path, sizeof path, "%s/%s.svg", dir, fig->id));
    LIPS_TRY(lips_file_read(&text, &size, path, svg_max));
    const char *svg = strstr(text, "<svg");
    if (svg)
        fwrite(svg, 1, size - (size_t)(svg - text), f);
    free(text);
    return svg ? LIPS_OK : lips_fail(LIPS_ERR_RUNTIME, "%s: gnuplot wrote no drawing", path);
}

static lips_status put_figures(FILE *f, const lips_figure_list *list, const char *dir)
{
    static const char *const files[] = {"svg", "pdf", "png", "csv", "gp"};
    for (int i = 0; i < list->n; i++) {
        const lips_figure *fig = &list->figure[i];
        fprintf(f, "<h2 id=\"%s\">", fig->id);
        lips_html_text(f, fig->title);
        fputs("</h2>\n<figure>\n", f);
        if (fig->rendered) {
            /* As wide as the page; a narrow one's letters are not to become large with it. */
            fprintf(f, "<div style=\"max-width:%dpx\">", fig->width * 6 / 5);
            LIPS_TRY(put_svg(f, fig, dir));
            fputs("</div>\n", f);
        } else
            fputs("<p>Not drawn; see the warnings. Its numbers are in the CSV file.</p>", f);
        fputs("<figcaption>", f);
        lips_html_text(f, fig->caption);
        fputs("</figcaption></figure>\n<p class=\"files\">", f);
        for (int k = fig->rendered ? 0 : 3; k < 5; k++)
            fprintf(f, "<a href=\"%s.%s\">%s</a>", fig->id, files[k], files[k]);
        fputs("</p>\n", f);
    }
    if (list->n_missing > 0) {
        fputs("<p class=\"files\">Without figure, for want of records: ", f);
        for (int i = 0; i < list->n_missing; i++) {
            fputs(i ? "; " : "", f);
            lips_html_text(f, list->missing[i]);
        }
        fputs(".</p>\n", f);
    }
    return LIPS_OK;
}

static lips_status put_page(FILE *f, const lips_report *r, const lips_figure_list *figures,
                            const lips_claims *claims, const char *dir)
{
    put_head(f, r);
    put_warnings(f, r);
    put_links(f, figures, claims);
    LIPS_TRY(put_figures(f, figures, dir));
    lips_html_cells(f, r);
    LIPS_TRY(lips_html_provenance(f, r));
    if (claims->n > 0)
        lips_html_claims(f, claims, r, figures);
    fputs("</body></html>\n", f);
    return LIPS_OK;
}

lips_status lips_report_html(const lips_report *r, const lips_figure_list *figures,
                             const lips_claims *claims, const char *dir, const char *path)
{
    lips_file_atomic a;
    LIPS_TRY(lips_file_begin(&a, path));
    lips_status st = put_page(a.f, r, figures, claims, dir);
    if (st != LIPS_OK) {
        lips_file_abandon(&a);
        return st;
    }
    return lips_file_commit(&a);
}
