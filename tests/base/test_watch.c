/* What a thread waits for, as another one sees it. */
#include "../lib/cmocka_all.h"
#include "base/watch.h"

#include <time.h>

static void test_a_wait_is_seen(void **state)
{
    (void)state;
    lips_watch w = {0}, seen;
    int stream;
    lips_watch_begin("nobody watches", 1, NULL);
    lips_watch_use(&w);
    assert_true(lips_watch_read(&w, &seen) == 0);
    lips_watch_at(3, 17);
    lips_watch_begin("a call", 2, &stream);
    nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    assert_true(lips_watch_read(&w, &seen) >= 0.002);
    assert_string_equal(seen.call, "a call");
    assert_ptr_equal(seen.stream, &stream);
    assert_true(seen.device == 2 && seen.epoch == 3 && seen.step == 17);
    lips_watch_end();
    assert_true(lips_watch_read(&w, &seen) == 0);
    lips_watch_use(NULL);
    lips_watch_begin("nobody watches", 1, NULL);
    assert_true(lips_watch_read(&w, &seen) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_a_wait_is_seen)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
