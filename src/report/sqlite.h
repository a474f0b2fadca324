/* report/sqlite.h - OUT/results.sqlite: tables `cells` (settings and state) and `records`. */
#ifndef LIPS_REPORT_SQLITE_H
#define LIPS_REPORT_SQLITE_H

#include "report/model.h"

lips_status lips_report_sqlite(const lips_report *r);

#endif
