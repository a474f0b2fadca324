/* report/html.h - OUT/report/index.html: one file that needs nothing else. */
#ifndef LIPS_REPORT_HTML_H
#define LIPS_REPORT_HTML_H

#include "report/claims.h"
#include "report/figure.h"

lips_status lips_report_html(const lips_report *r, const lips_figure_list *figures,
                             const lips_claims *claims, const char *dir, const char *path);

/* Text with the characters that HTML gives a meaning to replaced. */
void lips_html_text(FILE *f, const char *text);
void lips_html_cells(FILE *f, const lips_report *r);
lips_status lips_html_provenance(FILE *f, const lips_report *r);

#endif
