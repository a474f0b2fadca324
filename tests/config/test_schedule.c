/* Schedules, and the nearest known name. */
#include "base/nearest.h"
#include "config/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* The epochs 0..epochs in which the schedule fires, as text. */
static void assert_epochs(const char *schedule, int64_t epochs, const char *expected)
{
    lips_schedule s;
    char text[4096] = "";
    snprintf(s.text, sizeof s.text, "%s", schedule);
    assert_true(lips_schedule_valid(schedule));
    for (int64_t e = 0; e <= epochs; e++)
        if (lips_schedule_has(&s, e, epochs, e == epochs))
            snprintf(text + strlen(text), sizeof text - strlen(text), "%s%lld", text[0] ? " " : "",
                     (long long)e);
    if (strcmp(text, expected) != 0)
        fail_msg("%s of %lld: %s", schedule, (long long)epochs, text);
}

static void test_epochs(void **state)
{
    (void)state;
    assert_epochs("end", 5, "5");
    assert_epochs("none", 5, "");
    assert_epochs("0", 5, "0");
    assert_epochs("0,2,9", 5, "0 2");
    assert_epochs("3,end", 5, "3 5");
    assert_epochs("every:2", 5, "0 2 4 5");
    assert_epochs("every:1", 3, "0 1 2 3");
    assert_epochs("every:100", 3, "0 3");
    assert_epochs("log:1", 100, "0 100");
    assert_epochs("log:2", 100, "0 1 100");
    assert_epochs("log:3", 100, "0 1 10 100");
    assert_epochs("log:5", 16, "0 1 2 4 8 16");
    assert_epochs("log:1000", 12, "0 1 2 3 4 5 6 7 8 9 10 11 12");
    assert_epochs("log", 4, "0 1 2 3 4");
    assert_epochs("log", 1, "0 1");
    assert_epochs("log", 0, "0");
    assert_epochs("end", 0, "0");
}

/* Against the definition: the set of rounded points, each epoch asked for on its own. */
static void test_log_is_the_set_of_points(void **state)
{
    (void)state;
    for (int n = 2; n < 60; n++) {
        lips_schedule s;
        snprintf(s.text, sizeof s.text, "log:%d", n);
        int fired = 0;
        for (int64_t e = 0; e <= 300; e++)
            fired += lips_schedule_has(&s, e, 300, e == 300);
        assert_true(fired >= 3 && fired <= n + 1);
        if (n <= 5)
            assert_int_equal(fired, n + 1);
        assert_true(lips_schedule_has(&s, 0, 300, false));
        assert_true(lips_schedule_has(&s, 1, 300, false));
        assert_true(lips_schedule_has(&s, 300, 300, false));
        assert_true(lips_schedule_has(&s, 123, 300, true)); /* an early stop */
    }
}

static void test_invalid(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",       "log:",    "log:0",    "log:-1", "log:1.5",     "log:99999999",
        "every:", "every:0", "every:2x", "1,",     ",1",          "1,,2",
        "a",      "end,x",   "-1",       "1.5",    "12345678901", "log:3,5",
        "End"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (lips_schedule_valid(bad[i]))
            fail_msg("'%s' is valid", bad[i]);
}

static void assert_nearest(const char *word, const char *expected)
{
    static const char *const names[] = {"width", "depth", "seed", "lr", "data_seed", "noise_seed"};
    const char *found = lips_nearest(word, names, 6);
    if (!expected)
        assert_null(found);
    else
        assert_string_equal(found ? found : "none", expected);
}

static void test_nearest(void **state)
{
    (void)state;
    assert_nearest("widht", "width");
    assert_nearest("Width", "width");
    assert_nearest("wdth", "width");
    assert_nearest("widths", "width");
    assert_nearest("data-sead", "data_seed");
    assert_nearest("rl", "lr");
    assert_nearest("sed", "seed");
    assert_nearest("temperature", NULL);
    assert_nearest("", NULL);
    assert_nearest("xy", NULL);
    char big[200];
    memset(big, 'w', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    assert_nearest(big, NULL);
}

static void test_quote(void **state)
{
    (void)state;
    char buf[LIPS_QUOTE_MAX];
    assert_string_equal(lips_quote(buf, "a\n\tb"), "'a??b'");
    char big[100] = "";
    for (int i = 0; i < 33; i++)
        strcat(big, "\xC3\xA5");
    lips_quote(buf, big);
    assert_true(strlen(buf) < LIPS_QUOTE_MAX && strcmp(buf + strlen(buf) - 4, "...'") == 0);
    assert_true(((unsigned char)buf[strlen(buf) - 5] & 0xC0) == 0x80); /* a whole character */
    assert_int_equal((strlen(buf) - 5) % 2, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_epochs),  cmocka_unit_test(test_log_is_the_set_of_points),
        cmocka_unit_test(test_invalid), cmocka_unit_test(test_nearest),
        cmocka_unit_test(test_quote),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
