/* report/claims_html.c - the table of claims, in the page and as a file. */
#include "report/claims.h"
#include "report/csv.h"
#include "report/html.h"

#include "base/file.h"

#include <inttypes.h>
#include <string.h>

/* The drawn page of the claim's figure that shows the variant; NULL: none. */
static const lips_figure *figure_of(const lips_claim_row *row, const lips_figure_list *list)
{
    size_t len = strlen(row->claim->figure);
    for (int i = 0; i < list->n; i++) {
        const lips_figure *f = &list->figure[i];
        const char *rest = f->id + len;
        if (strncmp(f->id, row->claim->figure, len) != 0 ||
            (rest[0] && !(rest[0] == '-' && strspn(rest + 1, "0123456789") == strlen(rest + 1))))
            continue;
        if (row->variant >= f->first_variant && row->variant < f->first_variant + f->n_variants)
            return f;
    }
    return NULL;
}

static void put_row(FILE *f, const lips_claim_row *row, const lips_figure_list *figures)
{
    static const char *const class[] = {"untested", "unsupported", "supported"};
    const lips_figure *fig = figure_of(row, figures);
    fprintf(f, "<tr><td>%d. ", row->number);
    lips_html_text(f, row->claim->text);
    fprintf(f, "</td><td class=\"%s\">%s</td><td>", class[row->verdict],
            lips_verdict_name(row->verdict));
    lips_html_text(f, row->numbers);
    fputs("</td><td>", f);
    lips_html_text(f, row->claim->statistic);
    fputs("</td><td>", f);
    lips_html_text(f, row->claim->rule);
    fputs("</td><td>", f);
    if (fig)
        fprintf(f, "<a href=\"#%s\">figure</a>", fig->id);
    fputs("</td></tr>\n", f);
}

static void put_intro(FILE *f, const lips_report *r)
{
    int64_t done = 0;
    for (int64_t i = 0; i < r->n_cells; i++)
        done += r->cells[i].state == LIPS_CELL_DONE && !r->cells[i].damaged;
    fprintf(f,
            "<h2 id=\"claims\">Claims</h2>\n<p class=\"files\">Verdicts are computed from the "
            "records of the %" PRId64 " finished cells by the rules in the table. A statistic is "
            "taken for each seed; [a, b] is the 95 %% interval of its mean over seeds (Student's "
            "t, so at least two seeds), followed by the seeds' range. A claim without its "
            "records, or with fewer than two seeds where its rule needs an interval, is not "
            "tested; one whose rule is not met is not supported here, which may be for want of "
            "seeds. <a href=\"claims.csv\">claims.csv</a></p>\n",
            done);
}

void lips_html_claims(FILE *f, const lips_claims *c, const lips_report *r,
                      const lips_figure_list *figures)
{
    put_intro(f, r);
    int variants = c->n / LIPS_CLAIMS, shown = variants;
    if (shown > LIPS_PAGES_MAX)
        shown = LIPS_PAGES_MAX;
    for (int v = 0; v < shown; v++) {
        if (r->variants[v].label[0]) {
            fputs("<h3>", f);
            lips_html_text(f, r->variants[v].label);
            fputs("</h3>\n", f);
        }
        fputs("<div class=\"claims\"><table><thead><tr><th>claim</th><th>verdict</th>"
              "<th>numbers</th><th>statistic</th><th>rule</th><th>figure</th></tr></thead>\n"
              "<tbody>\n",
              f);
        for (int i = 0; i < LIPS_CLAIMS; i++)
            put_row(f, &c->row[v * LIPS_CLAIMS + i], figures);
        fputs("</tbody></table></div>\n", f);
    }
    if (shown < variants)
        fprintf(f, "<p>The first %d of %d combinations; claims.csv has all.</p>\n", shown,
                variants);
}

static void csv_row(FILE *f, const lips_claim_row *row, const lips_report *r)
{
    const char *const text[] = {row->claim->id,
                                row->claim->text,
                                r->variants[row->variant].label,
                                lips_verdict_name(row->verdict),
                                row->numbers,
                                row->claim->statistic,
                                row->claim->rule,
                                row->claim->figure};
    fprintf(f, "%d", row->number);
    for (size_t i = 0; i < sizeof text / sizeof *text; i++) {
        putc(',', f);
        lips_csv_text(f, text[i]);
    }
    putc('\n', f);
}

lips_status lips_claims_csv(const lips_claims *c, const lips_report *r, const char *path)
{
    lips_file_atomic a;
    LIPS_TRY(lips_file_begin(&a, path));
    fputs("number,claim,text,variant,verdict,numbers,statistic,rule,figure\n", a.f);
    for (int i = 0; i < c->n; i++)
        csv_row(a.f, &c->row[i], r);
    return lips_file_commit(&a);
}
