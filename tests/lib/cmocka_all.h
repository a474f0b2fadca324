/* cmocka.h wants these before it. */
#ifndef LIPS_TESTS_CMOCKA_ALL_H
#define LIPS_TESTS_CMOCKA_ALL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
