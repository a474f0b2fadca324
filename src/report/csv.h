/* report/csv.h - comma-separated tables as in RFC 4180, with '\n' at line ends. */
#ifndef LIPS_REPORT_CSV_H
#define LIPS_REPORT_CSV_H

#include "report/model.h"

/* One field, quoted if need be; NULL is empty. */
void lips_csv_text(FILE *f, const char *text);
/* 17 significant digits; "nan", "inf", "-inf". */
void lips_csv_number(FILE *f, double v);

/* OUT/results.csv: one line per record. */
lips_status lips_report_csv(const lips_report *r);

#endif
