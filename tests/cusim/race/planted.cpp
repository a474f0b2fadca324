/*
 * usage: planted NAME good|bad: runs a planted kernel (../planted.h) under the race detector, whose
 * report and exit code are TSan's. `planted list` prints the names of those that race when bad.
 */
#include "../planted.h"

#include <stdlib.h>
#include <vector>

using namespace planted;

static const Case CASES[] = {
    PLANTED(missing_barrier, 1, 0),
    PLANTED(write_after_read, 1, 0),
    PLANTED(reused_scratch, 1, N * sizeof(float)),
    PLANTED(missing_syncwarp, 1, 0),
    PLANTED(two_writers, 1, 0),
    PLANTED(blocks_overwrite, 2, 0),
    PLANTED(shuffle_for_syncwarp, 1, 0),
    PLANTED(copy_over_readers, 1, 0),
    PLANTED(copies_unseen, 1, 0),
};

static void run(const Case &c, bool good)
{
    std::vector<float> host(N, 1.0f);
    float *x = nullptr, *y = nullptr;
    cudaMalloc((void **)&x, N * sizeof(float));
    cudaMalloc((void **)&y, N * sizeof(float));
    cudaMemcpy(x, host.data(), N * sizeof(float), cudaMemcpyHostToDevice);
    c.run(good, x, y, nullptr);
    cudaDeviceSynchronize();
    cudaFree(x);
    cudaFree(y);
}

int main(int argc, char **argv)
{
    for (const Case &c : CASES) {
        if (argc == 2)
            puts(c.name);
        else if (argc == 3 && strcmp(argv[1], c.name) == 0)
            return run(c, strcmp(argv[2], "good") == 0), 0;
    }
    return argc == 2 ? 0 : 2;
}
